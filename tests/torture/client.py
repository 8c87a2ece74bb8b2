"""Clients: each sends one request after the other, to any node, and notes what it can be held to.

A request that was refused (503) has not run and is sent again. One without an answer, or that is answered as `Ambiguous` (504), may
have run: it is sent again only where it carries an idempotency key, and else counts as in doubt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from stead.clock import SystemClock, sleep
from stead.ids import Chance
from tests.crash.connection import Answer, Connection, NeverCame, ServerGone, connected
from tests.torture.accounts import Transfer
from tests.torture.availability import Attempt
from tests.torture.counters import Count
from tests.torture.history import History
from tests.torture.nodes import Node
from tests.torture.probes import Probes
from tests.torture.registers import Access

RETRY_S = 0.1  # where a refusal does not say when
CONNECT_S = 0.05  # before the next try where a node refuses connections
CONNECTION_REQUESTS = 50  # over one connection, about: then another node is chosen
AMOUNT_MAX = 5
KEYED = 0.4  # of the requests that could have a key
CLOCK = SystemClock()


@dataclass(frozen=True)
class Load:
    """So many clients, each pausing `pause_s` on average between requests, on so many actors."""

    clients: int = 64
    pause_s: float = 0.12
    counters: int = 500
    registers: int = 20
    accounts: int = 100


@dataclass(frozen=True)
class Request:
    """What is asked of an actor, with a key or not."""

    actor: str  # kind/name
    method: str
    path: str
    body: object = None
    key: str = ""

    @property
    def look(self) -> str:
        """The path that reads the actor."""
        kind, _, name = self.actor.partition("/")
        return f"/{kind}s/{name}"


class Client:
    """One of many. `patience_s` is how long it waits for one answer; `probes` ask for what it misses."""

    def __init__(
        self,
        number: int,
        nodes: Sequence[Node],
        load: Load,
        history: History,
        chance: Chance,
        patience_s: float,
        probes: Probes,
    ) -> None:
        self._name = f"c{number}"
        self._nodes = nodes
        self._load = load
        self._history = history
        self._chance = chance
        self._patience_s = patience_s
        self._probes = probes
        self._requests = 0
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None
        self._edge = nodes[number % len(nodes)]

    async def work(self, end: asyncio.Event) -> None:
        """Send requests until then, and see the last one through."""
        try:
            while not end.is_set():
                await sleep(self._load.pause_s * 2 * self._chance.fraction())
                await self._one()
        finally:
            await self._stack.aclose()

    async def look(self, request: Request) -> Any:
        """The value of an answer that must come."""
        answer = await self._settled(request)
        assert answer is not None and answer.status == 200, f"{request.path} was answered with {answer}"
        return answer.value

    async def close(self) -> None:
        await self._stack.aclose()

    async def count(self, name: str, *, is_read: bool) -> None:
        """Ask a counter, or have it count."""
        begin_s = CLOCK.elapsed_s()
        request = Request(f"counter/{name}", "GET" if is_read else "POST", f"/counters/{name}", key="" if is_read else self._key())
        answer = await self._settled(request)
        if answer is not None:
            self._history.counts[name].append(Count(begin_s, answer.value["value"], CLOCK.elapsed_s(), is_read))
        elif not is_read:
            self._history.counts[name].append(Count(begin_s, None))
            await self.count(name, is_read=True)  # whoever is in doubt looks

    async def read(self, name: str) -> str | None:
        """What a register holds, as far as it was told."""
        begin_s = CLOCK.elapsed_s()
        answer = await self._settled(Request(f"register/{name}", "GET", f"/registers/{name}"))
        if answer is None:
            return None
        value = answer.value["value"]
        self._history.accesses[name].append(Access(begin_s, value, value, CLOCK.elapsed_s()))
        return None if value is None else str(value)

    # -- what it sends -------------------------------------------------------------------------------------------------------------

    async def _one(self) -> None:
        self._requests += 1
        kind = self._chance.fraction()
        if kind < 0.55:
            await self.count(self._some(self._load.counters), is_read=False)
        elif kind < 0.65:
            await self.count(self._some(self._load.counters), is_read=True)
        elif kind < 0.70:
            await self.read(self._some(self._load.registers))
        elif kind < 0.75:
            await self._write(self._some(self._load.registers))
        elif kind < 0.80:
            await self._swap(self._some(self._load.registers))
        else:
            await self._transfer()

    def _some(self, count: int) -> str:
        """Half of all requests are for an eighth of the actors, so that some are asked often."""
        return str(int(count * self._chance.fraction() ** 3))

    def _key(self) -> str:
        return self._unique() if self._chance.fraction() < KEYED else ""

    def _unique(self) -> str:
        return f"{self._name}-{self._requests}"

    async def _write(self, name: str) -> None:
        begin_s, value = CLOCK.elapsed_s(), self._unique()
        answer = await self._settled(Request(f"register/{name}", "POST", f"/registers/{name}", {"value": value}))
        if answer is not None:
            self._history.accesses[name].append(Access(begin_s, value, end_s=CLOCK.elapsed_s(), is_blind=True))
            return
        self._history.accesses[name].append(Access(begin_s, value, is_blind=True))
        await self.read(name)

    async def _swap(self, name: str) -> None:
        old = await self.read(name)
        begin_s, value = CLOCK.elapsed_s(), self._unique()
        answer = await self._settled(Request(f"register/{name}", "POST", f"/registers/{name}", {"old": old, "value": value}))
        if answer is not None:
            found = answer.value["value"]
            left = value if found == old else found
            self._history.accesses[name].append(Access(begin_s, left, found, CLOCK.elapsed_s()))
            return
        self._history.accesses[name].append(Access(begin_s, value, old))
        await self.read(name)

    async def _transfer(self) -> None:
        source, to = self._chance.below(self._load.accounts), self._chance.below(self._load.accounts - 1)
        to += to >= source
        amount, name = 1 + self._chance.below(AMOUNT_MAX), self._unique()
        path = f"/accounts/{source}/transfers/{name}"
        answer = await self._settled(Request(f"account/{source}", "POST", path, {"to": str(to), "amount": amount}, self._key()))
        is_done = None if answer is None else answer.status == 200
        self._history.transfers.append(Transfer(name, str(source), str(to), amount, is_done))
        if answer is None:
            await self._settled(Request(f"account/{source}", "GET", f"/accounts/{source}"))

    # -- how it is answered --------------------------------------------------------------------------------------------------------

    async def _settled(self, request: Request) -> Answer | None:
        """The answer after as many attempts as are harmless, None where it may have run."""
        while True:
            connection = await self._connected()
            begin_s = CLOCK.elapsed_s()
            try:
                with self._probes.watch(request.actor, request.look):
                    answer = await connection.exchange(request.method, request.path, request.body, request.key, self._patience_s)
            except (ServerGone, NeverCame) as exc:
                self._note(request, begin_s, "", "cut off" if isinstance(exc, ServerGone) else "no answer")
                await self._disconnect()
                if request.key or request.method == "GET":
                    continue
                return None
            owner = answer.value.get("owner", "").partition(":")[0] if answer.status == 200 else ""
            if answer.status == 409:  # an answer as good as any, which does not say whose it is
                owner = "?"
            self._note(request, begin_s, owner, str(answer.status))
            if answer.status in {200, 409}:
                return answer
            if answer.status == 503:
                await self._disconnect()
                await sleep(answer.retry_after_s or RETRY_S)
            elif answer.status != 504:
                self._history.wrong.append(f"{request.method} {request.path} was answered with {answer.status}: {answer.value}")
                return None
            elif not request.key and request.method != "GET":
                return None

    def _note(self, request: Request, begin_s: float, owner: str, how: str) -> None:
        self._history.answers[how] += 1
        self._history.attempts.append(Attempt(request.actor, self._edge.name, begin_s, CLOCK.elapsed_s(), owner, how))
        if not owner:
            self._probes.miss(request.actor, request.look)

    async def _connected(self) -> Connection:
        if self._connection is not None and (self._connection.is_over or self._chance.below(CONNECTION_REQUESTS) == 0):
            await self._disconnect()
        while self._connection is None:
            self._edge = self._nodes[self._chance.below(len(self._nodes))]
            try:
                self._connection = await self._stack.enter_async_context(connected(self._edge.port))
            except ServerGone:
                await sleep(CONNECT_S)
        return self._connection

    async def _disconnect(self) -> None:
        self._connection = None
        await self._stack.aclose()
