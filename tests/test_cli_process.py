"""The `stead` command as a process: ready, reload, the end. Loopback and free ports only; waits are for conditions."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead.admin import find_server
from stead.cli.new import Template
from stead.clock import sleep

pytestmark = pytest.mark.process

LIMIT_S = 60.0  # for a whole test: far more than it takes, so that a loaded machine is no failure
POLL_S = 0.02
COMMAND = (sys.executable, "-c", "from stead.cli import main; main()")
TELLING = (*COMMAND[:2], f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {COMMAND[2]}")
MANIFEST = 'application "a" { service "api" { visibility = "public" } actor "counter" {} }'
APP = """from pathlib import Path
from stead import Actor, Service, durable, route
from stead.clock import sleep
class Counter(Actor):
    value: int = durable(0)
    async def add(self) -> int:
        self.value += 1
        return self.value
class Api(Service):
    @route("GET", "/")
    async def hello(self, request): return "first"
    @route("POST", "/{name}")
    async def add(self, request, name): return str(await self.env.COUNTER.get(name).add())
    @route("GET", "/slow")
    async def slow(self, request):
        Path(__file__).with_name("started").touch()
        while not Path(__file__).with_name("go").exists():
            await sleep(0.02)
        return str(await self.env.COUNTER.get("slow").add())
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def bounded(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work()

    asyncio.run(run())


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await sleep(POLL_S)


async def start(*arguments: str | Path, command: Sequence[str] = COMMAND) -> Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
    return await create_subprocess_exec(*command, *map(str, arguments), stdout=PIPE, stderr=PIPE, env=environ)


@asynccontextmanager
async def serving(place: Path, *arguments: str, command: Sequence[str] = COMMAND) -> AsyncIterator[tuple[Process, str]]:
    """A server that is ready, and its address. It is killed at the end if it has not ended by itself."""
    process = await start("serve", place, "--port", "0", *arguments, command=command)
    assert process.stdout is not None
    try:
        word, _, url = (await process.stdout.readline()).decode().strip().partition(" ")
        assert word == "ready"
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def is_refused(url: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", httpx.URL(url).port)) != 0


async def failure(*arguments: str | Path) -> str:
    """What a command that cannot start says on standard error."""
    process = await start(*arguments)
    stdout, stderr = await process.communicate()
    assert process.returncode == 1 and stdout == b"" and b"Traceback" not in stderr
    return stderr.decode()


def test_serve_says_when_it_is_ready_and_ends_on_a_signal(place: Path) -> None:
    """One line on standard output, ready from then on; SIGTERM ends it with 0; what was answered is there the next time."""

    async def work() -> None:
        for expected in ("1", "2"):
            async with serving(place) as (process, url), httpx.AsyncClient(base_url=url) as client:
                assert (await client.get("/_stead/ready")).status_code == 200
                response = await client.post("/a")
                assert response.text == expected and "date" in response.headers and "server" not in response.headers
                address = find_server(place / ".stead")
                assert address is not None and (address.pid, address.url) == (process.pid, url)
                process.send_signal(signal.SIGTERM)
                stdout, stderr = await process.communicate()
                assert (process.returncode, stdout, stderr) == (0, b"", b"")
                assert not (place / ".stead" / "server.json").exists()

    bounded(work)


@pytest.mark.parametrize(("arguments", "joins"), [((), False), (("--workers", "2"), True)])
def test_a_node_alone_loads_nothing_that_joins_nodes(place: Path, arguments: Sequence[str], joins: bool) -> None:
    """From its start to its end: the code of clusters and the driver of PostgreSQL take a third of a start."""

    async def work() -> None:
        async with serving(place, *arguments, command=TELLING) as (process, url), httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/a")).text == "1"
            process.send_signal(signal.SIGTERM)
            _, stderr = await process.communicate()
            loaded = set(stderr.decode().split())
            assert {"stead.runtime", "stead.gateway"} <= loaded
            assert {"stead.cluster", "stead.cli.joining", "asyncpg"} & loaded == (
                {"stead.cluster", "stead.cli.joining"} if joins else set()
            )

    bounded(work)


def test_a_request_under_way_is_finished_before_the_end(place: Path) -> None:
    """After SIGTERM no connection is accepted, and what was asked before is answered and durable."""

    async def work() -> None:
        async with (
            serving(place) as (process, url),
            httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client,
            asyncio.TaskGroup() as tasks,
        ):
            slow = tasks.create_task(client.get("/slow"))
            await wait_until((place / "started").exists)
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: is_refused(url))
            assert process.returncode is None
            (place / "go").touch()
            assert (await slow).text == "1"
            assert await process.wait() == 0
        async with serving(place) as (_, url), httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/slow")).text == "2"

    bounded(work)


def test_a_second_signal_leaves_at_once(place: Path) -> None:
    """Without waiting for the request under way, and with an exit code that says so."""

    async def ask(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.TransportError):
            await client.get("/slow")

    async def work() -> None:
        async with (
            serving(place) as (process, url),
            httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(ask(client))
            await wait_until((place / "started").exists)
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: is_refused(url))
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM

    bounded(work)


def test_a_header_without_end_is_refused(place: Path) -> None:
    """The server answers 400 and closes, long before the header fills its memory."""

    async def work() -> None:
        async with serving(place) as (_, url):
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 1024 * 1024)
            with suppress(ConnectionError):  # closed while we were still writing
                await writer.drain()
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            assert not is_refused(url)

    bounded(work)


