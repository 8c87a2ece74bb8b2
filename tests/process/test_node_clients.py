"""The clients that npm has, unchanged, against a real server: node runs tests/clients, all files side by side."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lacking import lack
from tests.process.conftest import environment

pytestmark = pytest.mark.process

CLIENTS = Path(__file__).parents[1] / "clients"
INSTALLED = CLIENTS / "node_modules" / ".package-lock.json"  # npm writes it last
NODE_MIN = 20
LIMIT_S = 300.0  # most of it is the idle minute of idle.test.mjs, beside which the others run
TEST_LIMIT_MS = 200_000
FILES_AT_ONCE = 8


def lacking() -> str | None:
    """Why the clients cannot run here, None if they can."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) < NODE_MIN:
        return f"node {version.strip()} is too old: partysocket needs {NODE_MIN}"
    if not INSTALLED.exists() or INSTALLED.stat().st_mtime < (CLIENTS / "package-lock.json").stat().st_mtime:
        return "npm packages are missing or old (run `npm ci` in tests/clients, or `make test`)"
    return None


def node_tests() -> tuple[int, str]:
    """Run them all, and whatever they start in a process group of its own, which is ended with them."""
    flags = ["--test", f"--test-concurrency={FILES_AT_ONCE}", f"--test-timeout={TEST_LIMIT_MS}", "--test-reporter=spec"]
    process = subprocess.Popen(
        ["node", *flags, "--test-reporter-destination=stdout"],
        cwd=CLIENTS,
        env={**environment(), "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return -1, f"not done after {LIMIT_S:.0f} s\n{output}"
    return process.returncode, output


def test_the_clients_of_npm_work_unchanged() -> None:
    """Addresses, hooks, sockets, documents are what they expect; a kill -9 loses and doubles nothing; the idle stay connected."""
    reason = lacking()
    if reason is not None:
        lack(reason)
    code, output = node_tests()
    if code != 0:
        failing = output.partition("failing tests:")[2] or output
        pytest.fail(f"node's tests ended with {code}\n{failing}", pytrace=False)
