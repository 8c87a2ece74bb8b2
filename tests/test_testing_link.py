"""The network in memory: bytes in order whatever the cuts, honest buffers, and ends as TCP has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stead.clock import sleep
from stead.ids import Chance
from stead.testing import check, current_clock, run
from stead.testing.link import NETWORK_BYTES_MAX, Link


class Peer(asyncio.Protocol):
    """Writes down what it is told."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""
        self.pieces: list[int] = []
        self.told: list[str] = []
        self.error: Exception | None = None
        self.keeps_open = False
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        assert self.told[0] == "made"
        assert "lost" not in self.told
        self.received += data
        self.pieces.append(len(data))
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.error = exc


def pair(seed: int) -> tuple[Peer, Peer, Link]:
    client, server = Peer(), Peer()
    return client, server, Link(client, server, Chance(seed), 50_000)


def rest() -> Any:
    return current_clock().advance()


def test_bytes_arrive_in_order() -> None:
    """Both ways at once, whole and unchanged, and over the seeds in pieces and joined."""
    pieces: set[int] = set()

    async def scenario(seed: int) -> None:
        client, server, _ = pair(seed)
        chance = Chance(seed)
        sent = [bytes([number]) * (1 + chance.below(2000)) for number in range(20)]
        for data in sent:
            client.transport.write(data)
        while "made" not in server.told:
            await sleep(0)
        server.transport.writelines([b"up", b"ward"])
        await rest()
        assert server.received == b"".join(sent)
        assert client.received == b"upward"
        pieces.update(server.pieces)

    check(scenario, 50)
    assert min(pieces) < 50
    assert max(pieces) > 2000


def test_a_seed_repeats_its_cuts() -> None:
    """The same seed cuts alike, another one otherwise."""

    async def main() -> list[int]:
        client, server, _ = pair(asyncio.get_running_loop().seed)  # type: ignore[attr-defined]
        client.transport.write(b"x" * 10_000)
        await rest()
        return server.pieces

    assert run(main, seed=3) == run(main, seed=3)
    assert len({tuple(run(main, seed=seed)) for seed in range(10)}) > 5


def test_delivery_is_later() -> None:
    """Nothing arrives within the call that writes it."""

    async def main() -> None:
        client, server, _ = pair(1)
        await rest()
        client.transport.write(b"later")
        assert server.received == b""
        await rest()
        assert server.received == b"later"

    run(main)


def test_what_is_not_read_fills_the_writer() -> None:
    """The network holds so much; the rest is the writer's, who is told to stop past the mark and to go on below the other."""

    async def main() -> None:
        client, server, _ = pair(2)
        await rest()
        client.transport.pause_reading()
        server.transport.set_write_buffer_limits(high=1000, low=100)
        server.transport.write(b"x" * NETWORK_BYTES_MAX)
        assert server.transport.get_write_buffer_size() == 0
        server.transport.write(b"y" * 1000)
        assert "pause" not in server.told
        server.transport.write(b"y")
        assert server.told[-1] == "pause"
        await current_clock().advance(hours=1)
        assert server.transport.get_write_buffer_size() == 1001
        assert client.received == b""
        client.transport.resume_reading()
        await rest()
        assert server.told == ["made", "pause", "resume"]
        assert client.received == b"x" * NETWORK_BYTES_MAX + b"y" * 1001

    run(main)


def test_a_close_sends_what_is_left() -> None:
    """close() ends after its buffer is empty, once; the other side hears the end after the last byte."""

    async def scenario(seed: int) -> None:
        client, server, link = pair(seed)
        server.transport = link.server
        client.transport.write(b"x" * 200_000)
        client.transport.close()
        client.transport.close()
        client.transport.write(b"too late")
        await rest()
        assert len(server.received) == 200_000
        assert server.told == ["made", "eof", "lost"]
        assert client.told == ["made", "pause", "resume", "lost"]
        assert client.error is server.error is None
        assert not link.is_open

    check(scenario, 50)


