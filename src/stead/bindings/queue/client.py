"""What other units see of a queue."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from stead import codec
from stead.api import Env, Namespace
from stead.bindings.queue.actor import DEAD_LETTERS
from stead.bindings.queue.message import BATCH_MESSAGES_MAX, Leased, Pulled, leased, outgoing
from stead.bindings.queue.parcel import ContentType, Outgoing, pack, unpack_parcels
from stead.errors import Invalid


class QueueStatus(msgspec.Struct, frozen=True):
    """A queue as an operator sees it. `oldest_s`: for how long the first message has been ready."""

    messages: int
    in_hands: int
    dead_letters: int
    paused: bool
    oldest_s: float
    observer: str | None = None


class Held(Protocol):
    """What names a message in the hands of a consumer."""

    @property
    def shard(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def number(self) -> int: ...


class _Lease(NamedTuple):
    shard: str
    key: str
    number: int


_Numbers = dict[str, list[int]]  # of messages, by the key of their parcel


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
        await self._enqueue([outgoing([body], content_type, delay_s)])

    async def send_batch(self, bodies: Iterable[Any], delay_s: float = 0.0, content_type: ContentType = "json") -> None:
        """Send up to 1,000 messages together: all of them or none."""
        batch = list(bodies)
        if len(batch) > BATCH_MESSAGES_MAX:
            raise Invalid(f"at most {BATCH_MESSAGES_MAX:,} messages at a time, got {len(batch):,}")
        if batch:
            await self._enqueue([outgoing(batch, content_type, delay_s)])

    # -- pulling -------------------------------------------------------------------------------------------------------------------

    async def lease(self, limit: int = 10, lease_s: float = 30.0) -> list[Leased]:
        """Up to `limit` messages, which nobody else gets for `lease_s` seconds. Their `value()` is the body."""
        found: list[Leased] = []
        first = next(self._next)
        for shard in range(self._shards):
            actor = self._namespace.get(str((first + shard) % self._shards))
            found += _leased(actor, await actor.lease(limit - len(found), lease_s))
            if len(found) == limit:
                break
        return found

    async def ack(self, messages: Sequence[Leased]) -> int:
        """These are done. Returns how many of the leases still held."""
        return await self._settle(messages, ())

    async def retry(self, messages: Sequence[Leased], delay_s: float | None = None) -> int:
        """These are to be handed out again. Returns how many of the leases still held."""
        return await self._settle((), messages, delay_s)

    async def _settle(self, done: Iterable[Held], again: Iterable[Held], delay_s: float | None = None) -> int:
        verdicts: dict[str, tuple[_Numbers, _Numbers]] = {}
        for verdict, messages in enumerate((done, again)):
            for message in messages:
                numbers = verdicts.setdefault(message.shard, ({}, {}))[verdict]
                numbers.setdefault(message.key, []).append(message.number)
        return sum([await self._namespace.get(shard).settle_leased(*verdicts[shard], delay_s) for shard in sorted(verdicts)])

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
            found += _leased(shard, await shard.peek(limit))
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
        done = [self._held(lease) for lease in codec.convert(ack, Sequence[str])]  # type: ignore[type-abstract]
        again = [self._held(lease) for lease in codec.convert(retry, Sequence[str])]  # type: ignore[type-abstract]
        return await self._settle(done, again, delay_s)

    def _held(self, lease: str) -> Held:
        shard, _, rest = lease.partition("-")
        number, _, key = rest.partition("/")
        if not key or not number.isdecimal() or shard not in map(str, range(self._shards)):
            raise Invalid(f"{lease[:80]!r} is no lease of this queue")
        return _Lease(shard, key, int(number))

    async def look(self, limit: int = 10, dead: bool = False) -> list[Pulled]:
        """`peek`, as JSON; what it shows as `lease` settles nothing."""
        return [message.pulled() for message in await self.peek(limit, dead=dead)]

    # -- moving --------------------------------------------------------------------------------------------------------------------

    async def take_over(self, messages: Sequence[Outgoing]) -> None:
        """Add messages that were another queue's, or dead."""
        await self._enqueue(messages)

    async def bury(self, messages: Sequence[Outgoing]) -> None:
        """Add messages to the dead letters."""
        await self._namespace.get(DEAD_LETTERS).signal("enqueue", pack(messages))

    def _all(self) -> list[Any]:
        return [self._namespace.get(str(shard)) for shard in range(self._shards)]

    async def _enqueue(self, messages: Sequence[Outgoing]) -> None:
        shard = self._namespace.get(str(next(self._next) % self._shards))
        await shard.signal("enqueue", pack(messages))


def _leased(shard: Any, parcels: bytes) -> list[Leased]:
    return [message for key, parcel in unpack_parcels(parcels).items() for message in leased(shard.id.text, key, parcel)]
