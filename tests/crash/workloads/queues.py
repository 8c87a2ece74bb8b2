"""Messages over queues."""

from __future__ import annotations

from collections import Counter

from tests.crash.connection import Connection
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load

BATCH = 5  # messages of a request with many
LETTERS = frozenset({"singles/dead", "buried/0"})  # the actors that keep what failed too often
LATE_EVERY, POISON_EVERY = 7, 16  # groups whose last message is late, or poison


class Queues:
    """The queues of `tests/crash/apps/queues`. A request's messages, its group, all take effect once or none of them does, those of
    a turn exactly when its state is there. Poison is among the dead letters of its queue, and nothing else is."""

    name = "queues"
    place = ROOT / "tests" / "crash" / "apps" / "queues"

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, str]] = {}  # the place where each message of a group belongs; all that may have happened
        self._known: set[str] = set()  # groups that have happened: answered, or shown after a restart
        self._checks = 0

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number = client
        while True:
            number += 1
            way = ("singles", "batches", f"producers/{NAMES[client % len(NAMES)]}")[number % 3]
            await self._send(connection, way, f"{load.round}.{client}.{number}", number, load)

    async def _send(self, connection: Connection, way: str, group: str, number: int, load: Load) -> None:
        """Send a group: one message to one queue, a batch to the other, or by a turn both."""
        count = 1 if way == "singles" else BATCH
        kinds = ["good"] * (count - 1) + [
            "poison" if number % POISON_EVERY == 0 else "late" if number % LATE_EVERY == 0 else "good"
        ]
        tally = NAMES[number % len(NAMES)]
        bodies = [{"id": f"{group}.{index}", "to": tally, "kind": kind} for index, kind in enumerate(kinds)]
        dead = ["letters/batches" if way == "batches" or index else "letters/singles" for index in range(count)]
        self._groups[group] = {
            body["id"]: letters if body["kind"] == "poison" else f"tallies/{tally}"
            for body, letters in zip(bodies, dead, strict=True)
        }
        path = f"/{way}/{group}" if way.startswith("producers") else f"/{way}"
        status, answer = await connection.ask("POST", path, bodies)
        if status == 200:
            self._known.add(group)
            load.acknowledged += 1
        else:
            load.faults.append(f"{group} was answered with {status}: {answer}")

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        """Every second time after more messages, at which queues begin again at once; else their alarms wake them."""
        self._checks += 1
        load = Load(0)
        if self._checks % 2 == 0:
            for number, way in enumerate((*("singles",) * 2, "batches", *(f"producers/{name}" for name in NAMES))):
                await self._send(connection, way, f"check.{self._checks}.{number}", number, load)
        if faults := load.faults + await stored.undelivered(LETTERS):
            return faults
        found: dict[str, Counter[str]] = {}
        for place in (*(f"tallies/{name}" for name in NAMES), "letters/singles", "letters/batches"):
            status, messages = await connection.ask("GET", f"/{place}")
            if status != 200:
                return [f"{place} was answered with {status}: {messages}"]
            found[place] = Counter(messages)
        noted: set[str] = set()
        for name in NAMES:
            _, groups = await connection.ask("GET", f"/producers/{name}")
            noted.update(groups)
        return self._faults_of(found, noted)

    def _faults_of(self, found: dict[str, Counter[str]], noted: set[str]) -> list[str]:
        """What differs from one count of each message of each group that has happened; a part of a group is enough to say so."""
        there = {message.rpartition(".")[0] for messages in found.values() for message in messages}
        happened = self._known | noted | there
        expected: dict[str, Counter[str]] = {place: Counter() for place in found}
        for group in happened & self._groups.keys():
            for message, place in self._groups[group].items():
                expected[place][message] = 1
        faults = [f"{group} was never sent" for group in sorted(happened - self._groups.keys())]
        for place, messages in found.items():
            faults += [f"{message} is lost: it is not in {place}" for message in sorted(expected[place] - messages)]
            faults += [f"{message} is {messages[message]} times in {place}" for message in messages - expected[place]]
        self._groups = {group: self._groups[group] for group in happened & self._groups.keys()}
        self._known = set(self._groups)
        return faults
