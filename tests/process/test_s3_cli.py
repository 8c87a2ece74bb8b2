"""The AWS CLI against a real server, in both of its versions: `s3 cp`, `ls`, `sync`, `rm` as people type them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lacking import lack
from tests.process.conftest import LIMIT_S, Serve
from tests.process.test_s3 import MIB, create_credential

pytestmark = pytest.mark.process

# What resolvers of desktops do, and those of small containers do not: s3.localhost is this machine. Python runs it when it starts.
SITE = """
import socket
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **named)
"""


def find_version_2() -> str:
    """The path of an AWS CLI of version 2, which no package of Python's is. In CI its absence is a failure."""
    for place in os.get_exec_path():
        path = shutil.which("aws", path=place)
        if path is not None and b"aws-cli/2." in subprocess.run([path, "--version"], capture_output=True, check=False).stdout:
            break
    else:
        lack("the AWS CLI of version 2 (apt-get install awscli) is not installed")
    return path


@pytest.fixture(params=[1, 2])
def aws(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[Callable[..., str]]:
    program = [sys.executable, "-m", "awscli"] if request.param == 1 else [find_version_2()]
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    with serve(Path(__file__).with_name("buckets"), tmp_path / "data") as server:
        credential = create_credential(server)
        endpoint = f"http://s3.localhost:{server.port}"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": credential["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": credential["secret_access_key"],
            "AWS_DEFAULT_REGION": "auto",
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "PYTHONPATH": str(site),
        }
        if request.param == 2:  # it reads the variable from 2.13 on
            program += ["--endpoint-url", endpoint]

        def run(*arguments: str | Path, code: int = 0) -> str:
            command = [*program, *map(str, arguments)]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout + done.stderr

        yield run


def test_files_go_there_and_back(aws: Callable[..., str], tmp_path: Path) -> None:
    """Single ones and trees, large ones in parts; what is deleted here is deleted there, if so asked."""
    site = tmp_path / "site"
    (site / "deep" / "er").mkdir(parents=True)
    files = {"index.html": b"<p>", "deep/er/a b ü.txt": b"text", "empty": b"", "large": os.urandom(20 * MIB)}
    for name, data in files.items():
        (site / name).write_bytes(data)
    aws("s3", "cp", site / "index.html", "s3://files/page.html", "--content-type", "text/html")
    assert "page.html" in aws("s3", "ls", "s3://files")
    aws("s3", "sync", site, "s3://files/site")
    assert aws("s3", "sync", site, "s3://files/site") == ""
    assert "PRE site/" in aws("s3", "ls", "s3://files/")
    listed = aws("s3", "ls", "--recursive", "s3://files/site")
    assert all(f"site/{name}" in listed for name in files)
    aws("s3", "cp", "s3://files/site/large", "s3://copies/large")
    aws("s3", "mv", "s3://files/site/empty", "s3://copies/empty")
    aws("s3", "sync", "s3://files/site", tmp_path / "back")
    found = [path for path in (tmp_path / "back").rglob("*") if path.is_file()]
    back = {str(path.relative_to(tmp_path / "back")): path.read_bytes() for path in found}
    assert back == {name: data for name, data in files.items() if name != "empty"}
    (site / "index.html").unlink()
    aws("s3", "sync", "--delete", site, "s3://files/site")
    assert "index.html" not in aws("s3", "ls", "--recursive", "s3://files/site")
    aws("s3", "rm", "--recursive", "s3://files/site")
    assert "site" not in aws("s3", "ls", "s3://files/")
    assert "files" in aws("s3", "ls") and "404" in aws("s3", "cp", "s3://files/none", tmp_path / "none", code=1)
