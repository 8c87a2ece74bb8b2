"""What tests do with an engine: the commits of a claim, and all that an actor holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stead.ids import ActorId, named_id
from stead.storage.contract import Claim, Commit, Engine

A, B, C = named_id("cart", "a"), named_id("cart", "b"), named_id("cart", "c")


@dataclass
class Turns:
    """The turns of one claim: makes its commits, numbered."""

    actor: ActorId
    claim: Claim
    at_ms: int = 1_000
    seq: int = field(init=False)

    def __post_init__(self) -> None:
        self.seq = self.claim.seq

    def turn(
        self,
        writes: Mapping[bytes, bytes | None] | None = None,
        *,
        alarms: Mapping[str, int | None] | None = None,
        erase: bool = False,
        size_bytes: int = 1,
    ) -> Commit:
        """The next commit."""
        self.seq += 1
        return Commit(self.actor, self.claim.epoch, self.seq, writes or {}, alarms or {}, size_bytes, self.at_ms + self.seq, erase)


async def claimed(engine: Engine, actor: ActorId) -> Turns:
    """Claim `actor` and go on from its last commit."""
    return Turns(actor, await engine.claim(actor))


async def everything(engine: Engine, actor: ActorId) -> dict[bytes, bytes]:
    """All entries of `actor`, by scan."""
    return dict(await engine.scan(actor, b"", None))
