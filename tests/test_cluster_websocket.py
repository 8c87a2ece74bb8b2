"""Channels over real WebSockets on loopback, and what hostile peers do to them: nothing that others notice."""

from __future__ import annotations

import asyncio
import datetime
import gc
import logging
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from stead.cluster import Keys, Network, Receiver, TlsFiles, WebSocketNetwork, Wire
from stead.cluster.frames import BEAT, encode_batch
from stead.cluster.greeting import GREETING_S
from stead.cluster.handshake import VERSION, Dialler, Hello
from stead.cluster.peers import GREETINGS_MAX
from stead.cluster.refusals import LINES_MAX
from stead.cluster.tls import HANDSHAKE_S, HANDSHAKES_MAX
from stead.errors import Invalid
from stead.ids import Chance
from stead.storage.membership import Member, NodeInfo
from tests.cluster_nodes import KEYS, Ear, Node, tell

ANY = "127.0.0.1:0"
PATIENCE_S = 20.0
Loop = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test leaves open Python shall say here, not in another test."""
    yield
    gc.collect()


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Loop:
    """Runs a scene on a real loop, bounded."""
    if request.param == "asyncio":
        return lambda scene: asyncio.run(bounded(scene))
    return lambda scene: uvloop.run(bounded(scene))


@asynccontextmanager
async def two(
    networks: Callable[[], Network] = lambda: WebSocketNetwork(KEYS), keys: Keys = KEYS
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that are connected."""
    nodes = Node(networks(), 101, "a", keys), Node(networks(), 102, "b", keys)
    for node in nodes:
        await node.start(ANY)
    tell([*nodes])
    try:
        for node, other in (nodes, nodes[::-1]):
            assert await node.peers.wait_connected(other.incarnation, 10.0)
        yield nodes
    finally:
        for node in nodes:
            await node.peers.close()


async def exchange(asking: Node, answering: Node, *payloads: bytes) -> None:
    """One conversation that must work."""
    ear = Ear()
    conversation = asking.peers.open(answering.incarnation, b"opening", ear)
    for payload in payloads:
        await conversation.wait_room()
        conversation.send(payload)
    conversation.end()
    assert await ear.over
    assert ear.heard == [str(sum(map(len, payloads)) + 7).encode()]


def test_conversations_cross_a_real_socket(on_loop: Loop) -> None:
    """Small ones, many at once, and payloads up to the largest, in both directions."""

    async def scene() -> None:
        async with two() as (a, b):
            await exchange(a, b)
            await exchange(b, a, b"x", b"", bytes(64 * 1024), bytes(64 * 1024 + 1))
            await exchange(a, b, os.urandom(32 * 1024 * 1024), b"y")
            async with asyncio.TaskGroup() as tasks:
                for at in range(200):
                    tasks.create_task(exchange(*((a, b) if at % 2 else (b, a)), bytes(at)))

    on_loop(scene)


