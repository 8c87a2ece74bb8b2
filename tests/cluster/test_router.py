"""Events find their actor, whichever node they come to, and callers see of it no more than a delay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from stead import (
    Actor,
    AlarmInfo,
    Ambiguous,
    HTTPException,
    Invalid,
    Overloaded,
    Request,
    Response,
    Service,
    SteadError,
    Unavailable,
    durable,
    reads,
    route,
)
from stead.clock import sleep
from stead.cluster.routes import ROUTE_EVENTS_MAX
from stead.testing import Cluster
from tests.properties.harness import Started

pytestmark = pytest.mark.usefixtures("clock")
LEASE_S = 6.0
LARGE_BYTES = 3 << 20  # more than a window, and more than an answer carries


class OutOfStock(Exception):
    """An application's error with a constructor of its own."""

    def __init__(self, product: str, *, left: int) -> None:
        super().__init__(f"{product} is out of stock")
        self.left = left


class Counter(Actor):
    value: int = durable(0)
    heard: list[int] = durable(factory=list)

    async def add(self, n: int = 1, pause_s: float = 0.0) -> int:
        await sleep(pause_s)
        self.value += n
        return self.value

    @reads
    async def read(self) -> int:
        return self.value

    async def through(self, other: str) -> int:
        """Add here, and there, which comes back to add here again."""
        self.value += 1
        await self.env.COUNTER.get(other).back(self.id.name)
        return self.value

    async def back(self, name: str) -> None:
        self.value += 1
        await self.env.COUNTER.get(name).add(10)

    async def fail(self, how: str) -> None:
        self.value += 1
        if how == "http":
            raise HTTPException(418, "a teapot")
        raise OutOfStock("tea", left=3)

    async def remind(self, seconds: float) -> None:
        await self.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self, alarm: AlarmInfo) -> None:
        self.value += 100

    async def tell(self, other: str, number: int) -> None:
        await self.env.COUNTER.get(other).signal("hear", number)

    async def hear(self, number: int) -> None:
        self.heard.append(number)

    async def heard_all(self) -> list[int]:
        return self.heard

    async def fetch(self, request: Request) -> Response | dict[str, Any]:
        if request.url.path == "/echo":
            return Response(await request.body(), media_type="application/octet-stream", headers={"x-tag": "echo"})
        if request.url.path == "/stream":
            return StreamingResponse(self._chunks(int(request.query_params["count"])), 202, media_type="text/plain")
        if request.url.path == "/half":
            return StreamingResponse(self._half())
        if request.url.path == "/gone":
            raise HTTPException(410, "no more")
        return {"value": self.value, "method": request.method, "name": self.id.name}

    async def _chunks(self, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            await sleep(0.01)
            yield b"%d," % number

    async def _half(self) -> AsyncIterator[bytes]:
        yield b"a beginning"
        raise OutOfStock("ink", left=0)


class Front(Service):
    @route("GET", "/{name}/{path}")
    async def get(self, request: Request, name: str, path: str) -> Response:
        return await self.env.COUNTER.get(name).fetch(_at(request, f"/{path}"))  # type: ignore[no-any-return]

    @route("POST", "/{name}/{path}")
    async def post(self, request: Request, name: str, path: str) -> Response:
        return await self.env.COUNTER.get(name).fetch(_at(request, f"/{path}"))  # type: ignore[no-any-return]


def _at(request: Request, path: str) -> Request:
    return Request({**request.scope, "path": path, "raw_path": path.encode()}, request.receive)


async def spread(cluster: Cluster, *names: str) -> None:
    """Put actors on nodes: the first on node 0, the second on node 1, and so on."""
    for node, name in enumerate(names):
        actor = cluster.env.COUNTER.get(name)
        await actor.read()
        if cluster.owner(actor) != node:
            assert await cluster.move(actor, node)
        assert cluster.owner(actor) == node


def counters(nodes: int = 3) -> Cluster:
    return Cluster.of(actors={"counter": Counter}, services={"front": Front}, nodes=nodes)


# -- calls -------------------------------------------------------------------------------------------------------------------------


async def test_one_actor_serves_callers_on_every_node() -> None:
    """Calls on any node run on the one that has the actor; each sees what the others did."""
    async with counters() as cluster:
        for number in range(30):
            assert await cluster.env_at(number % 3).COUNTER.get(f"c{number // 6}").add() == number % 6 + 1
        owners = [cluster.owner(cluster.env.COUNTER.get(f"c{number}")) for number in range(5)]
        assert None not in owners
        assert len(set(owners)) > 1, "all actors are on one node"


async def test_a_call_that_comes_back_runs_nested_on_another_node() -> None:
    """A → B → A over two nodes: the inner call runs inside the turn that waits for it, and sees what that committed."""
    async with counters() as cluster:
        await spread(cluster, "a", "b")
        assert await cluster.env_at(2).COUNTER.get("a").through("b") == 11
        assert await cluster.env_at(2).COUNTER.get("b").read() == 1


async def test_an_applications_error_crosses_as_itself() -> None:
    """Type, message and attributes; nothing of its turn stays."""
    async with counters() as cluster:
        await spread(cluster, "a")
        actor = cluster.env_at(1).COUNTER.get("a")
        with pytest.raises(OutOfStock, match="tea is out of stock") as caught:
            await actor.fail("own")
        assert caught.value.left == 3
        assert any("in a turn of counter/a" in note for note in caught.value.__notes__)
        with pytest.raises(HTTPException) as teapot:
            await actor.fail("http")
        assert (teapot.value.status_code, teapot.value.detail) == (418, "a teapot")
        with pytest.raises(Invalid):
            await actor.add("three")
        assert await actor.read() == 0


async def test_a_caller_that_goes_away_leaves_the_turn_alone() -> None:
    """What it asked for runs to its end on the other node."""
    async with counters() as cluster:
        await spread(cluster, "a")
        actor = cluster.env_at(1).COUNTER.get("a")
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(actor.add(1, 1.0))
            await sleep(0.1)
            call.cancel()
        await sleep(2)
        assert await actor.read() == 1


async def test_a_signal_takes_effect_once_across_nodes() -> None:
    """In the order in which they were sent, though both actors move meanwhile."""
    async with counters() as cluster:
        await spread(cluster, "a", "b")
        for number in range(12):
            await cluster.env_at(2).COUNTER.get("a").tell("b", number)
            if number % 4 == 3:
                await cluster.move(cluster.env.COUNTER.get("ab"[number // 4 % 2]), number // 4)
        await sleep(10)
        assert await cluster.env_at(2).COUNTER.get("b").heard_all() == list(range(12))


# -- requests ----------------------------------------------------------------------------------------------------------------------


async def test_requests_are_answered_by_another_node() -> None:
    """Status, headers and body cross; so does what a handler raises."""
    async with counters() as cluster:
        await spread(cluster, "a")
        client = cluster.client(1)
        answer = await client.get("http://front.localhost/a/value")
        assert answer.json() == {"value": 0, "method": "GET", "name": "a"}
        answer = await client.post("http://front.localhost/a/echo", content=b"abc")
        assert (answer.content, answer.headers["x-tag"]) == (b"abc", "echo")
        assert (await client.get("http://front.localhost/a/gone")).status_code == 410


async def test_large_bodies_flow_both_ways() -> None:
    """A body larger than every window is sent whole to the other node and back."""
    async with counters() as cluster:
        await spread(cluster, "a")
        body = bytes(range(256)) * (LARGE_BYTES // 256)
        answer = await cluster.client(1).post("http://front.localhost/a/echo", content=body)
        assert answer.status_code == 200
        assert answer.content == body


async def test_a_response_streams_from_another_node() -> None:
    """Its generator runs where the actor is, and its chunks come as they are made."""
    async with counters() as cluster:
        await spread(cluster, "a")
        answer = await cluster.client(1).get("http://front.localhost/a/stream?count=50")
        assert answer.status_code == 202
        assert answer.text == "".join(f"{number}," for number in range(50))


async def test_a_response_that_streams_outlives_the_stop_of_its_node() -> None:
    """A node that stops in order sends other nodes' clients what it has begun, as it does its own; not for ever."""
    async with counters() as cluster:

        async def stream(name: str, count: int) -> str:
            return (await cluster.client(2).get(f"http://front.localhost/{name}/stream?count={count}")).text

        await spread(cluster, "a", "b")
        for node, name, count in ((0, "a", 300), (1, "b", 1_000_000)):
            streamed = asyncio.gather(stream(name, count), return_exceptions=True)
            await sleep(1)
            await cluster.stop(node)
            [outcome] = await streamed
            if node == 0:
                assert outcome == "".join(f"{number}," for number in range(count))
            else:
                assert isinstance(outcome, Ambiguous)


async def test_half_a_response_is_never_a_whole_one() -> None:
    """What a generator raises in the middle reaches who sends the response to the client."""
    async with counters() as cluster:
        await spread(cluster, "a")
        with pytest.raises(OutOfStock):
            await cluster.client(1).get("http://front.localhost/a/half")


# -- alarms ------------------------------------------------------------------------------------------------------------------------


async def test_an_alarm_fires_once_wherever_its_actor_is() -> None:
    """Also if the node that set it is dead when it is due."""
    async with counters() as cluster:
        await spread(cluster, "a", "b")
        await cluster.env.COUNTER.get("a").remind(30)
        await cluster.env.COUNTER.get("b").remind(30)
        await cluster.kill(0)
        await sleep(45)
        assert await cluster.env.COUNTER.get("a").read() == 100
        assert await cluster.env.COUNTER.get("b").read() == 100


# -- moves -------------------------------------------------------------------------------------------------------------------------


async def test_an_actor_moves_and_nobody_notices() -> None:
    """Calls before, during and after a move are answered in order by whoever has the actor then."""
    async with counters(2) as cluster:
        await spread(cluster, "a")
        calls = [Started(cluster.env_at(1).COUNTER.get("a").add(1, 0.05)) for _ in range(5)]
        assert await cluster.move(cluster.env.COUNTER.get("a"), 1)
        assert [await call for call in calls] == [1, 2, 3, 4, 5]
        assert cluster.owner(cluster.env.COUNTER.get("a")) == 1
        assert await cluster.env_at(0).COUNTER.get("a").read() == 5


async def test_whoever_ordered_a_move_may_go_away() -> None:
    """The actor leaves all the same, and does not hold what comes for ever."""
    async with counters(2) as cluster:
        await spread(cluster, "a")
        actor, part = cluster.env_at(0).COUNTER.get("a"), cluster._seats[0].living().node.cluster
        assert part is not None
        turn = Started(actor.add(1, 1.0))
        await sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await part.move(actor.id, "node-1")
        assert await actor.add() == 2
        assert await turn == 1
        assert cluster.owner(actor) == 1


async def test_a_move_to_nowhere_moves_nothing() -> None:
    """An actor that nobody has is not moved; one node cannot get it if it does not live."""
    async with counters() as cluster:
        actor = cluster.env.COUNTER.get("a")
        assert not await cluster.move(actor, 1)
        await actor.add()
        await cluster.kill(2)
        await sleep(LEASE_S * 2)
        with pytest.raises(Unavailable):
            await cluster.move(actor, 2)
        assert await actor.add() == 2


async def test_a_node_that_stops_hands_its_actors_over() -> None:
    """Calls on other nodes never fail while it does, and none is lost or runs twice."""
    async with counters() as cluster:
        done = 0

        async def call(node: int) -> None:
            nonlocal done
            for number in range(60):
                await cluster.env_at(node).COUNTER.get(f"c{number % 12}").add(1, 0.01)
                done += 1

        async with asyncio.TaskGroup() as tasks:
            for node in (1, 2, 1, 2):
                tasks.create_task(call(node))
            await sleep(0.3)
            began_s = cluster.clock.elapsed_s()
            await cluster.stop(0)
            assert cluster.clock.elapsed_s() - began_s < 0.5
        assert sum([await cluster.env_at(1).COUNTER.get(f"c{number}").read() for number in range(12)]) == done == 240


# -- death and the lease -----------------------------------------------------------------------------------------------------------


async def test_a_dead_nodes_actors_are_taken_over_when_its_lease_is_over() -> None:
    """Nothing answers for them before; then another node has them, with all that was acknowledged."""
    async with counters() as cluster:
        await spread(cluster, "a")
        assert await cluster.env_at(1).COUNTER.get("a").add() == 1
        began_s = cluster.clock.elapsed_s()
        await cluster.kill(0)
        await sleep(1)  # until the loss of the channel is noticed: what is sent before may have run
        assert await cluster.env_at(1).COUNTER.get("a").add() == 2
        took_s = cluster.clock.elapsed_s() - began_s
        assert LEASE_S / 2 < took_s <= LEASE_S + 0.3


async def test_who_should_take_over_may_be_frozen_too() -> None:
    """The node that is left waits for neither of the two longer than for their leases, or to miss them."""
    async with counters() as cluster:
        names = [f"c{number}" for number in range(6)]
        for name in names:
            await cluster.env.COUNTER.get(name).add()
            await cluster.move(cluster.env.COUNTER.get(name), 1)
        began_s = cluster.clock.elapsed_s()
        cluster.pause(1)
        asyncio.get_running_loop().call_later(LEASE_S * 0.75, cluster.pause, 0)
        await sleep(2)  # until the channel to the owner is over
        assert [await read for read in [Started(cluster.env_at(2).COUNTER.get(name).read()) for name in names]] == [1] * len(names)
        assert cluster.clock.elapsed_s() - began_s < LEASE_S * 0.75 + 1.9


async def test_a_node_that_comes_back_is_known_at_once() -> None:
    """What a killed node's next life takes in is found by the others without waiting for their next renewal."""
    async with counters() as cluster:
        await spread(cluster, "a")
        for number in range(1, 6):
            await cluster.kill(0)
            began_s = cluster.clock.elapsed_s()
            await cluster.restart(0)
            answers = [await cluster.env_at(node).COUNTER.get("a").add() for node in (0, 1, 2)]
            assert answers == [3 * number - 2, 3 * number - 1, 3 * number]
            assert cluster.clock.elapsed_s() - began_s < 0.2


async def test_what_was_under_way_to_a_dead_node_is_ambiguous_unless_it_may_be_repeated() -> None:
    """Reads and calls with a key are sent again, and are answered by the next owner; another call is not."""
    async with counters() as cluster:
        await spread(cluster, "a")
        actor: Any = cluster.env_at(1).COUNTER.get("a")
        plain = Started(_outcome(actor.add(1, 0.2)))
        keyed = Started(_outcome(actor.with_idempotency_key("k").add(10, 0.2)))
        reading = Started(_outcome(actor.read()))
        await sleep(0.1)
        await cluster.kill(0)
        assert isinstance(await plain, Ambiguous)
        assert await keyed == 10
        assert await reading == 10
        assert await actor.with_idempotency_key("k").add(10) == 10


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except SteadError as exc:
        return exc


async def test_a_frozen_node_does_not_answer_when_it_wakes() -> None:
    """Not even a read that it had begun: by then another may be the owner."""
    async with counters() as cluster:
        await spread(cluster, "a")
        inside = asyncio.get_running_loop().create_task(_outcome(cluster.env_at(0).COUNTER.get("a").add(1, 0.2)))
        await sleep(0.1)
        cluster.pause(0)
        await sleep(LEASE_S + 2)
        assert await cluster.env_at(1).COUNTER.get("a").add(5) == 5
        cluster.resume(0)
        assert isinstance(await inside, SteadError)
        await sleep(LEASE_S)
        assert await cluster.env_at(0).COUNTER.get("a").read() == 5


async def test_a_node_without_its_database_gives_up_and_comes_back() -> None:
    """Its actors go to the others; what comes in at it is refused, and has not run; after the fault it takes part again."""
    async with counters() as cluster:
        await spread(cluster, "a")
        cluster.partition(0, "database")
        await sleep(LEASE_S * 1.5)
        assert await cluster.env_at(1).COUNTER.get("a").add() == 1
        with pytest.raises(Unavailable):
            await cluster.env_at(0).COUNTER.get("a").add()
        cluster.heal()
        await sleep(LEASE_S)
        assert await cluster.env_at(0).COUNTER.get("a").add() == 2
        assert await cluster.move(cluster.env.COUNTER.get("a"), 0)
        assert await cluster.env_at(1).COUNTER.get("a").add() == 3


async def test_what_waits_for_a_node_is_bounded() -> None:
    """Past the bound of one actor a call is refused at once, and calls to others go on."""
    async with counters() as cluster:
        await spread(cluster, "a", "b", "c")
        await cluster.kill(0)
        await sleep(1)
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(_outcome(cluster.env_at(1).COUNTER.get("a").add())) for _ in range(2 * ROUTE_EVENTS_MAX)]
            await sleep(0.5)
            refused = sum(call.done() and isinstance(call.result(), Overloaded) for call in calls)
            assert refused >= ROUTE_EVENTS_MAX / 2, "besides those in the queue some may be tried here: as many as a mailbox holds"
            assert await cluster.env_at(1).COUNTER.get("c").add() == 1
        assert all(isinstance(call.result(), int | Overloaded) for call in calls)
        assert sum(isinstance(call.result(), int) for call in calls) >= ROUTE_EVENTS_MAX / 2


async def test_without_any_node_that_can_have_it_a_call_is_unavailable() -> None:
    """A node that is cut off from everything says so once the owner's lease should have ended, and nothing has run."""
    async with counters(2) as cluster:
        await spread(cluster, "a", "b")
        cluster.partition(0, 1)
        cluster.partition(0, "database")
        await sleep(LEASE_S * 1.5)
        began_s = cluster.clock.elapsed_s()
        with pytest.raises(Unavailable):
            await cluster.env_at(0).COUNTER.get("b").add()
        assert cluster.clock.elapsed_s() - began_s <= LEASE_S + 3.0
        cluster.heal()
        await sleep(LEASE_S)
        assert await cluster.env_at(0).COUNTER.get("b").add() == 1