def test_an_abort_drops_what_is_left() -> None:
    """abort() loses the write buffer, not what is under way."""

    async def main() -> None:
        client, server, _ = pair(3)
        client.transport.set_write_buffer_limits(high=0)
        client.transport.write(b"x" * (NETWORK_BYTES_MAX + 10))
        client.transport.abort()
        await rest()
        assert len(server.received) == NETWORK_BYTES_MAX
        assert client.told == ["made", "pause", "lost"]
        assert server.told == ["made", "eof", "lost"]

    run(main)


def test_half_a_connection_goes_on() -> None:
    """After write_eof the other direction stays open for who wants it, and writing more is an error."""

    async def main() -> None:
        client, server, _ = pair(4)
        server.keeps_open = True
        client.transport.write_eof()
        with pytest.raises(RuntimeError):
            client.transport.write(b"more")
        await rest()
        assert server.told == ["made", "eof"]
        server.transport.write(b"still here")
        server.transport.close()
        await rest()
        assert client.received == b"still here"
        assert client.told == ["made", "eof", "lost"]

    run(main)


def test_writing_to_who_is_gone_is_a_reset() -> None:
    """A side that has heard the end and writes on is told that nobody reads it."""

    async def main() -> None:
        client, server, _ = pair(5)
        server.keeps_open = True
        client.transport.close()
        await rest()
        server.transport.write(b"hello?")
        await rest()
        assert isinstance(server.error, ConnectionResetError)

    run(main)


def test_a_dropped_connection_ends_both() -> None:
    """A reset loses what is under way, and both sides hear of it once."""

    async def scenario(seed: int) -> None:
        client, server, link = pair(seed)
        await rest()
        client.transport.write(b"x" * 100_000)
        link.drop()
        assert server.told == ["made"]
        await rest()
        assert server.received == b""
        for peer in (client, server):
            assert peer.told.count("lost") == 1
            assert isinstance(peer.error, ConnectionResetError)

    check(scenario, 20)


def test_a_reset_is_noticed_by_who_reads_or_writes() -> None:
    """A side that does neither learns of it when it does, as with a real socket."""

    async def main() -> None:
        acts: list[Callable[[asyncio.Transport], None]] = [lambda own: own.resume_reading(), lambda own: own.write(b"x")]
        for act in acts:
            client, server, link = pair(6)
            await rest()
            server.transport.pause_reading()
            link.drop()
            await rest()
            assert client.told == ["made", "lost"]
            assert server.told == ["made"]
            act(server.transport)
            await rest()
            assert server.told == ["made", "lost"]

    run(main)


def test_half_open_tells_nobody() -> None:
    """Nothing arrives, neither bytes nor ends, for as long as it takes; each side can still let go of its own end."""

    async def main() -> None:
        client, server, link = pair(7)
        await rest()
        server.transport.write(b"under way")
        link.half_open()
        client.transport.write(b"x" * (NETWORK_BYTES_MAX + 5))
        await current_clock().advance(days=3)
        assert client.told == server.told == ["made"]
        assert client.received == server.received == b""
        assert client.transport.get_write_buffer_size() == 5
        client.transport.abort()
        await rest()
        assert client.told == ["made", "lost"]
        assert server.told == ["made"]

    run(main)


def test_a_delay_keeps_the_order() -> None:
    """What is sent arrives that much later, per direction, and never before what was sent earlier."""

    async def main() -> None:
        client, server, link = pair(8)
        await rest()
        clock = current_clock()
        arrivals: list[float] = []
        server.on_data = lambda: arrivals.append(clock.elapsed_s())
        link.delay(up_s=5)
        client.transport.write(b"a")
        await clock.advance(1)
        link.delay()
        client.transport.write(b"b")
        server.transport.write(b"at once")
        await rest()
        assert client.received == b"at once"
        assert server.received == b""
        await clock.advance(4)
        assert server.received == b"ab"
        assert set(arrivals) == {5.0}

    run(main)


def test_a_crashed_server_hears_nothing() -> None:
    """Its protocol is told nothing more; the client's connection is reset."""

    async def main() -> None:
        client, server, link = pair(9)
        await rest()
        client.transport.write(b"hello")
        link.crash_server()
        server.transport.write(b"from the grave")
        server.transport.close()
        server.transport.abort()
        await rest()
        assert server.told == ["made"]
        assert server.received == b""
        assert isinstance(client.error, ConnectionResetError)
        assert not link.is_open

    run(main)
