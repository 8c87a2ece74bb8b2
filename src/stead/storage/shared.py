"""`SharedMemoryEngine`: the contract of `membership.py` in dictionaries, for tests of several nodes on one loop.

A `SharedStore` is what would be in the database, leases included, which it measures on a clock of its own: it is the nodes that
have wrong clocks. Each node opens an engine over it; none of them is told what the others do.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from stead.clock import Clock
from stead.ids import ActorId, Chance
from stead.logic.placement import rank_of, slice_of
from stead.storage.contract import OwnedElsewhere
from stead.storage.membership import LeaseLost, Member, NameTaken, NodeInfo
from stead.storage.memory import NOBODYS, MemoryEngine, MemoryStore

INCARNATIONS = 1 << 62  # so many that two nodes never draw the same, and they fit a signed integer of 64 bits


class NodeRow(msgspec.Struct, frozen=True):
    """One life of a node as stored."""

    incarnation: int
    info: NodeInfo
    lease_s: float
    expires_s: float  # on the store's clock
    is_draining: bool = False
    is_cut_off: bool = False


class SharedStore(MemoryStore):
    """What all nodes see. Besides `apply` and `own`, `enrol` and `strike` change it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.nodes: dict[int, NodeRow] = {}  # by incarnation

    def live(self) -> list[NodeRow]:
        """The nodes whose lease holds, by incarnation."""
        now_s = self.clock.elapsed_s()
        return sorted((row for row in self.nodes.values() if row.expires_s > now_s), key=lambda row: row.incarnation)

    def live_owner(self, text: str) -> int:
        """Whose lease holds and who owns that actor; 0 if nobody."""
        row = self.nodes.get(self.owners.get(text, NOBODYS).owner)
        return 0 if row is None or row.expires_s <= self.clock.elapsed_s() else row.incarnation

    def enrol(self, row: NodeRow) -> None:
        self.nodes[row.incarnation] = row

    def strike(self, incarnation: int) -> None:
        self.nodes.pop(incarnation, None)


class SharedMemoryEngine(MemoryEngine):
    """One node's opening of `store`; its incarnations come from `chance`."""

    store: SharedStore

    def __init__(self, store: SharedStore, chance: Chance) -> None:
        super().__init__(store)
        self._chance = chance
        self._generation = store.generation  # in which it joined

    @property
    def flights(self) -> int:
        return 2

    @property
    def incarnation(self) -> int:
        return self._owner

    @property
    def has_fixed_owners(self) -> bool:
        return False

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        self._check_open()
        last = None if takes_name else self.store.nodes.get(self._owner)
        live = self.store.live()
        if not takes_name and any(row.info.name == info.name and row.incarnation != self._owner for row in live):
            raise NameTaken(f"another process runs as node {info.name}")
        for row in list(self.store.nodes.values()):
            if row not in live or row.info.name == info.name:
                self.store.strike(row.incarnation)
        self._owner, self._generation = 1 + self._chance.below(INCARNATIONS - 1), self.store.generation
        expires_s = self.store.clock.elapsed_s() + lease_s
        self.store.enrol(NodeRow(self._owner, info, lease_s, expires_s, is_draining if last is None else last.is_draining))

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        self._check_open()
        now_s, row = self.store.clock.elapsed_s(), self.store.nodes.get(self._owner)
        if row is None or row.expires_s <= now_s or self._generation != self.store.generation:
            raise LeaseLost(f"the lease of node {self._owner} is over, or the database has failed over")
        said = row.is_cut_off if is_cut_off is None else is_cut_off
        self.store.enrol(msgspec.structs.replace(row, expires_s=now_s + row.lease_s, is_cut_off=said))
        return [
            Member(row.incarnation, row.info, row.is_draining, row.expires_s - now_s, row.is_cut_off) for row in self.store.live()
        ]

    async def leave(self) -> None:
        self._check_open()
        self.store.strike(self._owner)
        self._owner = 0

    async def set_draining(self, name: str, is_draining: bool) -> bool:
        self._check_open()
        row = next((row for row in self.store.live() if row.info.name == name), None)
        if row is not None:
            self.store.enrol(msgspec.structs.replace(row, is_draining=is_draining))
        return row is not None

    async def owner(self, actor: ActorId) -> int | None:
        self._check_open()
        return self.store.live_owner(actor.text) or None

    async def owned(self, incarnation: int | None = None) -> dict[int, int]:
        self._check_open()
        owned = Counter(ownership.owner for ownership in self.store.owners.values())
        return {row.incarnation: owned[row.incarnation] for row in self.store.live() if incarnation in {None, row.incarnation}}

    def _begin(self) -> int:
        return 0

    def _check_claim(self, actor: ActorId) -> None:
        if not self._owner:
            raise LeaseLost("only a node that has joined can own actors")
        owner = self.store.live_owner(actor.text)
        if owner not in {0, self._owner}:
            raise OwnedElsewhere(owner)

    def _alarms(self) -> list[tuple[int, str, str]]:
        sharing = [row.incarnation for row in self.store.live() if not row.is_cut_off]
        return [alarm for alarm in self.store.alarms if self._fires(alarm[1], sharing)]

    def _fires(self, text: str, sharing: list[int]) -> bool:
        """Whether this node fires an actor's alarms, where those nodes share the orphans'."""
        owner = self.store.live_owner(text)
        if owner or self._owner not in sharing:
            return owner == self._owner != 0
        return self._owner == sharing[rank_of(slice_of(text), len(sharing))]
