"""What the PostgreSQL engine does beyond the contract: large values, poison, clear errors, plans, poolers, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random  # noqa: TID251 - the seed of each test case
from typing import Any

import asyncpg
import pytest

from stead.clock import SystemClock, sleep
from stead.errors import EngineFailed
from stead.ids import named_id
from stead.storage.contract import Commit, Refused
from stead.storage.membership import NodeInfo
from stead.storage.postgres import PostgresEngine
from stead.storage.postgres.connections import PLAN_QUERIES_MIN, Connections
from stead.storage.postgres.failure import shown
from stead.storage.postgres.fence import Fence
from stead.storage.postgres.schema import PIECE_BYTES, STEPS, migrate
from stead.storage.postgres.statements import Parts, Statements
from stead.testing.conformance import Turns, claimed, everything
from tests.postgres.conftest import OpenPostgres, schema_of_this_process

A, B, C = named_id("cart", "a"), named_id("cart", "b"), named_id("cart", "c")
NODE = NodeInfo("node", "127.0.0.1:1")
SCHEMA = schema_of_this_process()
LIMIT_S = 60.0


def over_engine(
    check: Callable[[PostgresEngine], Awaitable[None]],
) -> Callable[[OpenPostgres], None]:
    """Make a coroutine over an engine that has joined a test of plain pytest."""

    def test(open_postgres: OpenPostgres) -> None:
        async def run() -> None:
            engine = await open_postgres()
            try:
                await engine.join(NODE, 60)
                await check(engine)
            finally:
                await engine.close()

        asyncio.run(run())

    test.__name__, test.__doc__ = getattr(check, "__name__", "test"), check.__doc__
    return test


async def query(dsn: str, text: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(text)
    finally:
        await connection.close()


@pytest.mark.parametrize("seed", range(5))
def test_values_in_pieces(open_postgres: OpenPostgres, postgres: str, seed: int) -> None:
    """Values come back whether they are one piece or several; what is replaced, deleted or erased leaves no piece behind."""
    chance = Random(seed)
    sizes = (0, 5, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7)

    async def run() -> None:
        engine = await open_postgres()
        await engine.join(NODE, 60)
        actors = [await claimed(engine, A), await claimed(engine, B)]
        models: list[dict[bytes, bytes]] = [{}, {}]
        for _ in range(12):
            batch = []
            for _ in range(chance.randrange(1, 4)):
                which = chance.randrange(2)
                erase = chance.random() < 0.15
                writes = {
                    b"%d" % chance.randrange(4): chance.choice([None, bytes([chance.randrange(256)]) * size])
                    for size in chance.sample(sizes, chance.randrange(3))
                }
                merged = {**({} if erase else models[which]), **writes}
                models[which] = {key: value for key, value in merged.items() if value is not None}
                size_bytes = sum(len(key) + len(value) for key, value in models[which].items())
                batch.append(actors[which].turn(writes, erase=erase, size_bytes=size_bytes))
            assert all(await engine.commit(batch))
        for actor, model in zip((A, B), models, strict=True):
            assert await everything(engine, actor) == model
            assert await engine.scan(actor, b"", None, reverse=True, limit=2) == sorted(model.items(), reverse=True)[:2]
            assert await engine.read(actor, [b"%d" % key for key in range(4)]) == model
            assert (await engine.claim(actor)).entries in (None, model)
        stored = sum(max(0, -(-len(value) // PIECE_BYTES) - 1) for model in models for value in model.values())
        assert await query(postgres, f"SELECT count(*) FROM {SCHEMA}.pieces") == stored
        await engine.close()

    asyncio.run(run())


@over_engine
async def test_poison_fails_alone(engine: PostgresEngine) -> None:
    """What cannot be stored fails its own commit; those that shared its statement are applied, earlier ones of its actor too."""
    a, b, c = [await claimed(engine, actor) for actor in (A, B, C)]
    poisoned = b.turn({Random(1).randbytes(3000): b"longer than an index takes, which the server finds"})
    first, alone, last = await engine.commit([a.turn({b"k": b"1"}), poisoned, c.turn({b"k": b"3"})])
    assert (first, last) == (True, True)
    assert isinstance(alone, Refused)
    batch = [a.turn({b"k": b"4"}), c.turn({b"k": b"5"}), c.turn(alarms={"\ud800": 1}), c.turn({b"k": b"6"}), a.turn({b"k": b"7"})]
    verdicts = await engine.commit(batch)
    assert [bool(verdict) for verdict in verdicts] == [True, True, False, False, True]
    assert isinstance(verdicts[2], Refused) and "surrogates not allowed" in str(verdicts[2].error)
    assert verdicts[3] is False  # it does not follow
    assert [await everything(engine, actor) for actor in (A, B, C)] == [{b"k": b"7"}, {}, {b"k": b"5"}]
    b.seq = 0
    assert await engine.commit([b.turn({b"k": b"2"})]) == [True]


@over_engine
async def test_a_batch_of_nothing_but_poison_raises(engine: PostgresEngine) -> None:
    """Nothing of it was applied, and the message says why."""
    a = await claimed(engine, A)
    with pytest.raises(EngineFailed, match="refuses the statement"):
        await engine.commit([a.turn(alarms={"": 1 << 70}), a.turn()])
    assert (await engine.claim(A)).seq == 0


@over_engine
async def test_a_refusal_says_why(engine: PostgresEngine) -> None:
    """The verdict on poison among others is not that on a fenced commit: it carries what the driver or the server said."""
    a, b, c = [await claimed(engine, actor) for actor in (A, B, C)]
    fenced = c.turn()
    await claimed(engine, C)
    applied, refused, stale = await engine.commit([a.turn(), b.turn(alarms={"": 1 << 70}), fenced])
    assert (applied, stale) == (True, False)
    assert isinstance(refused, Refused) and not refused
    assert "refuses the statement" in str(refused.error) and "out of int64 range" in str(refused.error)


@over_engine
async def test_a_commit_ends_without_its_caller(engine: PostgresEngine) -> None:
    """A caller that goes away tears nothing, and a release waits for the commit: the next claim finds it."""
    turns = await claimed(engine, A)
    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(engine.commit([turns.turn({b"k": b"v"})]))
        await sleep(0)
        caller.cancel()
        await engine.release(A, turns.claim.epoch)
    assert caller.cancelled()
    assert await engine.owner(A) is None
    assert (await engine.claim(A)).entries == {b"k": b"v"}


@over_engine
async def test_a_cold_start_claims_side_by_side(engine: PostgresEngine) -> None:
    """Many claims at once share the few connections and all succeed."""
    actors = [named_id("cold", str(number)) for number in range(200)]
    claims = await asyncio.gather(*(engine.claim(actor) for actor in actors))
    assert len({claim.epoch for claim in claims}) == 200
    assert await engine.owned() == {engine.incarnation: 200}


@over_engine
async def test_the_lease_and_commits_go_before_a_crowd(engine: PostgresEngine) -> None:
    """However many claims wait for a connection, a renewal and a commit wait for none of them: no crowd costs a node its actors."""
    turns = await claimed(engine, A)
    done: list[str] = []

    async def note(name: str, call: Awaitable[Any]) -> None:
        await call
        done.append(name)

    async with asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(note("claim", engine.claim(named_id("cold", str(number)))))
        await sleep(0)
        for _ in range(3):
            await note("renewal", engine.renew())
            await note("commit", engine.commit([turns.turn({b"k": b"v"})]))
        assert done.count("claim") < 150


@over_engine
async def test_a_crowd_of_commits_keeps_no_claim_waiting(engine: PostgresEngine) -> None:
    """However many commits wait, what is claimed or read takes turns with them."""
    crowd = [await claimed(engine, named_id("busy", str(number))) for number in range(30)]
    committed, ends = 0, asyncio.Event()

    async def commit(turns: Turns) -> None:
        nonlocal committed
        while not ends.is_set():
            await engine.commit([turns.turn({b"k": b"v"})])
            committed += 1

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(LIMIT_S):
        for turns in crowd:
            tasks.create_task(commit(turns))
        await sleep(0)
        await asyncio.gather(*(engine.claim(named_id("cold", str(number))) for number in range(30)))
        ends.set()
    assert committed < 150


@over_engine
async def test_a_lock_on_the_tables_costs_no_lease(engine: PostgresEngine) -> None:
    """While nothing can be read or claimed, as under VACUUM FULL, the lease is renewed; what waited goes on after it."""
    await engine.claim(A)
    keeper = await asyncpg.connect(DSN[0])
    try:
        async with asyncio.TaskGroup() as tasks, keeper.transaction():
            await keeper.execute(f"LOCK TABLE {SCHEMA}.actors, {SCHEMA}.entries IN ACCESS EXCLUSIVE MODE")
            waiting = [tasks.create_task(engine.claim(actor)) for actor in (A, B, C)]
            waiting += [tasks.create_task(engine.read(A, [b"%d" % number])) for number in range(8)]  # type: ignore[arg-type]
            for _ in range(20):
                await sleep(0.01)
                async with asyncio.timeout(LIMIT_S):
                    await engine.renew()
            assert not any(task.done() for task in waiting)
    finally:
        await keeper.close()


@over_engine
async def test_an_actor_that_appears_under_a_claim_is_claimed_whole(engine: PostgresEngine) -> None:
    """Its first commit came, and its owner left, after the claim had looked and before it took hold: nothing of that is missed."""
    other = await asyncpg.connect(DSN[0])
    try:
        async with other.transaction():  # what another node does, as the claim sees it: all at once
            number = await other.fetchval(f"SELECT nextval('{SCHEMA}.counter')")
            await other.execute(f"INSERT INTO {SCHEMA}.actors VALUES ('{A.text}', {number}, NULL, 1, 1, 1, 1, 2, 7, 7)")
            await other.execute(f"INSERT INTO {SCHEMA}.entries VALUES ({number}, 'k', 0, 0, 'v')")
            claiming = asyncio.ensure_future(engine.claim(A))  # noqa: TID251
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%claimed%'"
            async with asyncio.timeout(LIMIT_S):
                while not await query(DSN[0], waits):
                    await sleep(0.01)
        claim = await claiming
    finally:
        await other.close()
    assert (claim.seq, claim.size_bytes, claim.entries) == (1, 2, {b"k": b"v"})


@over_engine
async def test_claims_that_came_to_nothing_leave_nothing(engine: PostgresEngine) -> None:
    """An actor that was asked for and never wrote has no row once it is released: strangers cannot fill the registry."""
    first = await engine.claim(A)
    await engine.release(A, first.epoch)
    assert (await query(DSN[0], f"SELECT count(*) FROM {SCHEMA}.actors")) == 0
    assert (await engine.claim(A)).epoch > first.epoch
    assert await engine.commit([Commit(A, first.epoch, 1, {b"k": b"v"}, {}, 1, 1)]) == [False]


DSN: list[str] = []


@pytest.fixture(autouse=True)
def _dsn(postgres: str) -> None:
    DSN[:] = [postgres]


def refusal(dsn: str, **options: Any) -> str:
    """What opening says that does not succeed."""

    async def run() -> str:
        with pytest.raises(EngineFailed) as caught:
            await PostgresEngine.open(dsn, SystemClock(), **options)
        return str(caught.value)

    return asyncio.run(run())


def test_errors_say_what_to_do(postgres: str) -> None:
    """An address that is wrong in any way is told with advice, as is a server without connections; no message has a password."""
    make = "DO $$ BEGIN CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    asyncio.run(query(postgres, make))
    host = postgres.rpartition("@")[2].partition("/")[0]
    secret = "s3cr3t"
    cases = {
        f"postgresql://guarded:{secret}@{host}/postgres": "refuses the user or the password",
        f"postgresql://nobody:{secret}@{host}/postgres": "refuses the user or the password",
        f"postgresql://postgres:{secret}@{host}/missing": "no such database",
        f"postgresql://crowded:{secret}@{host}/postgres": "no connection left",
        f"postgresql://postgres:{secret}@127.0.0.1:1/postgres": "does not answer",
        f"postgresql://postgres:{secret}/x@{host}/postgres": "cannot be read",
        f"mysql://postgres:{secret}@{host}/postgres": "no address of a database",
    }
    for dsn, advice in cases.items():
        message = refusal(dsn)
        assert advice in message, message
        assert secret not in message
    assert "cannot be the schema's name" in refusal(postgres, schema="a; DROP TABLE b")


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://u:p@h:5/db?sslmode=require", "postgresql://u@h:5/db"),
        ("postgresql://u:p@x@h/db", "postgresql://u@h/db"),
        ("postgresql://u:a/b?c#d@h/db", "postgresql://u@h/db"),
        ("postgresql://h/db?user=u&password=p@q", "postgresql://…"),
        ("postgresql:///db", "postgresql:///db"),
    ],
)
def test_shown_addresses_hold_no_password(dsn: str, expected: str) -> None:
    """Whatever the password contains, escaped or not."""
    assert shown(dsn) == expected


def test_a_schema_that_was_made_for_the_user_is_enough(postgres: str) -> None:
    """Who may create none finds the one that an administrator has made; without it the message says how."""
    database, user = f"{SCHEMA}_given", f"{SCHEMA}_given"
    own = postgres.replace("postgres@", f"{user}@").rpartition("/")[0] + f"/{database}"

    async def run() -> None:
        for statement in (f"CREATE ROLE {user} LOGIN", f"CREATE DATABASE {database}"):
            await query(postgres, statement)
        with pytest.raises(EngineFailed, match="have an administrator CREATE SCHEMA stead AUTHORIZATION"):
            await PostgresEngine.open(own, SystemClock())
        await query(postgres.rpartition("/")[0] + f"/{database}", f"CREATE SCHEMA stead AUTHORIZATION {user}")
        engine = await PostgresEngine.open(own, SystemClock())
        await engine.close()
        await query(postgres, f"DROP DATABASE {database}")
        await query(postgres, f"DROP ROLE {user}")

    asyncio.run(run())


@pytest.mark.parametrize("before", range(len(STEPS)))
def test_migrations(open_postgres: OpenPostgres, postgres: str, before: int) -> None:
    """Several nodes that start at once make the tables once, or renew older ones; a newer schema is refused and left as it is."""

    async def run() -> None:
        await query(postgres, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        connection = await asyncpg.connect(postgres)
        await migrate(connection, SCHEMA, STEPS[:before])
        await connection.close()
        engines = await asyncio.gather(*(PostgresEngine.open(postgres, SystemClock(), schema=SCHEMA) for _ in range(6)))
        for engine in engines:
            await engine.close()
        assert await query(postgres, f"SELECT version FROM {SCHEMA}.version") == len(STEPS)
        await query(postgres, f"UPDATE {SCHEMA}.version SET version = 99")
        try:
            with pytest.raises(EngineFailed, match="version 99 and this release of Stead knows up to"):
                await PostgresEngine.open(postgres, SystemClock(), schema=SCHEMA)
        finally:
            await query(postgres, f"UPDATE {SCHEMA}.version SET version = {len(STEPS)}")

    asyncio.run(run())


def test_nothing_of_a_session_is_used() -> None:
    """No statement needs what PgBouncer in transaction mode, or a relative of PostgreSQL, lacks."""
    statements = Statements("s", Fence())
    texts = [text for text in vars(statements).values() if isinstance(text, str)]
    texts += [statements.scan(has_end=True, reverse=True)]
    texts += [statements.commit(Parts(*[bool(number >> bit & 1) for bit in range(6)])) for number in range(64)]
    for text in [*texts, *STEPS]:
        for word in ("LISTEN", "NOTIFY", "advisory", "TEMP ", "SET LOCAL", "DECLARE", "FOR UPDATE", "LANGUAGE"):
            assert word not in text


def test_plans_follow_the_tables(postgres: str) -> None:
    """A plan that was made for an empty table does not stay as it grows: statements are prepared anew as their number doubles."""

    async def run() -> None:
        pool = Connections(postgres, 1, SystemClock())
        numbers = []
        for _ in range(8 * PLAN_QUERIES_MIN):
            rows = await pool.fetch("SELECT name FROM pg_prepared_statements ORDER BY prepare_time DESC", timeout_s=5)
            numbers.append(rows[0][0])
            assert len(rows) <= 2
        await pool.close()
        assert 3 <= len(set(numbers)) <= 5

    asyncio.run(run())
