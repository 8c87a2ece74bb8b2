"""Who is in a document: clocks decide, a closed connection's clients leave, and all of it is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.yjs import Malformed, awareness
from stead.yjs.awareness import CLIENTS_MAX, LEFT_MAX, UNKNOWN, Awareness
from stead.yjs.protocol import GONE, Client


def test_the_later_clock_counts() -> None:
    """A state with a later clock is news; the same one again is nothing; an earlier one is answered with what is known."""
    room: Awareness[str] = Awareness()
    first, later = Client(7, 1, b"{}"), Client(7, 2, b'{"a":1}')
    assert room.apply("a", [first]) == ([first], [])
    assert room.apply("a", [first]) == ([], [])
    assert room.apply("a", [later]) == ([later], [])
    assert room.apply("a", [first]) == ([], [later])
    assert room.states() == [later]


def test_a_first_clock_of_0_counts() -> None:
    """A client that has not changed its state yet is here as well."""
    room: Awareness[str] = Awareness()
    assert room.apply("a", [Client(7, 0, b"{}")]).news == [Client(7, 0, b"{}")]


def test_a_closed_connections_clients_leave() -> None:
    """Those that it spoke for last, with the next clock; those that another connection speaks for by now stay."""
    room: Awareness[str] = Awareness()
    room.apply("a", [Client(1, 5, b"{}"), Client(2, 5, b"{}")])
    room.apply("b", [Client(2, 6, b"{}"), Client(3, 1, b"{}")])
    assert room.remove("a") == [Client(1, 6, GONE)]
    assert [client.client for client in room.states()] == [2, 3]
    assert room.remove("a") == []


def test_a_client_may_leave_by_itself() -> None:
    """With the next clock or the present one; its connection then speaks for nobody."""
    room: Awareness[str] = Awareness()
    room.apply("a", [Client(1, 5, b"{}"), Client(2, 5, b"{}")])
    assert room.apply("a", [Client(1, 5, GONE), Client(2, 6, GONE)]).news == [Client(1, 5, GONE), Client(2, 6, GONE)]
    assert (room.states(), room.of("a"), room.remove("a")) == ([], [], [])


def test_who_comes_back_with_an_old_clock_is_told() -> None:
    """The others would not hear it: so it learns the clock it left with, and raises its own."""
    room: Awareness[str] = Awareness()
    room.apply("a", [Client(1, 5, b"{}")])
    room.remove("a")
    assert room.apply("b", [Client(1, 5, b"{}")]) == ([], [Client(1, 6, GONE)])
    assert room.apply("b", [Client(1, 7, b"{}")]).news == [Client(1, 7, b"{}")]


def test_who_comes_back_before_it_was_missed_stays() -> None:
    """A client that says the same over a new connection belongs to that: the old one's end does not remove it."""
    room: Awareness[str] = Awareness()
    room.apply("old", [Client(1, 5, b"{}")])
    assert room.apply("new", [Client(1, 5, b"{}")]) == ([], [])  # the first that it says
    assert room.remove("old") == []
    assert room.remove("new") == [Client(1, 6, GONE)]


def test_telling_of_others_does_not_make_them_ones_own() -> None:
    """A client that was asked tells of everyone it knows: each stays with the connection that speaks for it."""
    room: Awareness[str] = Awareness()
    room.apply("a", [Client(1, 5, b"{}")])
    room.apply("b", [Client(1, 5, b"{}"), Client(2, 1, b"{}")])
    room.apply("b", [Client(1, 5, b"{}")])
    assert room.remove("b") == [Client(2, 2, GONE)]


