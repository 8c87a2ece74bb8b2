"""P2, P3 and P4 of sockets: messages are handled in order, each is whole or nothing, and nothing leaves before its commit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stead import Actor, Request, Socket, SteadError, durable
from stead.clock import sleep
from stead.events import Frame
from stead.ids import Chance
from stead.runtime.stubs import Stub
from stead.testing import SOCKET_SABOTAGES, Peer, TestApp, World, check, find, sabotaged
from tests.properties.harness import Refused, beset_by, evicting, failing, holding, together

CLIENTS, MESSAGES, LIVES = 3, 12, 2
PLANS = ("say", "say", "say", "say", "raise", "part", "call", "spawn", "abort", "unstorable", "kick")


class Scene:
    """What happens in one run. An assertion in a hook would fail its turn only."""

    def __init__(self, app: TestApp) -> None:
        self.app = app
        self.problems: list[str] = []
        self.heard: list[tuple[str, str]] = []  # connection, and what it was heard saying, in the order of the turns
        self.running = 0

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


SCENE: list[Scene] = []  # of the run under way


class Wall(Actor):
    """Writes what it hears, and says what it has written. Tokens that may never be seen end in `!`."""

    mailbox_events_max = 12
    turn_limit_s = 5.0
    tokens: list[str] = durable(factory=list)

    async def on_connect(self, socket: Socket, request: Request) -> None:
        life = request.query_params["life"]
        SCENE[-1].heard.append((life, "connect"))
        await self.storage.put(f"lives:{life}", 1)
        socket.attachment = life
        socket.set_state(0)
        await sleep(0.02)
        if "refused" in request.query_params:
            self.tokens.append(f"{life}!")
            self.broadcast(f"{life}!")
            raise Refused(life)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        scene, (token, plan, pause_s) = SCENE[-1], msgspec.json.decode(message, type=tuple[str, str, float])
        scene.heard.append((str(socket.attachment), token))
        said = await self.storage.get(f"said:{socket.attachment}", 0)
        scene.check(socket.state == said, f"the state of {socket.attachment} is {socket.state}, and it has spoken {said} times")
        await self.storage.put(f"said:{socket.attachment}", said + 1)
        socket.set_state(lambda count: count + 1)
        await getattr(self, f"_{plan}")(socket, token, pause_s)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        SCENE[-1].heard.append((str(socket.attachment), "close"))

    async def hear(self) -> None:
        """What another wall calls."""
        self.tokens.append(f"heard {len(self.tokens)}")

    async def count(self) -> int:
        return len(self.sockets())

    async def _say(self, socket: Socket, token: str, pause_s: float) -> None:
        await self._write(token)
        await sleep(pause_s)
        self.broadcast(token)

    async def _raise(self, socket: Socket, token: str, pause_s: float) -> None:
        self.broadcast(f"{token}!")
        await self._write(f"{token}!")
        await sleep(pause_s)
        socket.close(4000, f"{token}!")
        raise Refused(token)

    async def _part(self, socket: Socket, token: str, pause_s: float) -> None:
        await self._say(socket, token, pause_s)
        try:
            async with self.storage.transaction():
                await self._write(f"{token}!")
                socket.send(f"{token}!")
                socket.set_state("rolled back")
                raise Refused(token)
        except Refused:
            return

    async def _call(self, socket: Socket, token: str, pause_s: float) -> None:
        """Call out, which commits what was said; what comes later is rolled back."""
        await self._write(token)
        self.broadcast(token)
        await self.env.WALL.get("other").hear()
        await self._raise(socket, token, pause_s)

    async def _spawn(self, socket: Socket, token: str, pause_s: float) -> None:
        await self._write(token)
        self.ctx.spawn(self._later(token))

    async def _later(self, token: str) -> None:
        await sleep(0.01)  # the turn that began this has ended, and its commit is under way
        self.broadcast(token)

    async def _abort(self, socket: Socket, token: str, pause_s: float) -> None:
        await self._write(f"{token}!")
        self.broadcast(f"{token}!")
        self.ctx.abort(token)

    async def _unstorable(self, socket: Socket, token: str, pause_s: float) -> None:
        self.broadcast(f"{token}!")
        self.tokens.append(object())  # type: ignore[arg-type]

    async def _kick(self, socket: Socket, token: str, pause_s: float) -> None:
        await self._say(socket, token, pause_s)
        socket.close(4001, token)

    async def _write(self, token: str) -> None:
        self.tokens.append(token)
        await self.storage.put(token, 1)


class Watcher(Peer):
    """A peer that looks at the disk whenever something reaches it."""

    def send(self, frame: Frame) -> None:
        super().send(frame)
        self._look(str(frame.message))

    def close(self, code: int, reason: str) -> None:
        if code == 4001:
            self._look(reason)
        SCENE[-1].check(code != 4000, f"{reason} was rolled back, and closed a socket")
        super().close(code, reason)

    def _look(self, token: str) -> None:
        stored = SCENE[-1].app.store.actors.get("wall/one")
        entries = {} if stored is None else stored.entries
        SCENE[-1].check(not token.endswith("!"), f"{token} was rolled back, and seen")
        SCENE[-1].check(b"k" + token.encode() in entries, f"{token} was seen before it was durable")


async def client(app: TestApp, wall: Stub, name: str, chance: Chance, sent: dict[str, list[str]]) -> None:
    """Live several times as one id: sometimes half open still when the next life begins, sometimes refused."""
    for number in range(LIVES):
        life = f"{name}{number}"
        refused = "&refused" if chance.below(4) == 0 else ""
        peer = Watcher(app, wall, name, f"life={life}{refused}")
        peer.read_ahead = 4 * chance.below(2)
        sent[life] = []
        for message in range(MESSAGES):
            token = f"{life}.{message}"
            plan = PLANS[chance.below(len(PLANS))]
            peer.post(msgspec.json.encode([token, plan, 0.01 * chance.below(3)]).decode())
            sent[life].append(token)
            if chance.below(4) == 0:
                await sleep(0.1 * chance.fraction())
        match chance.below(3):
            case 0:
                peer.leave()
            case 1:
                await sleep(0.2 * chance.fraction())
                peer.vanish()


async def scenario(seed: int) -> None:
    """Clients that speak, fail and come back, under evictions, held commits and, half of the time, full disks."""
    chance = Chance(seed)
    is_undone = seed % 2 == 1
    sent: dict[str, list[str]] = {}
    async with TestApp.of(actors={"wall": Wall}, world=World(commit_s=0.02)) as app:
        scene = Scene(app)
        SCENE[:] = [scene]
        wall = app.env.WALL.get("one")
        faults = [evicting(app, chance, wall), holding(app, chance)]
        if is_undone:
            faults.append(failing(app, chance))
        async with beset_by(*faults):
            await together(*(client(app, wall, name, chance, sent) for name in "abc"[:CLIENTS]), counting(wall, chance))
        await app.clock.advance(60)
    assert not scene.problems, scene.problems
    for life, tokens in sent.items():
        heard = [token for who, token in scene.heard if who == life]
        middle = [token for token in heard if token not in {"connect", "close"}]
        expected = [token for token in tokens if token in middle] if is_undone else tokens[: len(middle)]
        assert middle == expected, f"{life} said {tokens}, and was heard saying {middle}"
        assert heard[:1] in ([], ["connect"]) and "close" not in heard[:-1], f"{life}: {heard}"
        assert heard.count("connect") <= 1 and heard.count("close") <= 1, f"{life}: {heard}"
    for name in "abc"[:CLIENTS]:
        lives = [who for who, _ in scene.heard if who.startswith(name)]
        assert lives == sorted(lives), f"{name} was heard as the next one before the one before had left: {lives}"


async def counting(wall: Any, chance: Chance) -> None:
    """Whatever happens, there are no more sockets than clients."""
    for _ in range(5):
        await sleep(0.2 * chance.fraction())
        try:
            SCENE[-1].check(await wall.count() <= CLIENTS, "more sockets than clients")
        except SteadError:
            continue


def test_messages_are_turns() -> None:
    """In order, one connection after the other; whole or not at all; and what leaves is on the disk."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SOCKET_SABOTAGES.items() if plant.promise in {"P2", "P3", "P4"}])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(SOCKET_SABOTAGES[name]):
        find(scenario)
