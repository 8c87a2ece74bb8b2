"""What other units see of a queue."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stead import codec
from stead.api import Env, Namespace
from stead.bindings.queue.actor import DEAD_LETTERS
from stead.bindings.queue.message import BATCH_MESSAGES_MAX, ContentType, Leased, Outgoing, Pulled, Verdict, outgoing, pack
from stead.errors import Invalid


class QueueStatus(msgspec.Struct, frozen=True):
    """A queue as an operator sees it. `oldest_s`: for how long the first message has been ready."""

    messages: int
    in_hands: int
    dead_letters: int
    paused: bool
    oldest_s: float
    observer: str | None = None


class Queue:
    """`await env.EMAIL_JOBS.send({"to": "ann"})`.

    Inside a turn a message commits with the turn's state, or is not sent; else it is in the queue, durably, when `send` returns.
    """

    def __init__(self, namespace: Namespace[Any], env: Env, shards: int = 1) -> None:
        self._namespace = namespace
        self._shards = shards
        self._next = itertools.count()

    async def send(self, body: Any, delay_s: float = 0.0, content_type: ContentType = "json") -> None:
        """Send a message, to be delivered in `delay_s` seconds (12 hours at most) or as soon as possible."""
        await self._enqueue([outgoing(body, content_type, delay_s)])

    async def send_batch(self, bodies: Iterable[Any], delay_s: float = 0.0, content_type: ContentType = "json") -> None:
        """Send up to 1,000 messages together: all of them or none."""
        messages = [outgoing(body, content_type, delay_s) for body in bodies]
        if len(messages) > BATCH_MESSAGES_MAX:
            raise Invalid(f"at most {BATCH_MESSAGES_MAX:,} messages at a time, got {len(messages):,}")
        if messages:
            await self._enqueue(messages)

    # -- pulling -------------------------------------------------------------------------------------------------------------------

    async def lease(self, limit: int = 10, lease_s: float = 30.0) -> list[Leased]:
        """Up to `limit` messages, which nobody else gets for `lease_s` seconds. Their `value()` is the body."""
        leased: list[Leased] = []
        first = next(self._next)
        for shard in range(self._shards):
            name = str((first + shard) % self._shards)
            leased += await self._namespace.get(name).lease(limit - len(leased), lease_s)
            if len(leased) == limit:
                break
        return leased

    async def ack(self, messages: Sequence[Leased]) -> int:
        """These are done. Returns how many of the leases still held."""
        return await self._settle([(message, Verdict(message.key, True)) for message in messages])

    async def retry(self, messages: Sequence[Leased], delay_s: float | None = None) -> int:
        """These are to be handed out again. Returns how many of the leases still held."""
        return await self._settle([(message, Verdict(message.key, False, delay_s)) for message in messages])

    async def _settle(self, verdicts: Sequence[tuple[Leased, Verdict]]) -> int:
        held = 0
        shards = {message.shard for message, _ in verdicts}
        for shard in sorted(shards):
            own = [verdict for message, verdict in verdicts if message.shard == shard]
            held += await self._namespace.get(shard).settle_leased(own)
        return held

    # -- operating -----------------------------------------------------------------------------------------------------------------

    async def status(self) -> QueueStatus:
        states = [await shard.status() for shard in self._all()]
        dead = await self._namespace.get(DEAD_LETTERS).status()
        return QueueStatus(
            messages=sum(state["messages"] for state in states),
            in_hands=sum(state["in_hands"] for state in states),
            dead_letters=dead["messages"],
            paused=any(state["paused"] for state in states),
            oldest_s=max(state["oldest_s"] for state in states),
            observer=states[0]["observer"],
        )

    async def peek(self, limit: int = 10, *, dead: bool = False) -> list[Leased]:
        """Up to `limit` messages, which stay where they are."""
        found: list[Leased] = []
        for shard in [self._namespace.get(DEAD_LETTERS)] if dead else self._all():
            found += await shard.peek(limit)
        return sorted(found, key=lambda message: message.key)[:limit]

    async def pause(self) -> None:
        """Hand nothing out until `resume`. Senders go on."""
        for shard in self._all():
            await shard.set_paused(True)

    async def resume(self) -> None:
        for shard in self._all():
            await shard.set_paused(False)

    async def purge(self, *, dead: bool = False) -> int:
        """Delete every message, or every dead letter, and say how many there were."""
        return sum([await shard.purge() for shard in ([self._namespace.get(DEAD_LETTERS)] if dead else self._all())])

    async def replay_dead(self, limit: int = BATCH_MESSAGES_MAX) -> int:
        """Send up to `limit` dead letters again, as new messages, and say how many."""
        return int(await self._namespace.get(DEAD_LETTERS).replay(limit))

    # -- for who is outside, as JSON -----------------------------------------------------------------------------------------------

    async def pull(self, limit: int = 10, lease_s: float = 30.0) -> list[Pulled]:
        """`lease`, for a consumer that speaks JSON."""
        return [message.pulled() for message in await self.lease(limit, lease_s)]

    async def settle(self, ack: Sequence[str] = (), retry: Sequence[str] = (), delay_s: float | None = None) -> int:
        """Settle what was pulled, by its `lease`. Returns how many of the leases still held."""
        done = [(lease, True, None) for lease in codec.convert(ack, Sequence[str])]  # type: ignore[type-abstract]
        again = [(lease, False, delay_s) for lease in codec.convert(retry, Sequence[str])]  # type: ignore[type-abstract]
        verdicts: dict[str, list[Verdict]] = {}
        for lease, is_done, later_s in done + again:
            shard, _, key = lease.partition("/")
            if not key or shard not in map(str, range(self._shards)):
                raise Invalid(f"{lease[:80]!r} is no lease of this queue")
            verdicts.setdefault(shard, []).append(Verdict(key, is_done, later_s))
        return sum([await self._namespace.get(shard).settle_leased(own) for shard, own in verdicts.items()])

    async def look(self, limit: int = 10, dead: bool = False) -> list[Pulled]:
        """`peek`, as JSON; what it shows as `lease` settles nothing."""
        return [message.pulled() for message in await self.peek(limit, dead=dead)]

    # -- moving --------------------------------------------------------------------------------------------------------------------

    async def take_over(self, messages: Sequence[Outgoing]) -> None:
        """Add messages that were another queue's, or dead."""
        await self._enqueue(list(messages))

    async def bury(self, messages: Sequence[Outgoing]) -> None:
        """Add messages to the dead letters."""
        await self._namespace.get(DEAD_LETTERS).signal("enqueue", pack(messages))

    def _all(self) -> list[Any]:
        return [self._namespace.get(str(shard)) for shard in range(self._shards)]

    async def _enqueue(self, messages: list[Outgoing]) -> None:
        shard = self._namespace.get(str(next(self._next) % self._shards))
        await shard.signal("enqueue", pack(messages))
