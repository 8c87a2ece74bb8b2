"""P4: no reply or call is seen by anyone before the writes that preceded it are durable."""

from __future__ import annotations

import pytest

from stead import Actor, Ambiguous, Request, Service, SteadError, reads, route
from stead.clock import sleep
from stead.ids import Chance
from stead.testing import SABOTAGES, TestApp, World, check, find, sabotaged
from tests.properties.harness import beset_by, crashing, evicting, failing, holding, together
from tests.properties.stage import App

CLIENTS, OPERATIONS = 3, 4
SETTLED_S = 10.0  # in which signals arrive

APP: list[App] = []  # of the run under way: handlers look at its disk
PROBLEMS: list[str] = []


def assert_durable(*tokens: str) -> None:
    """Each token, `actor:number`, is on the disk of its actor at this moment."""
    for token in tokens:
        stored = APP[-1].store.actors.get(f"writer/{token.partition(':')[0]}")
        assert stored is not None and b"k" + token.encode() in stored.entries, f"{token} was seen before it was durable"


class Writer(Actor):
    """Writes a token, and shows it to someone."""

    async def write(self, token: str, pause_s: float) -> list[str]:
        await self.storage.put(token, 1)
        await sleep(pause_s)
        return list(await self.storage.list())

    @reads
    async def look(self) -> list[str]:
        return list(await self.storage.list())

    async def tell(self, token: str, whom: str) -> None:
        """Write, and call another actor before the turn ends."""
        await self.storage.put(token, 1)
        await self.env.WRITER.get(whom).listen(token)

    async def announce(self, token: str) -> None:
        """Write, and call a service before the turn ends."""
        await self.storage.put(token, 1)
        await self.env.API.hear(token)

    async def sync(self, token: str) -> None:
        await self.storage.put(token, 1)
        await self.storage.sync()
        assert_durable(token)

    async def fail(self, token: str, whom: str) -> None:
        """Show what an earlier turn may have left pending in an error."""
        raise ValueError(list(await self.storage.list()))

    async def hint(self, token: str, whom: str) -> None:
        """Write, and send a signal with the turn."""
        await self.storage.put(token, 1)
        await self.env.WRITER.get(whom).signal("listen", token)

    async def listen(self, token: str) -> None:
        try:
            assert_durable(token)
        except AssertionError as exc:
            PROBLEMS.append(str(exc))  # a signal is answered to nobody
            raise


class Api(Service):
    async def hear(self, token: str) -> None:
        assert_durable(token)

    @route("POST", "/{name}/{token}")
    async def post(self, request: Request, name: str, token: str) -> list[str]:
        seen: list[str] = await self.env.WRITER.get(name).write(token, 0.0)
        assert_durable(*seen)
        return seen


async def client(app: App, number: int, chance: Chance) -> None:
    for operation in range(OPERATIONS):
        name, other = "pq" if chance.below(2) else "qp"
        token = f"{name}:{number}{operation}"
        writer = app.env.WRITER.get(name)
        try:
            match chance.below(8):
                case 0 | 1:
                    assert_durable(*await writer.write(token, 0.02 * chance.below(2)))
                case 2:
                    assert_durable(*await writer.look())
                case 3:
                    await writer.tell(token, other)
                    assert_durable(token)
                case 4:
                    await writer.announce(token)
                    assert_durable(token)
                case 5:
                    await writer.sync(token)
                case 6:
                    await writer.hint(token, other)
                    assert_durable(token)
                case 7:
                    answer = await app.client.post(f"/{name}/{token}")
                    if answer.status_code == 200:
                        assert_durable(*answer.json())
        except ValueError as exc:
            assert_durable(*exc.args[0])
        except SteadError as exc:
            assert "before it was durable" not in str(exc), str(exc)
        except Ambiguous:
            pass
        await sleep(0.05 * chance.fraction())


async def scenario(seed: int, on: type[App] = TestApp) -> None:
    """Replies, reads, calls, service calls and HTTP answers over a slow disk whose commits the test holds, fails and cuts short."""
    chance = Chance(seed)
    async with on.of(actors={"writer": Writer}, services={"api": Api}, world=World(commit_s=0.1)) as app:
        APP[:], PROBLEMS[:] = [app], []
        faults = [holding(app, chance), evicting(app, chance, app.env.WRITER.get("p"))]
        if seed % 2:
            faults += [crashing(app, chance, 1), failing(app, chance, 1)]
        async with beset_by(*faults):
            await together(*(client(app, number, chance) for number in range(CLIENTS)))
        await sleep(SETTLED_S)
        assert not PROBLEMS, PROBLEMS


def test_nothing_is_seen_before_it_is_durable() -> None:
    """Whoever sees a token, by whatever way, finds it on the disk at that moment."""
    check(scenario)


@pytest.mark.parametrize("name", [name for name, plant in SABOTAGES.items() if plant.promise == "P4"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(name):
        find(scenario)
