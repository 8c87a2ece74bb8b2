"""W8: messages that a queue takes durably, and messages that are dealt with.

A contender's server sends and consumes by itself, as an application does, with so many clients at a time and so many messages in a
batch; the driver tells it when. A message counts as sent when it is on the disk, and as delivered when that it was acknowledged
is on the disk, too. All that is sent is then delivered, again and again until either has been measured for as long as was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import msgspec

from benchmarks.bench import Bench, Trial
from benchmarks.client import exchange
from benchmarks.contenders import Contender
from benchmarks.load import LoadFailed, Sample
from benchmarks.measures import Usage
from benchmarks.report import Run
from benchmarks.server import Server

BATCHES = (1, 10, 100)
CLIENTS = 8  # senders, and consumers, at a time
ROUNDS_MAX, MESSAGES_MAX = 400, 40_000  # of one client, and of all, before they are delivered: below what a shard holds


def sends(batch: int) -> str:
    """The variant's name."""
    return f"sends, batches of {batch}"


def deliveries(batch: int) -> str:
    """The variant's name."""
    return f"deliveries, batches of {batch}"


class Answer(msgspec.Struct, frozen=True):
    """What a server says of one path."""

    messages: int
    seconds: float


@dataclass
class Sum:
    """What one path came to, and what it took of the server."""

    variant: str
    messages: int = 0
    seconds: float = 0.0
    used: Usage = Usage(0.0, 0, 0, 0)
    fault: str = field(default="", kw_only=True)

    def ask(self, server: Server, path: str) -> int:
        """Returns how many messages it were."""
        before = server.usage()
        answer = msgspec.json.decode(exchange(server.port, "POST", [path]).bodies[0], type=Answer)
        used = server.usage().since(before)
        self.messages += answer.messages
        self.seconds += answer.seconds
        self.used = replace(used, cpu_s=self.used.cpu_s + used.cpu_s, written_bytes=self.used.written_bytes + used.written_bytes)
        return answer.messages

    def run(self, workload: str, contender: str, repeat: int) -> Run:
        sample = Sample(self.messages, self.seconds, 0.0, 0.0, self.fault)
        return Trial(workload, self.variant, contender, repeat).run(sample, self.used)


class QueueSession:
    """Fills a report with W8."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run(self, workload: str, contenders: Sequence[Contender]) -> None:
        with ExitStack() as stack:
            servers = []
            for contender in contenders:
                try:
                    data = stack.enter_context(self._bench.fresh(f"{workload}-{contender.name}"))
                    servers.append(stack.enter_context(Server(contender, data)))
                except LoadFailed as exc:
                    self._bench.report.notes.append(f"{workload} {contender.name} failed: {exc}")
            for batch in BATCHES:
                for repeat in range(self._bench.repeats):
                    for server in servers:
                        self._bench.on_step(f"{workload} {server.contender.name}, batches of {batch}")
                        for found in self._measure(server, batch):
                            self._bench.report.runs.append(found.run(workload, server.contender.name, repeat))

    def _measure(self, server: Server, batch: int) -> tuple[Sum, Sum]:
        """What was sent and what was delivered, after one round that does not count."""
        rounds = min(ROUNDS_MAX, MESSAGES_MAX // batch // CLIENTS)
        send, deliver = f"/send/{CLIENTS}/{batch}/{rounds}", f"/deliver/{CLIENTS}/{batch}"
        sent, delivered = Sum(sends(batch)), Sum(deliveries(batch))
        try:
            exchange(server.port, "POST", [send])
            exchange(server.port, "POST", [deliver])
            while not sent.fault and min(sent.seconds, delivered.seconds) < self._bench.seconds:
                expected = sent.ask(server, send)
                found = delivered.ask(server, deliver)
                sent.fault = delivered.fault = check_messages(expected, found)
        except LoadFailed as exc:
            sent.fault = delivered.fault = f"{exc} {server.ended()}".strip()
        return sent, delivered


def steps(repeats: int) -> int:
    """How often `on_step` is called for a contender."""
    return len(BATCHES) * repeats


def check_messages(sent: int, delivered: int) -> str:
    """What is wrong, "" if nothing: in a run without crashes each message is delivered once."""
    return "" if sent == delivered else f"{sent} messages were sent and {delivered} delivered"
