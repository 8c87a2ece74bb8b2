"""Actors on their way from one node to another, on purpose.

The owner holds what comes, ends what runs, commits, releases the claim, and sends what it held to the new owner, which claims the
actor. Nobody who calls it sees an error. A node that drains does so with all of its actors, a bounded number at a time.

The new owner is told to bring the actor into memory, so that who asks next need not wait for that. Only what keeps the answer to a
key is left to whoever is asked for it: hardly any of those is asked again, and a node may have thousands of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

from stead.cluster.conversation import Conversation, Listener
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.wire import MALFORMED, Answer, Done, Failed, Leaving, Move, Opening, Warm, decode_answer, encode
from stead.errors import Ambiguous, SteadError, Unavailable
from stead.ids import ANSWERS_UNIT, ActorId, parse_id
from stead.runtime import Tasks, packed, unpacked
from stead.storage.membership import SharedEngine

MOVES_MAX = 16  # at a time: each is a claim of the new owner and a release here
MOVE_GRACE_S = 30.0  # that running turns have to end, as long as a turn may take by default
CONNECT_S = 2.0  # that a channel to the new owner may take

log = logging.getLogger("stead.cluster")


class Here(Protocol):
    """This node's dispatcher, as moves see it."""

    tasks: Tasks

    def has(self, actor: ActorId) -> bool: ...
    def owned(self) -> list[ActorId]: ...
    async def depart(self, actor: ActorId, to: int, grace_s: float) -> bool:
        """Give an actor to the node `to`: hold what comes, end what runs, release it, and send on what was held.

        False if it was leaving already; it has left then.
        """
        ...


class Places(Protocol):
    """The router, as moves see it."""

    @property
    def me(self) -> int: ...
    async def warm(self, actor: ActorId) -> None:
        """Bring an actor into memory here. Raises `Unavailable` if it is another node's, or should not be here."""
        ...

    def successor(self, target: ActorId, avoid: Collection[int]) -> int:
        """Who should have an actor instead of this node, 0 if nobody can."""
        ...


class Moving:
    """The moves from this node, and the orders for others."""

    def __init__(self, here: Here, places: Places, peers: Peers, engine: SharedEngine) -> None:
        self._here = here
        self._places = places
        self._peers = peers
        self._engine = engine

    async def move(self, actor: ActorId, to: int) -> bool:
        """Give an actor to the node `to`, wherever it is. False if nobody has it: then whoever is asked for it next does.

        Raises `Unavailable` if a node cannot be reached or takes no actors: nothing was moved. `Ambiguous`: it may have been.
        """
        owner = self._places.me if self._here.has(actor) else await self._engine.owner(actor)
        if owner is None or owner == to:
            return owner is not None
        if owner != self._places.me:
            return await self._order(owner, Move(actor.text, to))
        if not self._here.has(actor):
            return False
        # Whoever asked may go away meanwhile, and an actor that has left by half would be held for ever.
        await asyncio.shield(self._here.tasks.start(self.give(actor, to)))
        return True

    async def move_all(self, grace_s: float = MOVE_GRACE_S) -> None:
        """Give every actor to the node where it should be if not here, as far as there are any that can be reached."""
        actors, shunned = deque(self._here.owned()), {self._places.me}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(MOVES_MAX, len(actors))):
                tasks.create_task(self._work_off(actors, shunned, grace_s))

    async def let_go(self) -> None:
        """Give every actor back: whoever is asked for it next has it."""
        actors = deque(self._here.owned())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(MOVES_MAX, len(actors))):
                tasks.create_task(self._give_back(actors))

    async def _give_back(self, actors: deque[ActorId]) -> None:
        while actors:
            actor = actors.popleft()
            if self._here.has(actor):
                await self._here.depart(actor, 0, MOVE_GRACE_S)

    async def _work_off(self, actors: deque[ActorId], shunned: set[int], grace_s: float) -> None:
        while actors:
            actor = actors.popleft()
            to = self._places.successor(actor, shunned)
            if not to or not self._here.has(actor):
                continue
            if not await self._peers.wait_connected(to, CONNECT_S):
                shunned.add(to)
                actors.append(actor)
                continue
            try:
                await self.give(actor, to, grace_s)
            except Unavailable as exc:
                log.warning("%s stays: %s", actor, exc)

    async def give(self, actor: ActorId, to: int, grace_s: float = MOVE_GRACE_S) -> None:
        """Give an actor of this node to the node `to`, which has it in memory then unless it keeps the answer to a key.

        Raises `Unavailable` if that node cannot be reached: then the actor stays.
        """
        if not await self._peers.wait_connected(to, CONNECT_S):
            raise Unavailable(f"the node of incarnation {to} cannot be reached")
        if not await self._here.depart(actor, to, grace_s):
            raise Unavailable(f"{actor} was on its way to another node already")
        if actor.unit == ANSWERS_UNIT:
            return
        try:
            await self._order(to, Warm(actor.text))
        except SteadError as exc:  # it is claimed by whoever is asked for it
            log.info("%s is not warm on its new node: %s", actor, exc)

    async def say_farewell(self, peers: Sequence[int], limit_s: float) -> None:
        """Let the other nodes send nothing more; returns when all that can be reached have heard it, or they had the time to."""
        async with asyncio.TaskGroup() as tasks:
            for peer in peers:
                tasks.create_task(self._say_farewell(peer, limit_s))

    async def _say_farewell(self, peer: int, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._order(peer, Leaving())
        except (SteadError, TimeoutError) as exc:
            log.warning("the node of incarnation %d has not heard that this one is to be sent nothing more: %s", peer, exc)

    async def _order(self, peer: int, order: Opening) -> bool:
        """What a peer says to an order. Raises `Unavailable`, `Ambiguous` and what the peer raises."""
        ordered = _Ordered()
        await self._peers.wait_connected(peer, CONNECT_S)
        try:
            conversation = self._peers.open(peer, encode(order), ordered)
        except Unreachable as exc:
            raise Unavailable(f"the node of incarnation {peer} cannot be reached: {exc}") from exc
        try:
            return await ordered.outcome
        finally:
            conversation.end()

    # -- what peers say ------------------------------------------------------------------------------------------------------------

    def opened(self, opening: Opening, conversation: Conversation) -> Listener:
        """A peer orders something."""
        self._here.tasks.start(self._answer(opening, conversation))
        return _Ordered()

    async def _answer(self, order: Opening, conversation: Conversation) -> None:
        try:
            answer = encode(Done(int(await self._obey(order)), None))
        except SteadError as exc:
            answer = encode(Failed(0, packed(exc)))
        conversation.send(answer)
        conversation.end()

    async def _obey(self, order: Opening) -> bool:
        if isinstance(order, Move):
            actor = parse_id(order.actor)
            is_here = self._here.has(actor)
            if is_here:
                await self.give(actor, order.to)
            return is_here
        if isinstance(order, Warm):
            await self._places.warm(parse_id(order.actor))
        return True


class _Ordered:
    """Hears how an order ended."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def received(self, payload: bytes) -> None:
        try:
            answer: Answer = decode_answer(payload)
        except MALFORMED:
            self.lost()
            return
        if not self.outcome.done():
            if isinstance(answer, Failed):
                self.outcome.set_exception(unpacked(answer.error))
            else:
                self.outcome.set_result(bool(answer.number))

    def ended(self) -> None:
        return

    def lost(self) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(Ambiguous("the node that has the actor was lost; it may have been moved"))
            self.outcome.exception()  # nobody may wait for it
