"""Signals and idempotency keys: what a turn leaves behind arrives, and takes effect once."""

from __future__ import annotations

import asyncio

import pytest

from stead import Actor, DurabilityLost, Invalid, Overloaded, Request, Service, Unavailable, codec, durable, reads, route
from stead.clock import sleep
from stead.events import Call, Origin, Settled
from stead.ids import named_id
from stead.runtime import outbox
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Ledger(Actor):
    """Adds up what it is told, and can be told to fail."""

    total: int = durable(0)
    notes: list[str] = durable(factory=list)
    failing: int = durable(0)

    async def add(self, amount: int, note: str = "") -> int:
        if self.failing > 0:
            raise ValueError("not now")
        self.total += amount
        self.notes.append(note)
        return self.total

    async def fail_next(self, times: int) -> None:
        self.failing = times

    async def recover(self) -> None:
        self.failing = 0

    @reads
    async def state(self) -> tuple[int, list[str]]:
        return self.total, self.notes


class Sender(Actor):
    sent: int = durable(0)

    async def send(self, *amounts: int, to: str = "l") -> None:
        for amount in amounts:
            self.sent += amount
            await self.env.LEDGER.get(to).signal("add", amount, note=f"{amount}")

    async def note(self, text: str) -> None:
        await self.env.LEDGER.get("l").signal("add", 1, note=text)

    async def send_and_fail(self, amount: int) -> None:
        await self.send(amount)
        raise ValueError("after sending")

    async def send_in_a_transaction_that_fails(self, amount: int) -> None:
        await self.send(1)
        try:
            async with self.storage.transaction():
                await self.send(amount)
                raise KeyError
        except KeyError:
            await self.send(2)

    async def misspell(self) -> None:
        await self.env.LEDGER.get("l").signal("ad", 1)

    @reads
    async def send_reading(self) -> None:
        await self.env.LEDGER.get("l").signal("add", 1)

    async def to_myself(self, amount: int) -> None:
        await self.env.SENDER.get(self.id).signal("send", amount)

    async def keys(self) -> int:
        return len(await self.storage.list())


class Api(Service):
    @route("POST", "/add/{amount:int}")
    async def add(self, request: Request, amount: int) -> str:
        key = request.headers["idempotency-key"]
        return str(await self.env.actor(Ledger).get("l").with_idempotency_key(key).add(amount))


def ledger_app() -> TestApp:
    return TestApp.of(actors={"ledger": Ledger, "sender": Sender}, services={"api": Api})


async def sizes(app: TestApp) -> dict[str, int]:
    pages = [await namespace.list() for namespace in (app.env.LEDGER, app.env.SENDER)]
    return {entry.id.text: entry.size_bytes for page in pages for entry in page.actors}


async def test_signals_arrive_in_order_after_the_commit() -> None:
    """Each once, those of one turn in their order; what has been settled leaves nothing behind."""
    async with ledger_app() as app:
        sender = app.env.SENDER.get("s")
        await sender.send(1, 2, 3)
        await sender.send(4)
        await sleep(1)
        assert await app.env.LEDGER.get("l").state() == (10, ["1", "2", "3", "4"])
        before = await sizes(app)
        for _ in range(20):
            await sender.send(1)
        await sleep(30)
        after = await sizes(app)
        assert after["sender/s"] == before["sender/s"], "the outbox is empty"
        assert after["ledger/l"] - before["ledger/l"] < 20 * 4, "the receipts were forgotten"


async def test_nothing_is_sent_before_it_is_durable() -> None:
    """While the commit is held the target hears nothing; when it is lost, never."""
    async with ledger_app() as app:
        sender = app.env.SENDER.get("s")
        async with asyncio.TaskGroup() as group:
            with app.hold_commits() as held:
                group.create_task(sender.send(5))
                await held.wait()
                await sleep(10)
                assert app.stats()["turns"] == 1
        await sleep(20)
        app.fail_next_commit()
        with pytest.raises(DurabilityLost, match="disk"):
            await sender.send(7)
        await sleep(20)
        assert (await app.env.LEDGER.get("l").state())[0] == 5


async def test_a_turn_that_fails_signals_nothing() -> None:
    """Nor does a transaction that is rolled back; what was sent outside it is."""
    async with ledger_app() as app:
        sender = app.env.SENDER.get("s")
        with pytest.raises(ValueError):
            await sender.send_and_fail(5)
        await sender.send_in_a_transaction_that_fails(100)
        await sleep(20)
        assert await app.env.LEDGER.get("l").state() == (3, ["1", "2"])


async def test_a_target_that_fails_is_tried_again_and_then_left() -> None:
    """Retries back off; after the seventh failure the signal is dead, and the sender goes on."""
    async with ledger_app() as app:
        sender, ledger = app.env.SENDER.get("s"), app.env.LEDGER.get("l")
        await ledger.fail_next(1)
        await sender.send(1)
        await sleep(20)
        await ledger.recover()
        await sleep(120)
        assert await ledger.state() == (1, ["1"])
        await ledger.fail_next(1)
        await sender.send(2)
        await sleep(600)
        await ledger.recover()
        await sleep(600)
        assert await ledger.state() == (1, ["1"])
        await sender.send(4)
        await sleep(1)
        assert (await ledger.state())[0] == 5


