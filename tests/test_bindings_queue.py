"""Queues: what is sent is dealt with, at least once, or ends among the dead letters; never anywhere between."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import msgspec
import pytest

from stead import Actor, Batch, Invalid, Message, Observer, Overloaded, durable, reads
from stead.bindings import Binding, Queue, QueueSettings, observer_service, queue_class
from stead.bindings.queue import Outgoing
from stead.clock import sleep
from stead.testing import TestApp

pytestmark = pytest.mark.usefixtures("clock")


class Sorter(Observer):
    """Tells an actor what it got, and does what the message says."""

    async def process(self, message: Message) -> None:
        await self.env.BOOK.get("b").note(message.id, message.body, message.attempts)
        match message.body:
            case {"fail": times} if message.attempts <= times:
                raise ValueError(f"attempt {message.attempts}")
            case {"retry": delay_s} if message.attempts == 1:
                message.retry(delay_s)
                message.ack()  # the first call won
            case {"ack_and_raise": _}:
                message.ack()
                raise ValueError("after acknowledging")


class Batcher(Observer):
    """Takes whole batches; those that hold "poison" raise, but for what was acknowledged before."""

    sizes: ClassVar[list[int]] = []

    async def process_batch(self, batch: Batch) -> None:
        self.sizes.append(len(batch.messages))
        for message in batch.messages:
            if message.body == "poison":
                raise ValueError
            await self.env.BOOK.get("b").note(message.id, message.body, message.attempts)
            message.ack()


class Sizer(Observer):
    """Counts what it gets."""

    sizes: ClassVar[list[int]] = []

    async def process_batch(self, batch: Batch) -> None:
        self.sizes.append(len(batch.messages))


class Book(Actor):
    lines: list[Any] = durable(factory=list)

    async def note(self, id: str, body: Any, attempts: int) -> None:
        self.lines.append((body, attempts))

    @reads
    async def read(self) -> list[Any]:
        return self.lines

    async def send(self, *bodies: Any, fail: bool = False) -> None:
        await self.env.JOBS.send_batch(bodies)
        if fail:
            raise ValueError


class Once(Observer):
    """Does each message once, as the documentation says."""

    async def process(self, message: Message) -> None:
        await self.env.BOOK.get("b").with_idempotency_key(message.id).note("", message.body, message.attempts)


def queue(observer: type[Observer] | None = Sorter, shards: int = 1, name: str = "jobs", **settings: Any) -> Binding:
    consumer = None if observer is None else f"{name}.observer"
    services = {} if observer is None else {f"{name}.observer": observer_service(observer, name)}
    said = QueueSettings(name=name, consumer=consumer, **{"max_batch_timeout_s": 0.0, **settings})
    return Binding(queue_class(said), partial(Queue, shards=shards), services)


def app_with(binding: Binding) -> TestApp:
    return TestApp.of(actors={"book": Book}, bindings={"jobs": binding})


async def bodies(app: TestApp) -> list[Any]:
    return [body for body, _ in await app.env.BOOK.get("b").read()]


async def test_what_is_sent_is_processed_and_gone() -> None:
    """In the order sent; every content type comes back as it was; nothing is left in storage."""
    async with app_with(queue(max_concurrency=1)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.send({"a": [1]})
        await jobs.send("text", content_type="text")
        await jobs.send(b"\xff", content_type="bytes")
        await jobs.send({"set": {1, 2}}, content_type="python")
        await jobs.send_batch(range(30))
        await sleep(5)
        assert await bodies(app) == [{"a": [1]}, "text", b"\xff", {"set": {1, 2}}, *range(30)]
        status = await jobs.status()
        assert (status.messages, status.in_hands, status.dead_letters) == (0, 0, 0)


async def test_no_two_messages_have_the_same_id() -> None:
    """Not those of two shards or two queues: a key made of it keeps repeats away, and nothing else."""
    queues = {name: queue(Once, shards=2, name=name) for name in ("jobs", "mails")}
    async with TestApp.of(actors={"book": Book}, bindings=queues) as app:
        for number in range(4):
            await app.env.JOBS.send(number)
            await app.env.MAILS.send(number + 4)
        await sleep(5)
        assert sorted(await bodies(app)) == list(range(8))


async def test_failures_are_tried_again_and_then_kept() -> None:
    """max_retries more times, then among the dead letters, from where they can be sent again; others are not held up."""
    async with app_with(queue(max_retries=2, retry_delay_s=5)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.send_batch([{"fail": 1}, {"fail": 99}, "fine", {"ack_and_raise": 1}, {"retry": 60}])
        await sleep(50)
        lines = await app.env.BOOK.get("b").read()
        assert [attempts for body, attempts in lines if body == {"fail": 99}] == [1, 2, 3]
        assert [attempts for body, attempts in lines if body == {"fail": 1}] == [1, 2]
        assert [attempts for body, attempts in lines if body == {"retry": 60}] == [1]
        assert [body for body, _ in lines].count({"ack_and_raise": 1}) == 1
        await sleep(20)
        assert (await jobs.status()).messages == 0
        letters = await jobs.peek(dead=True)
        assert [letter.value() for letter in letters] == [{"fail": 99}]
        assert await jobs.replay_dead() == 1
        await sleep(50)
        assert (await jobs.status()).dead_letters == 1
        assert await jobs.purge(dead=True) == 1


async def test_batches_are_full_or_have_waited() -> None:
    """Ten at a time while there are ten, the rest after the time-out; a batch that raises retries what it had not acknowledged."""
    Batcher.sizes.clear()
    async with app_with(queue(Batcher, max_batch_size=10, max_batch_timeout_s=5, max_concurrency=1, max_retries=0)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.send_batch(range(25))
        await sleep(2)
        assert Batcher.sizes == [10, 10]
        await sleep(4)
        assert Batcher.sizes == [10, 10, 5]
        await jobs.send_batch(["good", "poison", "behind"])
        await sleep(10)
        assert "good" in await bodies(app)
        assert sorted(letter.value() for letter in await jobs.peek(dead=True)) == ["behind", "poison"]


async def test_batches_and_what_was_sent_together_are_cut_anywhere() -> None:
    """Batches are full across sends of any size, in order; what fails in one is tried again alone, the rest is not held up."""
    Batcher.sizes.clear()
    async with app_with(queue(Batcher, max_batch_size=10, max_batch_timeout_s=5, max_concurrency=1, max_retries=1)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.pause()
        for start in (0, 7, 14):
            await jobs.send_batch(range(start, start + 7))
        await jobs.send_batch(["last", "poison"])
        await jobs.resume()
        await sleep(2)
        assert Batcher.sizes == [10, 10]
        assert await bodies(app) == list(range(20))
        assert (await jobs.status()).messages == 3
        await app.crash()
        await sleep(30)
        assert (await bodies(app))[20:] == [20, "last"]
        assert [(letter.value(), letter.attempts) for letter in await jobs.peek(dead=True)] == [("poison", 3)]
        status = await jobs.status()
        assert (status.messages, status.in_hands, status.dead_letters) == (0, 0, 1)


async def test_large_messages_are_sent_together_too() -> None:
    """More than a value may hold, and in order."""
    large = ["x" * 900_000, "y" * 100_000, "z" * 100_000, "w" * 900_000]
    async with app_with(queue(max_concurrency=1)) as app:
        await app.env.JOBS.send_batch(large, content_type="text")
        await sleep(5)
        assert await bodies(app) == large


async def test_large_messages_make_small_batches() -> None:
    """A batch has no more than a call may carry."""
    Sizer.sizes.clear()
    async with app_with(queue(Sizer, max_batch_size=100, max_concurrency=1)) as app:
        await app.env.JOBS.pause()
        for _ in range(4):
            await app.env.JOBS.send_batch(["x" * 1_000_000] * 10, content_type="text")
        await app.env.JOBS.resume()
        await sleep(10)
        assert Sizer.sizes == [17, 17, 6]


async def test_what_cannot_be_read_fails_alone() -> None:
    """It ends among the dead letters, which others of the same send do not share."""
    async with app_with(queue(Batcher, max_retries=0)) as app:
        await app.env.JOBS.take_over([Outgoing([b"1", b"{", b"2"])])
        await sleep(5)
        assert await bodies(app) == [1, 2]
        assert [letter.body for letter in await app.env.JOBS.peek(dead=True)] == [b"{"]


async def test_a_delay_is_kept_to() -> None:
    """A message that is due in two seconds comes then, not when somebody looks next."""
    async with app_with(queue()) as app:
        await app.env.JOBS.send("later", delay_s=2)
        await sleep(1.9)
        assert await bodies(app) == []
        await sleep(0.3)
        assert await bodies(app) == ["later"]


async def test_delays_hibernation_and_crashes() -> None:
    """A delayed message comes when it is due, also if nobody is in memory and the process died."""
    async with app_with(queue()) as app:
        await app.env.JOBS.send("later", delay_s=3600)
        await app.crash()
        await app.clock.advance(minutes=59)
        assert await bodies(app) == []
        await app.clock.advance(minutes=2)
        assert await bodies(app) == ["later"]


async def test_a_turns_messages_commit_with_it() -> None:
    """What fails sends nothing."""
    async with app_with(queue()) as app:
        await app.env.BOOK.get("x").send(1, 2)
        with pytest.raises(ValueError):
            await app.env.BOOK.get("x").send(3, fail=True)
        await sleep(5)
        assert await bodies(app) == [1, 2]


async def test_pulling() -> None:
    """A lease holds for its time; late verdicts change nothing; what is not acknowledged comes again, counted."""
    async with app_with(queue(None, shards=3, max_retries=2)) as app:
        jobs: Queue = app.env.JOBS
        for number in range(9):
            await jobs.send(number)
        first = await jobs.lease(limit=4, lease_s=30)
        rest = await jobs.lease(limit=100, lease_s=1000)
        assert len(first) == 4
        assert sorted(message.value() for message in first + rest) == list(range(9))
        assert await jobs.ack(rest) == 5
        assert await jobs.retry(first[:1], delay_s=0) == 1
        assert [message.value() for message in await jobs.lease()] == [first[0].value()]
        await app.crash()
        await sleep(31)
        again = await jobs.lease()
        assert sorted(message.value() for message in again) == sorted(message.value() for message in first)
        assert await jobs.ack(first) == 0
        assert await jobs.ack(again) == 4
        assert (await jobs.status()).messages == 0


async def test_leases_that_end_are_failed_attempts() -> None:
    """A message that nobody settles is leased max_retries more times, and is a dead letter then; its neighbours are not."""
    async with app_with(queue(None, max_retries=1)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.send_batch(range(3))
        first = await jobs.lease(lease_s=10)
        assert await jobs.ack(first[2:]) == 1
        await sleep(11)
        second = await jobs.lease(lease_s=10)
        assert [(message.value(), message.attempts) for message in second] == [(0, 2), (1, 2)]
        assert await jobs.ack(first) == 0
        await sleep(11)
        assert await jobs.lease() == []
        await sleep(1)
        assert (await jobs.status()).messages == 0
        assert [letter.value() for letter in await jobs.peek(dead=True)] == [0, 1]


async def test_pausing_purging_and_bounds() -> None:
    """A paused queue hands nothing out and takes what is sent; a full one refuses; old messages are dead."""
    async with app_with(queue(messages_max=5, retention_s=3600)) as app:
        jobs: Queue = app.env.JOBS
        await jobs.pause()
        await jobs.send_batch(range(5))
        await sleep(5)
        assert await bodies(app) == []
        with pytest.raises(Overloaded):
            await jobs.send("one more")
        assert await jobs.purge() == 5
        await jobs.send("kept")
        await app.clock.advance(hours=1, minutes=30)
        status = await jobs.status()
        assert (status.messages, status.dead_letters, status.paused) == (0, 1, True)
        await app.clock.advance(hours=1)
        assert (await jobs.status()).dead_letters == 0
        await jobs.send("last")
        await jobs.resume()
        await sleep(5)
        assert await bodies(app) == ["last"]


async def test_bad_messages_are_refused_when_sent() -> None:
    """Wrong types, too large, too far in the future, too many."""
    async with app_with(queue()) as app:
        jobs: Queue = app.env.JOBS
        wrong: list[tuple[Any, dict[str, Any]]] = [
            (object(), {}),
            (5, {"content_type": "text"}),
            ("x", {"content_type": "bytes"}),
            ("x", {"content_type": "xml"}),
            ("x" * 1_100_000, {}),
            ("x", {"delay_s": 50_000}),
            ("x", {"delay_s": -1}),
        ]
        for body, how in wrong:
            with pytest.raises(Invalid):
                await jobs.send(body, **how)
        with pytest.raises(Invalid):
            await jobs.send_batch(range(1001))
        with pytest.raises(Invalid):
            await jobs.lease(limit=0)
        assert (await jobs.status()).messages == 0


async def test_who_is_outside_pulls_and_settles_as_json() -> None:
    """Bodies of every type come as JSON; a lease settles once, on the shard that it came from; what is none is refused."""
    async with TestApp.of(bindings={"jobs": Binding(queue_class(QueueSettings(name="jobs")), partial(Queue, shards=2))}) as app:
        jobs: Queue = app.env.JOBS
        for body, kind in (({"a": 1}, "json"), ("text", "text"), (b"\x00", "bytes"), ({1: Decimal("1.5")}, "python")):
            await jobs.send(body, content_type=kind)  # type: ignore[arg-type]
        pulled = await jobs.pull(10, 60)
        bodies = [
            body for _, body in sorted((line["content_type"], line["body"]) for line in msgspec.to_builtins(pulled, str_keys=True))
        ]
        assert bodies == ["AA==", {"a": 1}, {"1": "1.5"}, "text"]
        assert await jobs.pull() == []
        first, second, *others = [message.lease for message in pulled]
        assert await jobs.settle(ack=[first], retry=[second], delay_s=5) == 2
        assert await jobs.settle(ack=[first, second]) == 0
        assert [message.attempts for message in await jobs.look()] == [2, 2, 2]
        await app.clock.advance(5)
        (again,) = await jobs.pull()
        assert again.attempts == 2 and again.lease != second
        assert await jobs.settle(ack=[again.lease, *others]) == 3
        assert (await jobs.status()).messages == 0
        for wrong in ("", "0", "2/q:1", "0-1", "2-1/q:1", "x-1/q:1", "0-x/q:1"):
            with pytest.raises(Invalid, match="is no lease"):
                await jobs.settle(ack=[wrong])
        with pytest.raises(Invalid):
            await jobs.settle(ack=[1])  # type: ignore[list-item]
