"""What an engine must do: the contract that `memory`, `sqlite` and `postgres` keep, checked by one conformance suite.

An engine keeps each actor's *entries* (its whole durable self, as bytes), a *registry* of the actors there are, and an index of
their *alarms*. Ownership is a number: `claim` hands out an epoch, larger than every earlier one of that actor, and `commit`
refuses, durably and for ever, what carries a smaller one. Time decides liveness, never safety.

Nothing here assumes a local file or an answer without waiting: every method may suspend. Nor that the caller is alone: what engines
do that several nodes share is in `membership.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from stead.errors import EngineFailed
from stead.ids import ActorId

LOAD_BYTES_MAX = 256 * 1024  # an actor up to this size is loaded whole by `claim`: one read instead of many
KEY_BYTES_MAX = 2048 + 1  # a user's key and the byte that says whose it is
BATCH_COMMITS_MAX = 1024  # one transaction: bounds what a failing flush takes with it and how long one takes


class OwnedElsewhere(Exception):
    """Another node owns the actor and its lease holds; nothing was claimed. The caller goes there: no user ever sees it."""

    def __init__(self, owner: int) -> None:
        super().__init__(f"the node {owner} owns it")
        self.owner = owner  # the node's incarnation


class Commit(msgspec.Struct, frozen=True, gc=False):
    """What one turn of one actor makes durable, whole or not at all."""

    actor: ActorId
    epoch: int
    seq: int  # counts the actor's commits from 1 without gaps, over all its epochs
    writes: Mapping[bytes, bytes | None]  # None deletes
    alarms: Mapping[str, int | None]  # name to due wall milliseconds; None removes
    size_bytes: int  # all keys and values once this has been applied
    at_ms: int  # wall time of the turn
    erase: bool = False  # drop every entry and alarm before applying the writes


class Refused(msgspec.Struct, frozen=True):
    """The verdict on a commit that could not be stored though others of its batch were. As false as that on a fenced one."""

    error: EngineFailed  # why: something that it holds, as a rule

    def __bool__(self) -> Literal[False]:
        return False


Verdict = bool | Refused


class Claim(msgspec.Struct, frozen=True):
    """The right to commit for an actor, and where its history stands."""

    epoch: int
    seq: int  # of the last commit; 0 if there was none
    size_bytes: int
    entries: dict[bytes, bytes] | None  # None: over LOAD_BYTES_MAX, read by key
    generation: int = 0  # of the store: see `membership.py`. Always 0 where it cannot lose what it has confirmed


class ActorRow(msgspec.Struct, frozen=True):
    """A line of the registry."""

    actor: ActorId
    epoch: int
    seq: int
    size_bytes: int
    created_ms: int
    active_ms: int  # of the last commit


class AlarmRow(msgspec.Struct, frozen=True):
    """A line of the alarm index."""

    due_ms: int
    actor: ActorId
    name: str


class Engine(Protocol):
    """Where actors are durable. Every method raises `EngineFailed` when the medium fails; the message says what to do."""

    @property
    def flights(self) -> int:
        """How many batches it works on at once: no more are worth sending. Batches under way together share no actor."""
        ...

    async def claim(self, actor: ActorId) -> Claim:
        """Make the caller the owner: later commits with an earlier epoch are refused. An actor never seen has seq 0, no entries.

        Raises `OwnedElsewhere` while another node owns it, which an engine of one node never does.
        """
        ...

    async def release(self, actor: ActorId, epoch: int) -> None:
        """Give ownership up, where it is still held. Later commits with this epoch are refused."""
        ...

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        """Make the batch durable in one atomic step and say for each commit, in order, whether it was applied.

        False means fenced: the epoch is no longer the owner's, or `seq` does not follow the last one. `Refused` tells another
        reason. The others are unaffected. If it raises `EngineFailed`, nothing of the batch was applied; if `Ambiguous`, all of it
        or nothing, and the engine could not find out in time. At most BATCH_COMMITS_MAX commits; one actor may appear several
        times, in the order of its `seq`; a refused commit refuses the later ones of the same claim.
        """
        ...

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The committed values of those of `keys` that exist."""
        ...

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Committed entries with start <= key < end (None: no end), ordered by key bytes, from the end backwards if `reverse`."""
        ...

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        """Alarms with due_ms <= before_ms that are the caller's to fire, earliest first (then by actor and name).

        They are all its own where nobody shares the engine.
        """
        ...

    async def next_due_ms(self) -> int | None:
        """When the earliest of the alarms that are the caller's to fire is due, None if there is none."""
        ...

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        """Actors that hold anything (size_bytes > 0), ordered by their id's text.

        `unit` None means all; `prefix` is a prefix of the name (an actor without name has none and matches only ""); `after` is the
        id's text of the last one already seen.
        """
        ...

    async def close(self) -> None:
        """Let go of files and threads. What was acknowledged stays; commits under way end first."""
        ...