def test_a_dial_that_is_given_up_leaves_nothing(on_loop: Loop) -> None:
    """A frozen peer's port takes connections and says nothing; the wire of whoever tires of it ends without a word."""

    async def scene() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        ended = asyncio.get_running_loop().create_future()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # the request
            writer.close()
            ended.set_result(None)

        def receiver(wire: Wire) -> Receiver:
            raise AssertionError("no WebSocket was opened")

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await WebSocketNetwork(KEYS).dial(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", receiver)
            server.close()
            await ended
        assert errors == []

    on_loop(scene)


# -- mutual TLS ------------------------------------------------------------------------------------------------------------------


class Authority:
    """Signs certificates, in files."""

    def __init__(self, place: Path, name: str) -> None:
        self._place, self._name = place, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key.public_key(), is_authority=True)
        self._write(f"{name}.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def node(self, name: str, trusted: Authority | None = None) -> TlsFiles:
        """The files of a node that this authority has signed, and who trusts in `trusted` or in this one."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        authority = trusted or self
        return TlsFiles(
            certificate=self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            key=self._write(f"{name}.key", private),
            authority=str(authority._place / f"{authority._name}.pem"),
        )

    def _write(self, name: str, data: bytes) -> str:
        path = self._place / name
        path.write_bytes(data)
        return str(path)

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, is_authority: bool = False) -> x509.Certificate:
        now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3650))
            .not_valid_after(now + datetime.timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def test_mutual_tls(on_loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nodes with certificates of one authority speak, also without a key; others are refused on both sides, and both say why."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    files = iter([ours.node("a"), ours.node("b")])

    async def scene() -> None:
        async with two(lambda: WebSocketNetwork((), next(files)), keys=()) as (a, b):
            await exchange(a, b, bytes(1_000_000))
            for stranger in (
                WebSocketNetwork((), theirs.node("c", trusted=ours)),  # its certificate is another authority's
                WebSocketNetwork((), ours.node("d", trusted=theirs)),  # it does not trust ours
                WebSocketNetwork(()),  # it speaks no TLS
            ):
                caplog.clear()
                c = Node(stranger, 103, "c", keys=())
                await c.start(ANY)
                c.peers.update([a.member, c.member])
                await told(caplog, "no channel to node a (101)")
                await told(caplog, "refused a connection from 127.0.0.1")
                assert not c.peers.is_connected(a.incarnation)
                await c.peers.close()
            await exchange(b, a)

    on_loop(scene)


def test_who_is_slow_with_tls_makes_room(on_loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Connections that begin no handshake are bounded in number and time; nodes come in meanwhile."""
    ours = Authority(tmp_path, "ours")
    files = iter([ours.node("a"), ours.node("b")])

    async def scene() -> None:
        async with two(lambda: WebSocketNetwork((), next(files)), keys=()) as (a, b):
            silent = [await asyncio.open_connection(*a.address.split(":")) for _ in range(HANDSHAKES_MAX + 1)]
            assert await silent[0][0].read() == b""  # the oldest had to go
            c = Node(WebSocketNetwork((), ours.node("c")), 103, "c", keys=())
            await c.start(ANY)
            tell([a, c], c)
            assert await c.peers.wait_connected(a.incarnation, HANDSHAKE_S / 2)
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()
            await told(caplog, "no mutual TLS with it")
            await exchange(a, b)
            await c.peers.close()

    on_loop(scene)


async def told(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Poll the log until a line holds `text`."""
    while True:
        for record in caplog.records:
            if text in record.getMessage():
                return record.getMessage()
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)


def test_a_new_key_takes_the_place_of_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    """At every step every node has a channel to every other one, whoever dials, and nobody is refused."""
    old, new = KEYS[0], b"the key that comes after it, for all"

    async def scene(first: Keys, second: Keys) -> None:
        async with two(keys=first) as (a, b):
            c = Node(WebSocketNetwork(second), 103, "c", second)
            await c.start(ANY)
            tell([a, b, c], c)
            assert await c.peers.wait_connected(a.incarnation, 10.0)
            await exchange(a, c)
            await c.peers.close()

    for before, after in [((old,), (old, new)), ((old, new), (new,))]:
        asyncio.run(scene(before, after))
        asyncio.run(scene(after, before))
    assert "another key" not in caplog.text


def test_a_node_that_stops_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """Its peers say so, dial it in vain until it is off the list, and warn of none of that."""
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with two() as (a, b):
            await a.peers.close()
            await told(caplog, "the channel to node a (101) ended: the node stops")
            tell([a, b], b)
            await told(caplog, "no channel to node a (101)")

    asyncio.run(scene())
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


# -- strangers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [(), (b"another key of thirty-two bytes or more",)])
def test_another_key_or_none(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    """A node that lacks the key is refused, and both sides say so; who has it goes on."""

    async def scene() -> None:
        async with two() as (a, b):
            c = Node(WebSocketNetwork(keys), 103, "c", keys)
            await c.start(ANY)
            tell([a, c], c)
            assert "another key" in await told(caplog, "no channel to node a (101)")
            assert "another key" in await told(caplog, "refused a connection from 127.0.0.1")
            tell([a, b, c], a)  # the other way round as well
            assert "another key" in await told(caplog, "no channel to node c (103)")
            assert not c.peers.is_connected(a.incarnation) and not a.peers.is_connected(c.incarnation)
            await exchange(a, b)
            await c.peers.close()

    asyncio.run(bounded(scene))


async def bounded(scene: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await scene()


async def refusal(socket: ClientConnection) -> str:
    """Read until the other side closes; returns the reason."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as exc:
        return exc.rcvd.reason if exc.rcvd else ""


async def greet(node: Node, own: int = 103, version: int = VERSION, wanted: int | None = None) -> str:
    """Say hello and nothing else; returns why that was refused."""
    async with connect(f"ws://{node.address}") as socket:
        hello = Hello(version, own, node.incarnation if wanted is None else wanted, bytes(32))
        await socket.send(msgspec.msgpack.encode(hello))
        return await refusal(socket)


def test_greetings_that_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Another version, another incarnation, this node's own, no greeting at all: closed with the reason, there and in the log."""

    async def scene() -> None:
        async with two() as (a, b):
            assert await greet(a, version=VERSION + 1) == f"it speaks version {VERSION + 1} of the protocol, this node {VERSION}"
            assert await greet(a, wanted=999) == "the incarnation 999 was wanted, and this is 101"
            assert await greet(a, own=101) == "the incarnation 101 was wanted, and this is 101"
            for rubbish in (
                b"",
                b"\xc1",
                os.urandom(500),
                msgspec.msgpack.encode({"version": 1}),
                BEAT,
                bytes(2000),
                bytes(150_000),
            ):
                async with connect(f"ws://{a.address}") as socket:
                    await socket.send(rubbish)
                    assert "it speaks another language" in (reason := await refusal(socket)) or "it greets with" in reason
            async with connect(f"ws://{a.address}") as socket:
                await socket.send("text")
                assert await refusal(socket) == "it speaks no language of channels"
            assert len([record for record in caplog.records if "refused" in record.getMessage()]) >= LINES_MAX
            await exchange(a, b)

    asyncio.run(bounded(scene))


def test_a_recorded_handshake_is_worth_nothing() -> None:
    """What a real node said once, said again word for word, opens no channel."""

    async def scene() -> None:
        async with two() as (a, b):
            dialler = Dialler(KEYS, 103, a.incarnation, Chance())
            async with connect(f"ws://{a.address}") as socket:
                await socket.send(dialler.hello)
                proof = dialler.receive(await socket.recv(decode=False))
                await socket.send(proof)
                dialler.receive(await socket.recv(decode=False))
                assert dialler.peer == a.incarnation
            async with connect(f"ws://{a.address}") as socket:
                await socket.send(dialler.hello)
                await socket.recv()
                await socket.send(proof)
                assert await refusal(socket) == "it has another key, or none"
            await exchange(a, b)

    asyncio.run(bounded(scene))


HEADER = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
HELLO = msgspec.msgpack.encode(Hello(VERSION, 103, 101, bytes(32)))
UPGRADE = HEADER + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"


def frame(payload: bytes, opcode: int = 2) -> bytes:
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


STRANGE = {
    "garbage": os.urandom(4096),
    "TLS": b"\x16\x03\x01" + bytes(100),
    "a browser": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 100_000,
    "endless headers": HEADER + b"X: y\r\n" * 10_000,
}
STRANGE_FRAMES = {
    "a giant frame": b"\x82\xff" + struct.pack("!Q", 1 << 40),
    "a fragment": b"\x02\xfe\x04\x00" + bytes(1028),
    "no mask": b"\x82\x04abcd",
    "garbage behind a greeting": frame(HELLO) + b"\xff\xff",
    "an end behind a greeting": frame(HELLO) + frame(b"", opcode=8),
}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        *(pytest.param(b"", sent, id=name) for name, sent in STRANGE.items()),
        *(pytest.param(UPGRADE, sent, id=name) for name, sent in STRANGE_FRAMES.items()),
        *(pytest.param(b"", UPGRADE + sent, id=f"{name} at once") for name, sent in STRANGE_FRAMES.items()),
    ],
)
def test_bytes_that_are_no_channel(first: bytes, then: bytes, caplog: pytest.LogCaptureFixture, on_loop: Loop) -> None:
    """They are refused before more is read, with a line in the log."""

    async def scene() -> None:
        async with two() as (a, b):
            reader, writer = await asyncio.open_connection(*a.address.split(":"))
            if first:
                writer.write(first)
                await reader.readuntil(b"\r\n\r\n")
            writer.write(then)
            await reader.read()
            writer.close()
            await told(caplog, "refused a connection from 127.0.0.1")
            await exchange(a, b)

    on_loop(scene)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


