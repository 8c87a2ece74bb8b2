"""What an exchange between two nodes costs: `python tests/process/measure_channels.py [--concurrent 64] [--seconds 5]`.

Two processes with a channel on loopback, and nothing else of a node. One asks, so many at once: an opening of 100 bytes, an answer
of 100 bytes, both ended. Printed: exchanges a second, CPU of both processes for each, and megabytes a second of one large stream.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import sys
from typing import Any

import uvloop

from stead.clock import SystemClock
from stead.cluster import Conversation, Listener, Peers, WebSocketNetwork
from stead.ids import Chance
from stead.storage.membership import Member, NodeInfo

KEYS = (b"0123456789abcdef0123456789abcdef",)
ASKING, ANSWERING = 1, 2
PAYLOAD = b"x" * 100
CHUNK_BYTES = 64 * 1024


class Answer:
    """Answers each payload of PAYLOAD's size with one, and consumes all others."""

    def __init__(self, opening: bytes, conversation: Conversation) -> None:
        self._conversation = conversation
        if opening:
            conversation.send(PAYLOAD)
            conversation.end()

    def received(self, payload: bytes) -> None:
        self._conversation.consumed(len(payload))

    def ended(self) -> None:
        self._conversation.end()

    def lost(self) -> None: ...


class Question:
    """Asks again as soon as it is answered, until `until_s`."""

    def __init__(self, peers: Peers, until_s: float) -> None:
        self.count = 0
        self.done = asyncio.get_running_loop().create_future()
        self._peers = peers
        self._until_s = until_s
        self._clock = SystemClock()
        self.ask()

    def ask(self) -> None:
        conversation = self._peers.open(ANSWERING, PAYLOAD, self)
        conversation.end()

    def received(self, payload: bytes) -> None:
        self.count += 1

    def ended(self) -> None:
        if self._clock.elapsed_s() < self._until_s:
            self.ask()
        else:
            self.done.set_result(None)

    def lost(self) -> None:
        self.done.set_exception(RuntimeError("the channel was lost"))


class Stream:
    """Hears the end of a stream."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()

    def received(self, payload: bytes) -> None: ...

    def ended(self) -> None:
        self.done.set_result(None)

    def lost(self) -> None:
        self.done.set_exception(RuntimeError("the channel was lost"))


def answer(peer: int, opening: bytes, conversation: Conversation) -> Listener:
    return Answer(opening, conversation)


async def make_peers(incarnation: int, others: list[tuple[int, str]]) -> tuple[Peers, str]:
    peers = Peers(WebSocketNetwork(KEYS), KEYS, Chance())
    peers.on_conversation = answer
    peers.on_channel = lambda _: None
    address = await peers.listen("127.0.0.1:0")
    peers.become(incarnation)
    peers.update([Member(number, NodeInfo(str(number), where), False, 5.0) for number, where in others])
    return peers, address


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve() -> None:
    """The process that answers: says its address, then its CPU seconds whenever a line comes."""
    peers, address = await make_peers(ANSWERING, [])
    print(address, flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(cpu_s(), flush=True)
    await peers.close()


async def ask(options: Any) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--serve", "--loop", options.loop),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()

    async def other_cpu_s() -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"\n")
        return float(await process.stdout.readline())

    peers, _ = await make_peers(ASKING, [(ANSWERING, address)])
    assert await peers.wait_connected(ANSWERING, 5.0)
    clock = SystemClock()
    for concurrent in (1, options.concurrent):
        own, other, begun_s = cpu_s(), await other_cpu_s(), clock.elapsed_s()
        questions = [Question(peers, begun_s + options.seconds) for _ in range(concurrent)]
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        await asyncio.gather(*(question.done for question in questions))
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        count, passed_s = sum(question.count for question in questions), clock.elapsed_s() - begun_s
        own, other = cpu_s() - own, await other_cpu_s() - other
        print(
            f"{concurrent:3} at once: {count / passed_s:9,.0f} exchanges/s; CPU for each: "
            f"{own / count * 1e6:.1f} µs here, {other / count * 1e6:.1f} µs there"
        )
    begun_s, own, other = clock.elapsed_s(), cpu_s(), await other_cpu_s()
    stream, stream_bytes = Stream(), options.stream_mib * 1024 * 1024
    conversation = peers.open(ANSWERING, b"", stream)
    chunk = bytes(CHUNK_BYTES)
    for _ in range(stream_bytes // CHUNK_BYTES):
        await conversation.wait_room()
        conversation.send(chunk)
    conversation.end()
    await stream.done
    passed_s, own, other = clock.elapsed_s() - begun_s, cpu_s() - own, await other_cpu_s() - other
    print(
        f"a stream: {stream_bytes / passed_s / 1e6:,.0f} MB/s; CPU for each MB: {own / stream_bytes * 1e12:.0f} µs here, "
        f"{other / stream_bytes * 1e12:.0f} µs there"
    )
    await peers.close()
    process.stdin.close()
    await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stream-mib", type=int, default=512)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", action="store_true", help="be the other process")
    options = parser.parse_args()
    main = serve() if options.serve else ask(options)
    (uvloop.run if options.loop == "uvloop" else asyncio.run)(main)


if __name__ == "__main__":
    main()
