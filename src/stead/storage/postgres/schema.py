"""The tables of the database, and how an older one becomes a current one.

    actors   id, number, owner, epoch, seq, …   who there is, whose it is, and where its history stands
    entries  actor, key, value                  the actor's entries; `actor` is its number
    pieces   actor, key, number, value          what of a value is beyond PIECE_BYTES
    alarms   actor, name, due_ms, slice         the index of what is due; names as bytes, because a text cannot hold NUL
    nodes    name, incarnation, expires_at, …   who is alive, on the database's clock
    counter                                     a sequence: actors' numbers, and what grows in an epoch

An actor's number stands for its id because a key of an index may have 2,700 bytes, and an id and a key together have more; and
because eight bytes are found faster.

`entries.pieces` counts the pieces of the value beyond the first, `entries.spare` those of the value before it: they are deleted in
the statement that replaces it, without looking for them where there were none. `actors.folded` says how many commits the last
statement made of one, because an upsert can compare what is stored with nothing but columns.

Migrations run in one transaction that holds the row of `version`: row locks are all that every relative of PostgreSQL has. A step
is never changed once released, only followed by another.
"""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from stead.errors import EngineFailed

PIECE_BYTES = 256 * 1024  # a value is stored in pieces up to this: relatives of PostgreSQL take no large rows
FILLING = 1 << 30  # the version while all actors of another engine are moved here (`transfer.py`): nobody serves it
ATTEMPTS_MAX = 10  # of several nodes that start at once to make the tables
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

STEPS: tuple[str, ...] = (
    """
    CREATE SEQUENCE {schema}.counter;
    CREATE TABLE {schema}.actors (
        id text COLLATE "C" PRIMARY KEY,
        number bigint NOT NULL UNIQUE,
        owner bigint,
        epoch bigint NOT NULL,
        seq bigint NOT NULL,
        folded smallint NOT NULL,
        last_epoch bigint NOT NULL,
        size_bytes bigint NOT NULL,
        created_ms bigint NOT NULL,
        active_ms bigint NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX actors_owned ON {schema}.actors (owner) WHERE owner IS NOT NULL;
    CREATE TABLE {schema}.entries (
        actor bigint NOT NULL,
        key bytea NOT NULL,
        pieces smallint NOT NULL,
        spare smallint NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (actor, key)
    ) WITH (fillfactor = 80);
    CREATE TABLE {schema}.pieces (
        actor bigint NOT NULL,
        key bytea NOT NULL,
        number smallint NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (actor, key, number)
    );
    CREATE TABLE {schema}.alarms (
        actor bigint NOT NULL,
        name bytea NOT NULL,
        slice smallint NOT NULL,
        due_ms bigint NOT NULL,
        PRIMARY KEY (actor, name)
    );
    CREATE INDEX alarms_by_time ON {schema}.alarms (due_ms);
    CREATE TABLE {schema}.nodes (
        name text COLLATE "C" PRIMARY KEY,
        incarnation bigint NOT NULL UNIQUE,
        info bytea NOT NULL,
        is_draining boolean NOT NULL,
        lease_s double precision NOT NULL,
        expires_at timestamptz NOT NULL
    );
    """,
    """
    ALTER TABLE {schema}.nodes ADD COLUMN is_cut_off boolean NOT NULL DEFAULT false;
    """,
)


def checked_schema(name: str) -> str:
    """`name` if it can be written into a statement as it is."""
    if not _NAME.fullmatch(name):
        raise EngineFailed(f"{name!r} cannot be the schema's name: use small letters, digits and underscores")
    return name


# The server says it to several that make the same at once: IF NOT EXISTS does not see what another transaction is about to commit.
_MADE_MEANWHILE = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateObjectError,  # the type of a table's rows
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateSchemaError,
)


async def migrate(connection: Any, schema: str, steps: tuple[str, ...] = STEPS) -> None:
    """Apply the steps the database lacks, all or none. Several nodes may do it at once. Raises `EngineFailed` if it is newer."""
    if _checked(await version_of(connection, schema), schema, steps) == len(steps):
        return  # the usual start asks for no right to create anything
    for attempt in range(ATTEMPTS_MAX):
        try:
            # Only where it is not there: IF NOT EXISTS asks for the right to create one in any case.
            if not await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema):
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            await connection.execute(f"CREATE TABLE IF NOT EXISTS {schema}.version (id int PRIMARY KEY, version int NOT NULL)")
            break
        except _MADE_MEANWHILE:
            if attempt == ATTEMPTS_MAX - 1:
                raise
    await connection.execute(f"INSERT INTO {schema}.version VALUES (1, 0) ON CONFLICT DO NOTHING")
    async with connection.transaction():
        present = await connection.fetchval(f"SELECT version FROM {schema}.version WHERE id = 1 FOR UPDATE")
        for step in steps[_checked(present, schema, steps) :]:
            await connection.execute(step.format(schema=schema))
        await connection.execute(f"UPDATE {schema}.version SET version = {len(steps)} WHERE version < {len(steps)}")


async def version_of(connection: Any, schema: str) -> int:
    """0 where there are no tables."""
    try:
        return int(await connection.fetchval(f"SELECT version FROM {schema}.version WHERE id = 1") or 0)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return 0


def check_current(version: int, schema: str, where: str) -> None:
    """Raise `EngineFailed` unless tables of this version are those of this release, complete."""
    if _checked(version, schema, STEPS) < len(STEPS):
        found = f"schema version {version} of {len(STEPS)}" if version else f"no tables of Stead in the schema {schema}"
        raise EngineFailed(f"{where} has {found}: is it the right database, and has this release served it?")


def _checked(version: int, schema: str, steps: tuple[str, ...]) -> int:
    if version == FILLING:
        raise EngineFailed(
            f"the schema {schema} is being filled by `stead migrate-engine`, or was until that was interrupted: wait for it, "
            "or run it again to its end"
        )
    if version > len(steps):
        raise EngineFailed(
            f"the schema {schema} has version {version} and this release of Stead knows up to {len(steps)}: install the release "
            "that wrote it, or a later one"
        )
    return version