def test_who_says_nothing_is_dropped_and_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    """Silent and slow connections end within the time for greetings; however many there are, nodes come in and others go on."""

    async def scene() -> None:
        async with two() as (a, b):
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            silent = [await asyncio.open_connection(*a.address.split(":")) for _ in range(GREETINGS_MAX)]
            slow = await asyncio.open_connection(*a.address.split(":"))
            slow[1].write(UPGRADE[:20])
            assert await silent[0][0].read() == b""  # the oldest had to go
            assert loop.time() - begun_s < GREETING_S / 2
            more = [await asyncio.open_connection(*a.address.split(":")) for _ in range(GREETINGS_MAX - 2)]
            c = Node(WebSocketNetwork(KEYS), 103, "c")
            await c.start(ANY)
            tell([a, c], c)
            assert await c.peers.wait_connected(a.incarnation, 2.0)
            await exchange(c, a)
            assert (await slow[0].read()) == b""
            assert GREETING_S - 0.1 <= loop.time() - begun_s <= GREETING_S + 1.0
            for reader, writer in (*silent, slow, *more):
                assert await reader.read() == b""
                writer.close()
            await exchange(a, b)
            await c.peers.close()

    asyncio.run(bounded(scene))
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert any("it took longer than 3 s to prove itself" in line for line in lines)
    assert len(lines) < GREETINGS_MAX
    assert any("more connections to the port of channels" in line for line in lines)


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"\xc1", id="no batch"),
        pytest.param(encode_batch([0]), id="half a frame"),
        pytest.param(encode_batch([77, 1, 0]), id="an unknown kind"),
        pytest.param(encode_batch([0, 2, b""]), id="another's number"),
        pytest.param(encode_batch([4, 1, b"", 0, 3, b""]), id="a broken payload"),
    ],
)
def test_a_member_that_speaks_garbage(rubbish: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Who has the key and breaks the protocol loses the channel, its conversations are lost, and the others go on."""

    async def scene() -> None:
        async with two() as (a, b):
            dialler = Dialler(KEYS, 103, a.incarnation, Chance())
            async with connect(f"ws://{a.address}") as socket:
                await socket.send(dialler.hello)
                await socket.send(dialler.receive(await socket.recv(decode=False)))
                dialler.receive(await socket.recv(decode=False))
                assert a.peers.is_connected(103)
                ear = Ear()
                a.peers.open(103, b"", ear)
                await socket.send(rubbish)
                assert (await refusal(socket)).startswith("it ")
                assert not await ear.over
                await told(caplog, "the channel to node ? (103) ended: it ")
            await exchange(a, b)

    asyncio.run(bounded(scene))


# -- where nodes listen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7400", "node-1:7400"])
def test_no_open_door(address: str) -> None:
    """Without a key or certificates a node listens on loopback only, and says what to set."""

    async def scene() -> None:
        with pytest.raises(Invalid, match="set STEAD_CLUSTER_KEY.*mutual TLS.*127.0.0.1"):
            await WebSocketNetwork(()).listen(address, nobody)

    asyncio.run(scene())


def nobody(wire: Wire) -> Receiver:
    raise AssertionError("nobody dials here")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_loopback_needs_no_key(address: str) -> None:
    """On loopback nodes without a key speak to each other."""

    async def scene() -> None:
        a, b = Node(WebSocketNetwork(()), 101, "a", keys=()), Node(WebSocketNetwork(()), 102, "b", keys=())
        for node in (a, b):
            await node.start(address)
        tell([a, b])
        assert await a.peers.wait_connected(102, 5.0) and await b.peers.wait_connected(101, 5.0)
        await exchange(a, b)
        await a.peers.close()
        await b.peers.close()

    asyncio.run(bounded(scene))


def test_a_member_without_an_address_is_said_to_be_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    """An address that is none, or leads nowhere, is a line in the log; the node goes on trying."""

    async def scene() -> None:
        async with two() as (a, b):
            for at, address in enumerate(["nowhere", "127.0.0.1:1", "no-such-host.invalid:7400"]):
                lost = Member(103 + at, NodeInfo("lost", address), False, 5.0)
                a.peers.update([b.member, lost])
                await told(caplog, f"no channel to node lost ({103 + at}) at {address} yet")
            await exchange(a, b)

    asyncio.run(bounded(scene))


def test_a_key_opens_any_address() -> None:
    """With a key a node listens wherever it is told to."""

    async def scene() -> None:
        listening = await WebSocketNetwork(KEYS).listen("0.0.0.0:0", nobody)
        assert listening.address.startswith("0.0.0.0:") and not listening.address.endswith(":0")
        await listening.close()

    asyncio.run(scene())


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stead.cluster")
