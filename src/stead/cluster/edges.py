"""The edge's side of connections: the clients that are connected to this node, by their actors, wherever those are."""

from __future__ import annotations

from stead.cluster.conversation import Conversation, Deaf, Listener
from stead.cluster.edge_room import Door, EdgeRoom, Places
from stead.cluster.peers import Peers
from stead.cluster.sockets import EdgeSocket
from stead.errors import Overloaded
from stead.events import Handover
from stead.ids import ActorId
from stead.runtime import Rooms, Tasks, Wire, uri_of

RETRY_AFTER_S = 5.0  # told to who finds too many others waiting


class Edges:
    """One per node of a cluster."""

    def __init__(self, places: Places, peers: Peers, rooms: Rooms, tasks: Tasks, edge_id: int) -> None:
        self.places = places
        self.peers = peers
        self.tasks = tasks
        self.edge_id = edge_id  # of this process, whatever its incarnation
        self.door: Door
        self._rooms = rooms
        self._edge_rooms: dict[str, EdgeRoom] = {}

    def admit(self, handover: Handover) -> None:
        """Raise `HTTPException`, `Overloaded` or `Unavailable` if the client cannot be let in now. The owner may close it still."""
        self._rooms.admit(handover)
        room = self._edge_rooms.get(handover.actor.text)
        if room is not None and not room.is_attached and len(room.sockets) >= self._rooms.sockets_max(handover.actor):
            raise Overloaded(f"{len(room.sockets)} connections wait for {handover.actor}; try again later", RETRY_AFTER_S)

    def open(self, handover: Handover, wire: Wire) -> EdgeSocket:
        """Give a client that was admitted to its actor, wherever that is."""
        actor = handover.actor
        room = self._edge_rooms.get(actor.text)
        if room is None:
            room = self._edge_rooms[actor.text] = EdgeRoom(actor, self)
        return room.open(self._rooms.id_of(handover), uri_of(handover.scope), handover.scope, wire)

    def count(self) -> int:
        """How many clients are connected to this node."""
        return sum(len(room.sockets) for room in self._edge_rooms.values())

    async def summon(self, actor: ActorId, owner: int) -> None:
        """A node has claimed the actor: tell it the connections that are here."""
        room = self._edge_rooms.get(actor.text)
        if room is not None:
            await room.go_to(owner)

    def called(self, peer: int, actor: ActorId, conversation: Conversation) -> Listener:
        """`summon`, from another node; the conversation ends once it is done."""
        self.tasks.start(self._answer(actor, peer, conversation))
        return Deaf()

    async def _answer(self, actor: ActorId, peer: int, conversation: Conversation) -> None:
        try:
            await self.summon(actor, peer)
        finally:
            conversation.end()

    def forget(self, room: EdgeRoom) -> None:
        if self._edge_rooms.get(room.actor.text) is room:
            del self._edge_rooms[room.actor.text]

    def send_away(self) -> None:
        """The node stops: close every connection, and tell the owners."""
        for room in list(self._edge_rooms.values()):
            room.shut()

    def close(self) -> None:
        """Look for no owner any more."""
        for room in self._edge_rooms.values():
            room.cut_off()
