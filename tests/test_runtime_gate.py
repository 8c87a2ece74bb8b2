"""The output gate: nothing leaves before the writes it may have seen are durable."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from stead import Actor, DurabilityLost, durable, reads
from stead.testing import TestApp, run

pytestmark = pytest.mark.usefixtures("clock")


class Account(Actor):
    heard: ClassVar[list[str]] = []
    balance: int = durable(0)

    async def pay(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    async def pay_twice(self, amount: int) -> None:
        self.balance += amount
        await self.storage.sync()
        self.heard.append("synced")
        self.balance += amount

    @reads
    async def get(self) -> int:
        return self.balance

    async def tell(self, other: str) -> None:
        self.balance += 1
        await self.env.ACCOUNT.get(other).hear(self.id.name)

    async def hear(self, name: str) -> None:
        self.heard.append(name)

    @reads
    async def pass_on(self, other: str) -> None:
        await self.env.ACCOUNT.get(other).hear(f"{self.balance}")

    async def fail(self) -> None:
        raise ValueError("seen")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Account.heard = []


def accounts() -> TestApp:
    return TestApp.of(actors={"account": Account})


async def settle(app: TestApp) -> None:
    await app.clock.advance(1)


@pytest.mark.parametrize("method", ["get", "fail", "pass_on"])
async def test_replies_errors_and_calls_wait_for_the_writes_they_saw(method: str) -> None:
    """Of a writer, and of whatever runs after it before its commit is durable."""
    async with accounts() as app:
        account = app.env.ACCOUNT.get("a")
        with app.hold_commits() as held:
            args = ["other"] if method == "pass_on" else []
            writing = asyncio.gather(account.pay(5))
            following = asyncio.gather(getattr(account, method)(*args), return_exceptions=True)
            await held.wait()
            await settle(app)
            assert not writing.done() and not following.done() and Account.heard == []
        assert (await writing)[0] == 5
        (reply,) = await following
        assert reply == 5 or isinstance(reply, ValueError) or Account.heard == ["5"]


async def test_without_pending_writes_an_answer_leaves_at_once() -> None:
    """One actor's slow disk does not delay another's reads."""
    async with accounts() as app:
        await app.env.ACCOUNT.get("b").pay(1)
        with app.hold_commits() as held:
            writing = asyncio.gather(app.env.ACCOUNT.get("a").pay(5))
            await held.wait()
            assert await app.env.ACCOUNT.get("b").get() == 1
        await writing


async def test_turns_are_pipelined_and_share_a_flush() -> None:
    """The next turn runs while the disk works; what collects meanwhile is one batch."""
    async with accounts() as app:
        with app.hold_commits() as held:
            paying = asyncio.gather(*[app.env.ACCOUNT.get(f"a{n % 4}").pay(1) for n in range(40)])
            await held.wait()
            await settle(app)
        assert sorted(await paying) == sorted(list(range(1, 11)) * 4)
        stats = app.stats()
        assert stats["commits"] == 40 and stats["flushes"] <= 6


async def test_a_call_goes_out_after_the_commit_before_it() -> None:
    """Until then the other actor has heard nothing; if the commit is lost it never does."""
    async with accounts() as app:
        with app.hold_commits() as held:
            telling = asyncio.gather(app.env.ACCOUNT.get("a").tell("b"))
            await held.wait()
            await settle(app)
            assert Account.heard == []
        await telling
        assert Account.heard == ["a"]
        app.fail_next_commit()
        with pytest.raises(DurabilityLost):
            await app.env.ACCOUNT.get("a").tell("b")
        assert Account.heard == ["a"]
        assert await app.env.ACCOUNT.get("a").get() == 1


async def test_sync_is_a_barrier() -> None:
    """It returns once what came before is durable; a later loss goes back to there."""
    async with accounts() as app:
        account = app.env.ACCOUNT.get("a")
        with app.hold_commits() as held:
            paying = asyncio.gather(account.pay_twice(5), return_exceptions=True)
            await held.wait()
            await settle(app)
            assert Account.heard == []
            held.release()
            second = app.hold_commits()
            await second.wait()
            assert Account.heard == ["synced"]
            app.fail_next_commit()
            second.release()
        assert isinstance((await paying)[0], DurabilityLost)
        assert await account.get() == 5


@pytest.mark.parametrize("seed", range(40))
def test_what_was_acknowledged_survives(seed: int) -> None:
    """Random payments, failing disks and crashes: every acknowledged payment is in the balance, none is there twice."""

    async def main() -> None:
        async with accounts() as app:
            acknowledged = attempted = 0
            for step in range(12):
                calls: list[Any] = [app.env.ACCOUNT.get("a").pay(1) for _ in range(5)]
                attempted += len(calls)
                if (seed + step) % 3 == 0:
                    app.fail_next_commit()
                paying = asyncio.gather(*calls, return_exceptions=True)
                if (seed + step) % 4 == 0:
                    for _ in range(seed % 13):
                        await asyncio.sleep(0)  # noqa: TID251 - a step of the loop
                    await app.crash()
                acknowledged += sum(isinstance(reply, int) for reply in await paying)
                balance = await app.env.ACCOUNT.get("a").get()
                assert acknowledged <= balance <= attempted
                acknowledged = balance

    run(main, seed=seed)
