"""The nodes of a cluster, as any one of them shows them to an operator. `admin.remote` asks a running server for the same.

Draining is a mark on the node's row: the node itself sees it with its next heartbeat and gives its actors to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from stead.errors import Invalid, Unavailable
from stead.ids import ActorId
from stead.storage.membership import LeaseLost, Member, SharedEngine

UP, DRAINING, CUT_OFF = "up", "draining", "cut off"


class NodeLine(msgspec.Struct, frozen=True):
    """A live node. `differs` is set where it runs another version of the application than most others."""

    name: str
    incarnation: str  # as text: JSON elsewhere has no whole numbers of this size
    address: str
    url: str
    region: str
    labels: dict[str, str]
    state: str  # UP, DRAINING or CUT_OFF
    lease_left_s: float
    actors: int  # that it owns
    application: str
    differs: bool


class Nodes(Protocol):
    """Looking at nodes and moving actors between them. Methods raise `Invalid` for what is not there."""

    async def list_nodes(self) -> list[NodeLine]:
        """Those that are alive, by name."""
        ...

    async def set_draining(self, name: str, is_draining: bool) -> None:
        """Have a node give its actors to others and take no more, or take actors again."""
        ...

    async def move(self, actor: ActorId, name: str) -> bool:
        """Give an actor to the node of that name. False if no node had it. Raises `Unavailable` if that node did not take it."""
        ...


class NodesHere(Nodes, Protocol):
    """The same, asked in a node's own process."""

    async def bring(self, actor: ActorId) -> None:
        """Have an actor here that another node has. Raises `Misdirected` where it cannot leave that one."""
        ...


class Misdirected(Unavailable):
    """Another worker behind the same port has to be asked: the same request, over another connection, may reach it."""

    status = 421


class Alone:
    """The nodes of a server that is the only one."""

    async def list_nodes(self) -> list[NodeLine]:
        raise _alone()

    async def set_draining(self, name: str, is_draining: bool) -> None:
        raise _alone()

    async def move(self, actor: ActorId, name: str) -> bool:
        raise _alone()

    async def bring(self, actor: ActorId) -> None:
        raise _alone()


def _alone() -> Invalid:
    return Invalid("this server is not part of a cluster: it has all actors itself. Nodes share them with --engine postgres://…")


class Mover(Protocol):
    """This node's part in the cluster, as far as operators need it."""

    async def move(self, actor: ActorId, name: str) -> bool: ...


class ClusterNodes:
    """The nodes that share `engine`, one of which this is."""

    def __init__(self, engine: SharedEngine, mover: Mover) -> None:
        self._engine = engine
        self._mover = mover

    async def list_nodes(self) -> list[NodeLine]:
        members = await self._members()
        owned = await self._engine.owned()
        usual = _usual_application(members)
        return [_line(member, owned.get(member.incarnation, 0), usual) for member in sorted(members, key=_name)]

    async def set_draining(self, name: str, is_draining: bool) -> None:
        if not await self._engine.set_draining(name, is_draining):
            raise _no_node(name, await self._members())

    async def move(self, actor: ActorId, name: str) -> bool:
        members = await self._members()
        member = next((member for member in members if member.info.name == name), None)
        if member is None:
            raise _no_node(name, members)
        if member.is_draining:
            raise Invalid(f"the node {name} is draining: `stead nodes uncordon {name}` lets it take actors again")
        if not await self._mover.move(actor, name):
            return False
        if await self._engine.owner(actor) != member.incarnation:
            raise Unavailable(
                f"{actor} has left its node, and {name} does not take it at this moment: who is asked for it next does"
            )
        return True

    async def bring(self, actor: ActorId) -> None:
        """Have an actor here, where another node has it."""
        own = self._engine.incarnation
        name = next((member.info.name for member in await self._members() if member.incarnation == own), None)
        if name is None:
            raise _unleased()
        await self._mover.move(actor, name)

    async def _members(self) -> list[Member]:
        """Who is alive at this moment. The heartbeat's own list may be older than what was just asked for."""
        try:
            return await self._engine.renew()
        except LeaseLost as exc:
            raise _unleased() from exc


class Workers(ClusterNodes):
    """The workers that divide a data directory. Each has its share for good."""

    async def move(self, actor: ActorId, name: str) -> bool:
        raise Invalid("workers that share a data directory keep their actors: only nodes with --engine postgres://… pass them on")

    async def bring(self, actor: ActorId) -> None:
        raise Misdirected(f"{actor} is another worker's; try again")


def _unleased() -> Unavailable:
    return Unavailable("this node has no lease at this moment; try again, or ask another node")


def _no_node(name: str, members: Sequence[Member]) -> Invalid:
    return Invalid(f"there is no live node {name!r}; there are: {', '.join(sorted(map(_name, members)))}")


def _name(member: Member) -> str:
    return member.info.name


def _usual_application(members: Sequence[Member]) -> str:
    counts = Counter(member.info.application for member in members)
    return max(sorted(counts), key=counts.__getitem__, default="")


def _line(member: Member, actors: int, usual: str) -> NodeLine:
    info = member.info
    return NodeLine(
        name=info.name,
        incarnation=str(member.incarnation),
        address=info.address,
        url=info.url,
        region=info.region,
        labels=info.labels,
        state=DRAINING if member.is_draining else CUT_OFF if member.is_cut_off else UP,
        lease_left_s=round(member.lease_left_s, 1),
        actors=actors,
        application=info.application,
        differs=info.application != usual,
    )
