"""Who is in a document, and where: what clients last said of themselves, and through which connection.

A client's state has a clock, and of two states the later clock counts. A client leaves when it says so, or when the connection
that last spoke for it closes: then the others are told of the state `GONE` with the next clock. The clocks of those who left are
kept for a while, because a client that comes back with an old one is not heard by the others; told so, it raises it by itself.

`y-websocket` says again what it hears of others: a clock that is known changes nothing, and nobody speaks for another by it.

The states last as long as their connections, so nothing here is stored: a room keeps each connection's with the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from stead.yjs.protocol import GONE, Client, Malformed

CLIENTS_MAX = 100  # that one connection speaks for: it is one, but for a client that shares its connection
STATES_BYTES_MAX = 8 * 1024 * 1024  # all states of a room: they are sent to everyone who connects
LEFT_MAX = 1000  # clocks of clients who left; without one a client that comes back is seen half a minute late
UNKNOWN = b""  # the state of a client of which only the clock is known

Owner = TypeVar("Owner")  # it is the key of a dict


class Outcome(NamedTuple):
    """What became of a message: `news` is for everyone, `corrections` for who sent it, because it knows less than we."""

    news: list[Client]
    corrections: list[Client]


class Awareness(Generic[Owner]):
    """The clients of one document, each with the connection that speaks for it."""

    def __init__(self) -> None:
        self._here: dict[int, Client] = {}
        self._owners: dict[int, Owner] = {}
        self._owned: dict[Owner, set[int]] = {}
        self._left: dict[int, int] = {}
        self._bytes = 0

    def states(self) -> list[Client]:
        """The clients whose states are known."""
        return [client for client in self._here.values() if client.state != UNKNOWN]

    def of(self, owner: Owner) -> list[Client]:
        """The clients that a connection speaks for."""
        return [self._here[client] for client in sorted(self._owned.get(owner, ()))]

    def apply(self, owner: Owner, clients: Sequence[Client]) -> Outcome:
        """Take what a connection says. Raises `Malformed` past a bound; what came before that in the message holds."""
        outcome = Outcome([], [])
        for told in clients:
            known = self._here.get(told.client)
            clock = self._left.get(told.client, -1) if known is None else known.clock
            if told.clock > clock or (told.clock == clock and known is not None and told.is_gone):
                self._leave(told.client, told.clock) if told.is_gone else self._enter(owner, told)
                outcome.news.append(told)
            elif known is None or told.clock < clock:
                if not told.is_gone:
                    outcome.corrections.append(known or Client(told.client, clock, GONE))
            elif known.state == UNKNOWN:
                self._enter(self._owners[told.client], told)
                outcome.news.append(told)
            elif owner not in self._owned and len(clients) == 1 and not told.is_gone:
                # What a connection says first is of its own client: it came back before its old one was seen to end.
                self._enter(owner, known)
        return outcome

    def restore(self, owner: Owner, clients: Iterable[Client]) -> None:
        """Take what `of(owner)` gave, to a room that has forgotten it; of two owners of a client the first one counts."""
        for client in clients:
            known = self._here.get(client.client)
            if known is None or known.clock < client.clock:
                self._enter(owner, client)

    def remove(self, owner: Owner) -> list[Client]:
        """Let a closed connection's clients leave. Returns what everyone is to be told."""
        gone = [Client(client.client, client.clock + 1, GONE) for client in self.of(owner)]
        for client in gone:
            self._leave(client.client, client.clock)
        return gone

    def _enter(self, owner: Owner, client: Client) -> None:
        before = self._here.get(client.client)
        size = self._bytes + len(client.state) - (0 if before is None else len(before.state))
        owned = self._owned.setdefault(owner, set())
        if size > STATES_BYTES_MAX:
            raise Malformed(f"the states of all clients have more than {STATES_BYTES_MAX:,} bytes")
        if client.client not in owned and len(owned) >= CLIENTS_MAX:
            raise Malformed(f"a connection speaks for more than {CLIENTS_MAX} clients")
        self._disown(client.client)
        self._owned.setdefault(owner, set()).add(client.client)
        self._owners[client.client] = owner
        self._here[client.client] = client
        self._left.pop(client.client, None)
        self._bytes = size

    def _leave(self, client: int, clock: int) -> None:
        before = self._here.pop(client, None)
        if before is not None:
            self._bytes -= len(before.state)
        self._disown(client)
        self._left.pop(client, None)
        self._left[client] = clock
        if len(self._left) > LEFT_MAX:
            del self._left[next(iter(self._left))]

    def _disown(self, client: int) -> None:
        owner = self._owners.pop(client, None)
        if owner is not None:
            owned = self._owned[owner]
            owned.discard(client)
            if not owned:
                del self._owned[owner]