def test_what_was_kept_comes_back() -> None:
    """A room that has forgotten all knows it again from what `of` gave; a state that was not kept, from whoever tells it."""
    before: Awareness[str] = Awareness()
    before.apply("a", [Client(1, 5, b"{}")])
    after: Awareness[str] = Awareness()
    after.restore("a", before.of("a"))
    after.restore("b", [Client(2, 9, UNKNOWN)])
    assert after.states() == [Client(1, 5, b"{}")]
    assert after.apply("a", [Client(2, 9, b"[]"), Client(1, 5, b"{}")]).news == [Client(2, 9, b"[]")]
    assert after.remove("b") == [Client(2, 10, GONE)]


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of a connection, bytes of all states, clocks of those who left."""
    room: Awareness[str] = Awareness()
    with pytest.raises(Malformed, match=f"more than {CLIENTS_MAX} clients"):
        room.apply("a", [Client(number, 1, b"{}") for number in range(CLIENTS_MAX + 1)])
    assert len(room.remove("a")) == CLIENTS_MAX
    for number in range(2 * LEFT_MAX):
        room.apply("a", [Client(number, 9, b"{}")])
        room.apply("a", [Client(number, 10, GONE)])
    assert len(room._left) == LEFT_MAX
    monkeypatch.setattr(awareness, "STATES_BYTES_MAX", 100)
    room.apply("a", [Client(1, 90, b'"' + b"x" * 80 + b'"')])
    with pytest.raises(Malformed, match="more than 100 bytes"):
        room.apply("b", [Client(2, 90, b'"' + b"x" * 80 + b'"')])
    assert room.apply("a", [Client(1, 91, b'"' + b"y" * 90 + b'"')]).news


@dataclass
class Member:
    """A client of y-protocols: what it says of itself, and what it believes of the others."""

    number: int
    clock: int = 0
    here: bool = True
    known: dict[int, Client] = field(default_factory=dict)

    def announce(self) -> Client:
        return Client(self.number, self.clock, b"{}" if self.here else GONE)

    def hear(self, clients: list[Client]) -> bool:
        """By the rules of y-protocols. True if it has to speak, because it was said to have left."""
        must_speak = False
        for client in clients:
            if client.client == self.number:
                if client.is_gone and self.here and client.clock >= self.clock:
                    self.clock = client.clock + 1
                    must_speak = True
                continue
            known = self.known.get(client.client)
            clock = 0 if known is None else known.clock
            if client.clock > clock or (client.clock == clock and client.is_gone and known is not None):
                self.known[client.client] = client
        return must_speak

    def lose_connection(self) -> None:
        """Nobody else is here any more, and their clocks are not forgotten."""
        self.known = {client: known._replace(state=GONE) for client, known in self.known.items()}

    def sees(self) -> set[int]:
        return {client.client for client in self.known.values() if not client.is_gone}


@given(st.lists(st.tuples(st.sampled_from(["renew", "close", "reconnect", "forget"]), st.integers(0, 3)), max_size=40))
def test_everyone_sees_who_is_here(steps: list[tuple[str, int]]) -> None:
    """Over connections that end, come back before or after that was noticed, and hibernations: once all that are here have renewed
    their state, everyone sees everyone who is here, and nobody else."""
    room: Awareness[tuple[int, int]] = Awareness()
    members = [Member(number, clock=1) for number in range(4)]
    connections: dict[tuple[int, int], Member] = {}  # a member may have an old one that is half open
    newest = dict.fromkeys(range(4), 0)

    def tell(clients: list[Client]) -> None:
        for connection, member in list(connections.items()):
            if newest[member.number] == connection[1]:
                must_speak = member.hear(clients)
                others = [client for client in clients if client.client != member.number]
                assert not room.apply(connection, others).news  # as `y-websocket`: it says again what it hears
                if must_speak:
                    say(connection)

    def say(connection: tuple[int, int]) -> None:
        news, corrections = room.apply(connection, [connections[connection].announce()])
        if news:
            tell(news)
        if corrections and connections[connection].hear(corrections):
            say(connection)

    def connect(member: Member) -> None:
        connection = member.number, newest[member.number]
        connections[connection] = member
        say(connection)  # the first word of a connection is of its own client
        if member.hear(room.states()):
            say(connection)

    def renew(member: Member) -> None:
        connection = member.number, newest[member.number]
        if connection in connections:
            member.clock += 1
            say(connection)

    for member in members:
        connect(member)
    for step, number in steps:
        member = members[number]
        if step == "renew":
            renew(member)
        elif step == "close":
            member.lose_connection()
            for connection in [known for known in connections if known[0] == number]:
                del connections[connection]
                tell(room.remove(connection))
        elif step == "reconnect":
            newest[number] += 1
            member.lose_connection()
            connect(member)
        else:
            kept = {connection: room.of(connection) for connection in connections}
            room = Awareness()
            for connection, clients in kept.items():
                room.restore(connection, clients)
    for connection in [known for known in connections if known[1] != newest[known[0]]]:
        del connections[connection]
        tell(room.remove(connection))
    for _ in range(2):  # the second reaches those who knew a later clock
        for member in members:
            renew(member)
    here = {number for number, _ in connections}
    for member in members:
        if member.number in here:
            assert member.sees() == here - {member.number}
