"""What tests of faults share: nodes with channels and a database that can be cut off, and clients that know what they may find.

A client has a counter of its own and asks one thing at a time, so each answer can be checked when it comes: a count is never
below what was acknowledged before, nor above that and what may have been counted besides.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from stead.clock import SystemClock, sleep
from tests.postgres.server import free_port
from tests.process.conftest import LIMIT_S, STEAD, Server, serving

FAULTY = Path(__file__).with_name("faulty")
KEY = "0123456789abcdef" * 4
LEASE_S = 3.0
PATIENCE_S = LEASE_S + 2.0  # how long a request may wait for the node that has its actor
POLL_S = 0.1
ACCEPT_STEPS = 8  # of the loop, in which what was accepted before a gate closed comes to be served, and can be ended
NOT_RUN = frozenset({"Unavailable", "Overloaded", "DurabilityLost", "EngineFailed"})
CLOCK = SystemClock()


class Gate:
    """A port that leads to another one. While it is shut nothing passes, and nothing is reset."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._silenced: list[asyncio.Event] = []
        self._streams: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.port = 0

    async def start(self, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def shut(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()

    def silence(self) -> None:
        """Let nothing pass on what is open now, for ever, and tell nobody; what connects later is served."""
        self.shut()
        self._silenced.append(self._is_open)
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def close(self) -> None:
        """Reset what is open. Returns when nothing of it is left to a later test."""
        self._server.close()
        self.open()
        for silenced in self._silenced:
            silenced.set()
        for _ in range(ACCEPT_STEPS):
            await sleep(0)
        while self._streams:
            await end_all(self._streams)
            await sleep(0)  # whoever serves them notices
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends, is_open = [writer], self._is_open
        self._streams.add(writer)
        try:
            await is_open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(far_writer)
            self._streams.add(far_writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, far_writer, is_open))
                tasks.create_task(self._pump(far_reader, writer, is_open))
        except* OSError:
            for end in ends:
                end.transport.abort()
        finally:
            await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)
            self._streams.difference_update(ends)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        try:
            while data := await reader.read(1 << 16):
                await is_open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


async def end_all(streams: Iterable[asyncio.StreamWriter]) -> None:
    """Reset connections, and wait until they are closed: one that its loop leaves open is noticed in a later test."""
    ended = list(streams)
    for stream in ended:
        stream.transport.abort()
    await asyncio.gather(*(stream.wait_closed() for stream in ended), return_exceptions=True)