async def test_signals_survive_the_process() -> None:
    """What was committed and not delivered is delivered after the crash, soon."""
    async with ledger_app() as app:
        ledger = app.env.LEDGER.get("l")
        await ledger.fail_next(1)
        await app.env.SENDER.get("s").send(1, 2)
        await app.crash()
        await ledger.recover()
        await sleep(30)
        total, notes = await ledger.state()
        assert (total, sorted(notes)) == (3, ["1", "2"])


async def test_bad_signals_are_refused_where_they_are_sent() -> None:
    """An unknown method, a turn that only reads, too many."""
    async with ledger_app() as app:
        sender = app.env.SENDER.get("s")
        with pytest.raises(Invalid, match="did you mean"):
            await sender.misspell()
        with pytest.raises(Invalid, match="@reads"):
            await sender.send_reading()
        with pytest.raises(Overloaded, match="signals"):
            await sender.send(*[0] * (outbox.STORED_MAX + 1))


async def test_the_bytes_of_signals_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many wait: the next turn is refused, until some have arrived, or are dead; a crash changes nothing of it."""
    monkeypatch.setattr(outbox, "WAITING_BYTES_MAX", 1_000)
    async with ledger_app() as app:
        sender, ledger = app.env.SENDER.get("s"), app.env.LEDGER.get("l")
        for is_dead_in_the_end in (False, True):
            await ledger.fail_next(1)
            await sender.note("x" * 600)
            for _ in range(2):
                with pytest.raises(Overloaded, match="1,000 bytes of signals"):
                    await sender.note("x" * 600)
                await sender.note("y" * 100)
                await app.crash()
                await sleep(10)
            await sleep(1000 if is_dead_in_the_end else 0)
            await ledger.recover()
            await sleep(1000)
        await sender.note("z" * 800)
        await sleep(1)
        assert [note[0] for note in (await ledger.state())[1]].count("z") == 1


async def test_outside_turns_a_signal_is_a_call() -> None:
    """Its effect has happened when it returns; also a signal of an actor to itself."""
    async with ledger_app() as app:
        await app.env.LEDGER.get("l").signal("add", 3)
        assert (await app.env.LEDGER.get("l").state())[0] == 3
        await app.env.SENDER.get("s").to_myself(4)
        await sleep(1)
        assert (await app.env.LEDGER.get("l").state())[0] == 7


async def test_a_repeat_with_the_same_key_gets_the_first_result() -> None:
    """Within 24 hours, across a crash, side by side, and for that method only; a call that failed may be repeated."""
    async with ledger_app() as app:
        ledger = app.env.LEDGER.get("l")
        once = ledger.with_idempotency_key("k")
        assert await once.add(5) == 5
        assert await once.add(5) == 5
        await app.crash()
        assert await once.add(5) == 5
        assert await ledger.add(1) == 6
        await ledger.fail_next(1)
        other = ledger.with_idempotency_key("k2")
        with pytest.raises(ValueError):
            await other.add(1)
        await ledger.recover()
        assert await other.add(1) == 7
        await app.clock.advance(hours=24, seconds=1)
        assert await once.add(1) == 8
        for wrong in ("", "x" * 256, "a\nb", None):
            with pytest.raises(Invalid, match="idempotency"):
                ledger.with_idempotency_key(wrong)


async def test_results_are_forgotten_in_the_end() -> None:
    """A year of keys does not pile up."""
    async with ledger_app() as app:
        ledger = app.env.LEDGER.get("l")
        for number in range(50):
            await ledger.with_idempotency_key(f"k{number}").add(0)
        size = (await sizes(app))["ledger/l"]
        await app.clock.advance(hours=25)
        for number in range(50):
            await ledger.with_idempotency_key(f"n{number}").add(0)
        assert (await sizes(app))["ledger/l"] < 1.3 * size


async def test_a_service_passes_a_clients_key_on() -> None:
    """So that a client may repeat a request."""
    async with ledger_app() as app:
        for _ in range(3):
            answer = await app.client.post("http://api.localhost/add/5", headers={"idempotency-key": "a"})
            assert answer.text == "5"


async def test_only_what_is_of_one_history_is_compared() -> None:
    """What comes from another generation of the store, earlier or later: a signal is sent back, a farewell settles nothing."""
    async with TestApp.of(actors={"ledger": Ledger}) as app:
        node, target, generation = app._process.node, named_id("ledger", "l"), app.store.generation

        async def signal(generation: int) -> None:
            await node.deliver(target, Call("add", codec.encode([[1], {}]), origin=Origin("sender/s", 7, 7, generation)))

        async def settle(generation: int) -> None:
            await node.deliver(target, Settled(Origin("sender/s", 0, 8, generation)))

        await signal(generation)
        for other in (generation - 1, generation + 1):
            with pytest.raises(Unavailable, match="failed over"):
                await signal(other)
            await settle(other)
            await signal(generation)
            assert (await app.env.LEDGER.get("l").state())[0] == 1
        await settle(generation)
        await signal(generation)
        assert (await app.env.LEDGER.get("l").state())[0] == 2
