"""`PostgresEngine`: the contract of an engine that several nodes share, on one schema of a PostgreSQL database.

Everything is decided in the database, in one statement for each question: who owns an actor, whether a commit follows, who is
alive. The engine keeps nothing of it in memory but its own incarnation, so what another node does is seen at once.

**Joins whose answer is lost.** The row of a node may be of a join that its engine asked for and was not told of. So the
incarnations of an engine follow each other: a row of an earlier one is its own, and not that of another process under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from stead.clock import Clock
from stead.errors import EngineFailed
from stead.ids import ActorId, Chance, parse_id
from stead.storage.contract import BATCH_COMMITS_MAX, LOAD_BYTES_MAX, ActorRow, AlarmRow, Claim, Commit, OwnedElsewhere, Verdict
from stead.storage.membership import LeaseLost, Member, NameTaken, NodeInfo
from stead.storage.postgres.connections import Connections, Rank
from stead.storage.postgres.database import Database
from stead.storage.postgres.failure import DRIVER_ERRORS, Unreached, failure_to_open, shown
from stead.storage.postgres.fence import COUNTER_BITS
from stead.storage.postgres.schema import check_current, checked_schema, migrate, version_of
from stead.storage.postgres.statements import Statements
from stead.storage.postgres.writer import Writer

CONNECTIONS = 4  # of a node: two commit, two read and claim
FLIGHTS = 2  # batches worth sending: one is being flushed while the next is being worked on
OUTCOME_S = 30.0  # what a commit whose connection ended waits for its outcome: most failovers take less
INCARNATION_MAX = 2**62
JOINS_MAX = 2**32  # of one engine: how far its incarnations reach, among so many that those of two never meet
SILENT_SHARE, SILENT_S_MIN = 0.4, 1.0  # of a lease; after it a renewal is sent again, on another connection
CLAIMS_MAX = 20  # attempts of one claim that meets others at the same moment

_encode_info = msgspec.msgpack.Encoder().encode
_decode_info = msgspec.msgpack.Decoder(NodeInfo).decode


class PostgresEngine:
    """One node's engine. Made by `open`; `join` makes it a node, without which it can claim nothing."""

    def __init__(self, database: Database, chance: Chance, outcome_s: float, *, read_only: bool) -> None:
        self._database = database
        self._is_read_only = read_only
        self._statements = Statements(database.schema, database.fence)
        self._incarnation = 0
        self._first = 1 + chance.below(INCARNATION_MAX - JOINS_MAX)
        self._next = self._first  # the incarnation to ask for; those from the first one on were, whether granted or not
        self._timeline = 0  # on which it joined
        self._lease_s = 0.0
        self._writer = Writer(database, self._statements, lambda: self._incarnation, outcome_s)

    @classmethod
    async def open(
        cls,
        dsn: str,
        clock: Clock,
        *,
        schema: str = "stead",
        chance: Chance | None = None,
        connections: int = CONNECTIONS,
        outcome_s: float = OUTCOME_S,
        read_only: bool = False,
    ) -> Self:
        """Open the engine at `dsn` ("postgresql://user:password@host:port/database"), making its tables where there are none.

        `schema` keeps several applications apart in one database. `outcome_s` is how long a commit whose outcome is unknown waits
        for it before it is `Ambiguous`. With `read_only` nothing is made and a standby will do; such an engine cannot join.
        Raises `EngineAway` if the server cannot be reached now, `EngineFailed` if it cannot be used, or the tables are of a newer
        release, or not there to be read.
        """
        where = shown(dsn)
        if not dsn.startswith(("postgresql://", "postgres://")):
            raise EngineFailed(f"{where!r} is no address of a database: it reads postgresql://user:password@host:port/database")
        pool = Connections(dsn, connections, clock, reads_only=read_only)
        database = Database(dsn, checked_schema(schema), pool, clock)

        async def prepare(connection: Any) -> None:
            encoding = await connection.fetchval("SHOW server_encoding")
            if encoding.upper() != "UTF8":
                raise EngineFailed(f"{where} has the encoding {encoding}: create a database with ENCODING 'UTF8'")
            if read_only:
                check_current(await version_of(connection, schema), schema, where)
                return
            await migrate(connection, schema)
            await database.fence.learn(connection)

        try:
            await pool.lend(prepare)
        except (Unreached, *DRIVER_ERRORS) as exc:
            await pool.close()
            raise failure_to_open(exc, where) from exc
        except ValueError:  # what the driver says of an address may show parts of it
            await pool.close()
            message = f"{where}: the address cannot be read; write special characters in the password as %40 and the like"
            raise EngineFailed(message) from None
        except BaseException:
            await pool.close()
            raise
        return cls(database, chance or Chance(), outcome_s, read_only=read_only)

    @property
    def incarnation(self) -> int:
        return self._incarnation

    @property
    def flights(self) -> int:
        return FLIGHTS

    async def claim(self, actor: ActorId) -> Claim:
        self._database.check_open()
        for _ in range(CLAIMS_MAX):
            if not self._incarnation:
                raise LeaseLost("this node has not joined")
            began_with = self._database.fence.began_with
            rows = await self._ask(self._statements.claim, actor.text, self._incarnation, began_with, LOAD_BYTES_MAX)
            head = rows[0]
            if head["epoch"] is not None:
                return await self._claimed(actor, rows)
            if not head["is_same"]:
                raise EngineFailed(f"{self._database.where} is another database cluster than at the start: restart this node")
            if not head["is_member"]:
                raise LeaseLost("this node's row is gone: its lease was over, or another joined under its name")
            if head["is_held"] and head["seen_owner"] != self._incarnation:
                raise OwnedElsewhere(head["seen_owner"])
        raise EngineFailed(f"{actor} changes hands too fast to be claimed: try again")

    async def release(self, actor: ActorId, epoch: int) -> None:
        await self._writer.wait_answered(actor.text)
        await self._ask(self._statements.release, actor.text, self._incarnation, epoch)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[Verdict]:
        assert len(batch) <= BATCH_COMMITS_MAX, f"a batch holds {BATCH_COMMITS_MAX} commits at most"
        self._database.check_open()
        return await self._writer.commit(batch) if batch else []

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return dict(_joined(await self._ask(self._statements.read, actor.text, list(keys)))) if keys else {}

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        text = self._statements.scan(has_end=end is not None, reverse=reverse)
        return _joined(await self._ask(text, actor.text, start, limit, *([] if end is None else [end])))

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        rows = await self._ask(self._statements.due, self._incarnation, before_ms, limit)
        return [AlarmRow(due_ms, parse_id(text), name.decode()) for due_ms, text, name in rows]

    async def next_due_ms(self) -> int | None:
        rows = await self._ask(self._statements.next_due, self._incarnation)
        return int(rows[0][0]) if rows else None

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        starts = [""] if unit is None else [f"{unit}/{prefix}"] if prefix else [f"{unit}/", f"{unit}~"]
        found: list[ActorRow] = []
        for start in starts:
            wanted = limit - len(found)
            if wanted > 0:
                rows = await self._ask(self._statements.listed, start, after, _text_end(start), prefix, wanted)
                found += [ActorRow(parse_id(row[0]), *row[1:]) for row in rows]
        return found

    async def close(self) -> None:
        if not self._database.connections.is_closed:
            await self._writer.drain()
            await self._database.connections.close()

    @property
    def has_fixed_owners(self) -> bool:
        return False

    async def join(self, info: NodeInfo, lease_s: float, *, takes_name: bool = True, is_draining: bool = False) -> None:
        assert not self._is_read_only, "an engine that was opened to be read does not know the epochs that a node needs"
        incarnation, self._next, self._lease_s = self._next, self._next + 1, lease_s
        await self._hold(self._statements.bury)
        values = (info.name, incarnation, _encode_info(info), lease_s, takes_name, self._first, is_draining)
        joined = await self._hold(self._statements.join, *values)
        if not joined:
            raise NameTaken(f"another process runs as node {info.name}")
        self._incarnation, self._timeline = incarnation, int(joined[0][0])

    async def renew(self, *, is_cut_off: bool | None = None) -> list[Member]:
        rows = await self._hold(self._statements.renew, self._incarnation, self._timeline, is_cut_off)
        members = sorted((_member(row) for row in rows), key=lambda member: member.incarnation)
        if all(member.incarnation != self._incarnation for member in members):
            raise LeaseLost(
                "the lease was over before it was prolonged, another joined under the name, or the database failed over"
            )
        return members

    async def leave(self) -> None:
        self._incarnation = 0
        if self._next > self._first:
            await self._hold(self._statements.leave, self._first, self._next)

    async def set_draining(self, name: str, is_draining: bool) -> bool:
        return bool(await self._ask(self._statements.set_draining, name, is_draining))

    async def owner(self, actor: ActorId) -> int | None:
        rows = await self._ask(self._statements.owner, actor.text)
        return int(rows[0][0]) if rows else None

    async def owned(self, incarnation: int | None = None) -> dict[int, int]:
        return {row[0]: row[1] for row in await self._ask(self._statements.owned, incarnation)}

    async def _ask(self, text: str, *args: object) -> list[Any]:
        self._database.check_open()
        return await self._database.ask(text, *args)

    async def _hold(self, text: str, *args: object) -> list[Any]:
        """`_ask`, of what this node's life hangs on: first in line, and again in time where there is no answer."""
        self._database.check_open()
        return await self._database.ask(text, *args, rank=Rank.LEASE, timeout_s=max(SILENT_S_MIN, SILENT_SHARE * self._lease_s))

    async def _claimed(self, actor: ActorId, rows: list[Any]) -> Claim:
        head = rows[0]
        epoch, seq, size_bytes = head["epoch"], head["seq"], head["size_bytes"]
        entries: dict[bytes, bytes] | None = None
        if size_bytes <= LOAD_BYTES_MAX:
            entries = {row["key"]: row["value"] for row in rows if row["key"] is not None}
            if (head["seen_seq"] or 0) != seq or any(row["pieces"] for row in rows):
                # Commits became durable since the claim began, of an actor that was not there perhaps, or the size was given too
                # small: nothing changes any more.
                entries = dict(await self.scan(actor, b"", None))
        return Claim(epoch, seq, size_bytes, entries, epoch >> COUNTER_BITS)


def _joined(rows: list[Any]) -> list[tuple[bytes, bytes]]:
    """Entries of rows that have a value and one of its pieces each, in order."""
    entries: list[tuple[bytes, bytes]] = []
    pieces: list[bytes] = []
    for number, (key, value, piece) in enumerate(rows):
        if piece is None:
            entries.append((key, value))
            continue
        pieces += [piece] if value is None else [value, piece]
        if number + 1 == len(rows) or rows[number + 1][0] != key:
            entries.append((key, b"".join(pieces)))
            pieces = []
    return entries


def _member(row: Any) -> Member:
    return Member(row["incarnation"], _decode_info(row["info"]), row["is_draining"], row["left_s"], row["is_cut_off"])


def _text_end(prefix: str) -> str:
    """The first text after all that begin with `prefix`, by code points; "" if there is none."""
    for position in reversed(range(len(prefix))):
        code = ord(prefix[position]) + 1
        if code <= 0x10FFFF:
            return prefix[:position] + chr(0xE000 if code == 0xD800 else code)
    return ""