class Field:
    """The nodes of a test; all of them end with it."""

    def __init__(self, place: Path, dsn: str, stack: AsyncExitStack) -> None:
        self._place = place
        self._dsn = dsn
        self._stack = stack
        self.http = httpx.AsyncClient(timeout=LIMIT_S, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
        self.servers: dict[str, Server] = {}
        self.doors: dict[str, Gate] = {}  # by name: where the others reach a node
        self.ways: dict[str, Gate] = {}  # by name: where a node reaches its database

    async def start(
        self,
        name: str,
        *flags: str,
        application: Path = FAULTY,
        key: str = KEY,
        data: Path | None = None,
        launcher: Sequence[str] = STEAD,
    ) -> Server:
        """Start a node behind two gates, and wait until it is ready."""
        key_file = self._place / f"{name}.key"
        key_file.write_text(key)
        key_file.chmod(0o600)
        port = free_port()
        door, way = self.doors[name], self.ways[name] = Gate(port), Gate(httpx.URL(self._dsn).port or 0)
        for gate in (door, way):
            await gate.start()
            self._stack.push_async_callback(gate.close)
        dsn = str(httpx.URL(self._dsn).copy_with(port=way.port))
        flags = ("--engine", dsn, "--node-name", name, "--lease-s", str(LEASE_S), "--cluster-key-file", str(key_file), *flags)
        flags = (*flags, "--cluster-listen", f"127.0.0.1:{port}", "--cluster-address", f"127.0.0.1:{door.port}")
        entry = serving(application, data or self._place / name, *flags, launcher=launcher)
        server = await asyncio.to_thread(entry.__enter__)
        self._stack.push_async_callback(asyncio.to_thread, entry.__exit__, None, None, None)
        self.servers[name] = server
        return server

    def url(self, name: str) -> str:
        return self.servers[name].address.url

    def log(self, name: str) -> str:
        return self.servers[name].errors.read_text()

    async def is_ready(self, name: str) -> bool:
        return (await self.http.get(f"{self.url(name)}/_stead/ready")).status_code == 200

    async def wait_ready(self, name: str, limit_s: float = LIMIT_S) -> float:
        """How long it took."""
        return await until(lambda: self.is_ready(name), limit_s)


@asynccontextmanager
async def field(place: Path, dsn: str, *names: str) -> AsyncIterator[Field]:
    """Nodes of these names over one database, all in touch with each other."""
    async with AsyncExitStack() as stack:
        made = Field(place, dsn, stack)
        stack.push_async_callback(made.http.aclose)
        for name in names:
            await made.start(name)
        for name in names:
            await made.wait_ready(name)
        yield made


async def until(is_so: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> float:
    """Wait for something; how long it took."""
    began_s = CLOCK.elapsed_s()
    while not await is_so():
        assert CLOCK.elapsed_s() - began_s < limit_s, "it does not happen in time"
        await sleep(POLL_S)
    return CLOCK.elapsed_s() - began_s


class Client:
    """Counts in one counter, at any of some nodes, and compares each answer with what is known."""

    def __init__(self, http: httpx.AsyncClient, urls: Sequence[str], name: str) -> None:
        self._http = http
        self._urls = list(urls)
        self._path = f"counter/{name}"
        self._turn = 0
        self.known = 0  # the least that is counted
        self.doubtful = 0  # what may be counted besides
        self.answers: Counter[str] = Counter()
        self.silence_s = 0.0  # the longest time between two acknowledgements
        self._heard_s = CLOCK.elapsed_s()

    async def run(self, ends: asyncio.Event) -> None:
        while not ends.is_set():
            self._turn += 1
            await self.ask("GET" if self._turn % 3 == 0 else "POST", self._urls[self._turn % len(self._urls)])
            await sleep(POLL_S / 4)

    async def ask(self, method: str, url: str, pause_s: float = 0.0) -> str:
        """One request. Returns how it ended."""
        least = self.known
        if method == "POST":
            self.doubtful += 1  # until it is known better: another request may be under way
        try:
            answer = await self._http.request(method, f"{url}/{self._path}?pause_s={pause_s}")
        except httpx.TransportError as exc:
            ended = type(exc).__name__
        else:
            ended = "ok" if answer.status_code == 200 else self._refused(answer)
            if ended == "ok":
                self._counted(int(answer.text), least, is_own=method == "POST")
            elif method == "POST" and ended in NOT_RUN:
                self.doubtful -= 1
                assert self.doubtful >= 0, f"{self._path}: it was said not to have run, and has"
        self.answers[f"{method} {ended}"] += 1
        return ended

    def _counted(self, value: int, least: int, *, is_own: bool) -> None:
        assert value >= least + is_own, f"{self._path}: {value} is stale or lost, {least} were acknowledged before"
        assert value <= self.known + self.doubtful, f"{self._path}: {value} is doubled, at most {self.known}+{self.doubtful}"
        if value > self.known:
            self.doubtful -= value - self.known
            self.known = value
        if is_own:
            now_s = CLOCK.elapsed_s()
            self.silence_s = max(self.silence_s, now_s - self._heard_s)
            self._heard_s = now_s

    def _refused(self, answer: httpx.Response) -> str:
        """The kind of a refusal, which has to be a clear one."""
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem: dict[str, Any] = answer.json()
        kind = str(problem["type"]).removeprefix("urn:stead:error:")
        assert (answer.status_code, kind) in {*((503, kind) for kind in NOT_RUN), (504, "Ambiguous")}, problem
        assert problem["detail"], problem
        assert answer.status_code != 503 or int(answer.headers["retry-after"]) >= 1
        return kind

    async def finish(self, url: str) -> None:
        """Count once more, and read: both have to work now."""
        assert await self.ask("POST", url) == "ok"
        assert await self.ask("GET", url) == "ok"


@asynccontextmanager
async def load(http: httpx.AsyncClient, urls: Sequence[str], name: str = "load", count: int = 12) -> AsyncIterator[list[Client]]:
    """Clients that count all the while. After it each counter works again, wherever it is asked for."""
    ends = asyncio.Event()
    turned = [[*urls[at:], *urls[:at]] for at in range(len(urls))]
    clients = [Client(http, turned[at % len(urls)], f"{name.replace(' ', '-')}-{at}") for at in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run(ends))
        try:
            yield clients
        finally:
            ends.set()
    for client in clients:
        for url in urls:
            await client.finish(url)


def summary(clients: Sequence[Client]) -> str:
    """What happened to their requests."""
    answers = sum((client.answers for client in clients), Counter())
    silence_s = max(client.silence_s for client in clients)
    return f"{dict(answers)}, longest silence {silence_s:.1f} s"