def test_a_taken_port_and_a_taken_directory_are_one_line_each(place: Path) -> None:
    """With what to do, exit code 1 and no traceback."""

    async def work() -> None:
        async with serving(place) as (process, url):
            assert "is taken" in await failure("serve", place, "--port", str(httpx.URL(url).port))
            assert f"in use by process {process.pid}" in await failure("serve", place, "--port", "0")
            assert "in use by process" in await failure("dev", place, "--port", "0")

    bounded(work)


def test_a_running_server_answers_its_operator(place: Path, tmp_path: Path) -> None:
    """`stead actors` finds the server through the data directory."""

    async def work() -> None:
        async with serving(place) as (_, url), httpx.AsyncClient(base_url=url) as client:
            await client.post("/a")
            for arguments in (
                ("list",),
                ("show", "counter/a"),
                ("export", "counter/a", tmp_path / "a.sqlite"),
                ("delete", "counter/a", "--yes"),
            ):
                process = await start("actors", *arguments, "--data", place / ".stead")
                assert b"counter/a" in (await process.communicate())[0] and process.returncode == 0
            assert (await client.post("/a")).text == "1"

    bounded(work)


@asynccontextmanager
async def developing(place: Path, logs: Path) -> AsyncIterator[tuple[Process, str]]:
    """`stead dev` with its output in `logs`, and its address."""
    with logs.open("wb") as file:
        process = await create_subprocess_exec(*COMMAND, "dev", str(place), "--port", "0", stdout=file, stderr=file)
    try:
        await wait_until(lambda: "ready http://" in logs.read_text())
        yield process, logs.read_text().partition("ready ")[2].partition(",")[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_dev_reloads_on_save_and_survives_broken_code(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No connection is refused meanwhile, they wait; broken code is shown and waits for the next save; Ctrl-C ends it all."""
    logs = tmp_path_factory.mktemp("logs") / "dev.txt"

    async def answers(client: httpx.AsyncClient, text: str) -> None:
        answer = ""
        while answer != text:
            await sleep(POLL_S)
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):  # closed before it was read, by a server that leaves
                answer = (await client.get("/")).text

    async def work() -> None:
        async with developing(place, logs) as (process, url), httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
            await answers(client, "first")
            (place / "app.py").write_text(APP.replace("first", "second"))
            await answers(client, "second")
            (place / "app.py").write_text(APP + "\n1 / 0\n")
            await wait_until(lambda: "waiting for the next save" in logs.read_text())
            (place / "app.py").write_text(APP.replace("first", "third"))
            await answers(client, "third")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert is_refused(url)
        text = logs.read_text()
        assert "http://api.localhost:" in text and "app:Counter" in text and "GET /" in text
        assert "ZeroDivisionError" in text and "app.py:" in text and "Traceback" not in text

    bounded(work)


def test_ctrl_c_ends_an_import_that_hangs(place: Path) -> None:
    """The terminal's signal goes to parent and child; nobody prints a traceback and nobody stays."""
    os.mkfifo(place / "fifo")
    hang = "from pathlib import Path\nhere = Path(__file__).parent\n(here / 'started').touch()\n(here / 'fifo').read_text()\n"
    (place / "app.py").write_text(hang)

    async def work() -> None:
        process = await create_subprocess_exec(
            *COMMAND, "dev", str(place), "--port", "0", stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        await wait_until((place / "started").exists)
        os.killpg(process.pid, signal.SIGINT)
        assert await process.communicate() == (b"", b"")  # the end of both pipes: no process has them any more
        assert process.returncode == 0

    bounded(work)


def test_a_child_does_not_outlive_its_parent(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """When the parent is killed, the server stops and the data directory is free."""
    logs = tmp_path_factory.mktemp("logs") / "dev.txt"

    async def work() -> None:
        async with developing(place, logs) as (process, url):
            process.kill()
            await wait_until(lambda: is_refused(url) and find_server(place / ".stead") is None)

    bounded(work)


@pytest.mark.parametrize("template", list(Template))
def test_the_tests_of_a_new_application_pass(tmp_path: Path, template: Template) -> None:
    """With nothing but pytest and Stead's plugin."""

    async def work() -> None:
        assert await (await start("new", tmp_path / "shop", "--template", template.value)).wait() == 0
        pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        process = await create_subprocess_exec(*pytest_, cwd=tmp_path / "shop", stdout=PIPE)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output

    bounded(work)
