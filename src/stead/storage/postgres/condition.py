"""How a server and its database are, for an operator who wants to know before users do. It only looks; nothing is decided here.

What a server does not tell, because it is a relative of PostgreSQL or the user lacks a right, is None.

**Durable commits** are timed with a message in the write-ahead log (`pg_logical_emit_message`), which is flushed as any commit
and touches no table. **A pooler** is found by the number of the server's process: one hands every client a number of its own.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import asyncpg
import msgspec

from stead.clock import Clock
from stead.ids import Chance
from stead.storage.membership import Member, NodeInfo
from stead.storage.postgres.connections import CONNECT_S_MAX
from stead.storage.postgres.failure import DRIVER_ERRORS, failure, is_forgotten, shown
from stead.storage.postgres.schema import checked_schema

ROUND_TRIPS = 15  # of which the median is taken
COMMITS = 7
COMMIT_S_MAX = 5.0
OTHERS_MAX = 4  # clients that ask a pooler for a connection to the server, until one gets ours
SECOND_S_MAX = 2.0  # that the pooler may take
STATEMENT_S_MAX = 15.0
_PROCESS = "SELECT pg_backend_pid()"
_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "server_encoding",
    "transaction_read_only",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "synchronous_standby_names",
)


class Standby(msgspec.Struct, frozen=True):
    """A server that follows this one. What it may not be asked is None."""

    name: str
    state: str | None
    sync: str | None  # "sync", "quorum", "potential" or "async"
    lag_bytes: int | None
    lag_s: float | None


class Pooler(msgspec.Struct, frozen=True):
    """Something between the nodes and the server."""

    has_transactions: bool
    knows_prepared: bool | None  # whether a statement that was prepared is found again; None: it could not be tried


class Condition(msgspec.Struct, frozen=True):
    """Of a server that answered."""

    where: str
    version: int | None  # as 150004
    version_text: str
    is_standby: bool | None
    settings: dict[str, str]  # those of _SETTINGS that the server has
    connections_used: int | None
    connections_max: int | None  # that a user who is no superuser may have
    round_trip_s: float
    commit_s: float | None
    ahead_s: float  # how far this machine's clock is ahead of the server's, at least; negative: behind
    schema_version: int | None  # None: there are no tables yet
    standbys: list[Standby] | None
    members: list[Member]
    pooler: Pooler | None


async def examine(dsn: str, clock: Clock, chance: Chance, *, schema: str = "stead") -> Condition:
    """Look at the server at `dsn`. Raises `EngineFailed` if it cannot be reached."""
    where = shown(dsn)
    try:
        connection = await _connected(dsn)
    except (*DRIVER_ERRORS, ValueError) as exc:
        # What the driver says of an address that it cannot read may show parts of it.
        raise failure(exc if isinstance(exc, DRIVER_ERRORS) else OSError("the address cannot be read"), where) from None
    try:
        return await _Examination(connection, dsn, checked_schema(schema), clock, chance).condition()
    except DRIVER_ERRORS as exc:
        raise failure(exc, where) from exc
    finally:
        connection.terminate()


class _Examination:
    def __init__(self, connection: Any, dsn: str, schema: str, clock: Clock, chance: Chance) -> None:
        self._connection = connection
        self._dsn = dsn
        self._schema = schema
        self._clock = clock
        self._chance = chance

    async def condition(self) -> Condition:
        version = await self._value("SHOW server_version_num")
        settings = {name: str(value) for name in _SETTINGS if (value := await self._value(f"SHOW {name}")) is not None}
        is_standby = await self._value("SELECT pg_is_in_recovery()")
        round_trip_s, ahead_s = await self._times()
        return Condition(
            where=shown(self._dsn),
            version=None if version is None else int(version),
            version_text=str(await self._value("SHOW server_version") or "unknown"),
            is_standby=is_standby,
            settings=settings,
            connections_used=await self._value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
            connections_max=_connections_max(settings),
            round_trip_s=round_trip_s,
            commit_s=None if is_standby else await self._commit_s(),
            ahead_s=ahead_s,
            schema_version=await self._value(f"SELECT version FROM {self._schema}.version WHERE id = 1"),
            standbys=None if is_standby else await self._standbys(),
            members=await self._members(),
            pooler=await self._pooler(),
        )

    async def _rows(self, text: str, *args: object) -> list[Any] | None:
        """None where the server does not know or does not tell."""
        try:
            return list(await self._connection.fetch(text, *args))
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError:
            return None

    async def _value(self, text: str, *args: object) -> Any:
        rows = await self._rows(text, *args)
        return rows[0][0] if rows else None

    async def _times(self) -> tuple[float, float]:
        """The median of a round trip, and how far the clocks are apart where half of it cannot explain it."""
        taken_s: list[float] = []
        apart_s: list[float] = []
        for _ in range(ROUND_TRIPS):
            began_s, here_ms = self._clock.elapsed_s(), self._clock.now_ms()
            there_ms = await self._connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8 * 1000")
            taken_s.append(self._clock.elapsed_s() - began_s)
            before_s = (here_ms - there_ms) / 1000  # when the server read its clock, ours was between these two
            after_s = before_s + taken_s[-1]
            apart_s.append(min((before_s, after_s), key=abs) if before_s * after_s > 0 else 0.0)
        return median(taken_s), min(apart_s, key=abs)

    async def _commit_s(self) -> float | None:
        """None, too, where one does not end: it waits for a standby that is not there."""
        taken_s = []
        for _ in range(COMMITS):
            began_s = self._clock.elapsed_s()
            try:
                await self._connection.fetch("SELECT pg_logical_emit_message(true, 'stead', 'doctor')", timeout=COMMIT_S_MAX)
            except (asyncpg.SyntaxOrAccessError, asyncpg.FeatureNotSupportedError, TimeoutError):
                return None
            taken_s.append(self._clock.elapsed_s() - began_s)
        return median(taken_s)

    async def _standbys(self) -> list[Standby] | None:
        rows = await self._rows(
            "SELECT coalesce(nullif(application_name, ''), client_addr::text, '?'), state, sync_state, "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, extract(epoch FROM replay_lag)::float8 "
            "FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY 1"
        )
        return None if rows is None else [Standby(*row) for row in rows]

    async def _members(self) -> list[Member]:
        rows = await self._rows(
            "SELECT incarnation, info, is_draining, extract(epoch FROM expires_at - clock_timestamp())::float8 AS left_s "
            f"FROM {self._schema}.nodes WHERE expires_at > clock_timestamp() ORDER BY name"
        )
        return [Member(number, msgspec.msgpack.decode(info, type=NodeInfo), *rest) for number, info, *rest in rows or ()]

    async def _pooler(self) -> Pooler | None:
        """Looked for last: a pooler may hang up on who tries what it does not have."""
        if self._connection.get_server_pid() == await self._value(_PROCESS):
            return None
        if not await _has_transactions(self._dsn):
            return Pooler(has_transactions=False, knows_prepared=None)
        async with AsyncExitStack() as others:
            return Pooler(has_transactions=True, knows_prepared=await self._is_prepared_found(others))

    async def _is_prepared_found(self, others: AsyncExitStack) -> bool | None:
        """Whether a statement is found while another client has the connection to the server on which it was prepared.

        None: that could not be brought about, for want of a further connection to the server.
        """
        try:
            async with self._connection.transaction():
                process = await self._connection.fetchval(_PROCESS)
                statement = await self._connection.prepare("SELECT 1", name=f"stead_doctor_{self._chance.hex(8)}")
            await self._occupy(process, others)
            await statement.fetch(timeout=SECOND_S_MAX)
        except DRIVER_ERRORS as exc:
            return False if is_forgotten(exc) else None
        return True

    async def _occupy(self, process: int, others: AsyncExitStack) -> None:
        """Have another client hold the connection to that process, and no other one; if the pooler gives it to anybody."""
        holding: list[Any] = []
        for _ in range(OTHERS_MAX):
            other = await _connected(self._dsn)
            others.callback(other.terminate)
            try:
                await other.execute("BEGIN", timeout=SECOND_S_MAX)
            except TimeoutError:
                break  # there is no further one
            if await other.fetchval(_PROCESS) == process:
                break
            holding.append(other)
        for other in holding:
            await other.execute("ROLLBACK")


async def _has_transactions(dsn: str) -> bool:
    connection = await _connected(dsn)
    try:
        async with connection.transaction():
            await connection.fetch("SELECT 1")
    except DRIVER_ERRORS:
        return False
    finally:
        connection.terminate()
    return True


async def _connected(dsn: str) -> Any:
    return await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_S_MAX, command_timeout=STATEMENT_S_MAX)


def _connections_max(settings: dict[str, str]) -> int | None:
    if "max_connections" not in settings:
        return None
    kept = ("superuser_reserved_connections", "reserved_connections")
    return int(settings["max_connections"]) - sum(int(settings.get(name, 0)) for name in kept)
