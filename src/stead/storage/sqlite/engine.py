"""`SqliteEngine`: the contract on one SQLite file.

Commits go to the writer's thread (`writer.py`); everything else is answered at once, on the event loop's thread, from a connection
of its own, which sees what has been made durable and nothing else.

The lock on the directory makes this process the only one that writes, so who owns an actor is kept in memory. Epochs still
grow over restarts: their upper half is a generation that each opening raises durably before it hands any out, so what an
earlier process handed out is never an owner's again. Ownership given up is forgotten: memory holds the actors in use and no
others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Self

import apsw

from stead.clock import Clock
from stead.errors import EngineFailed
from stead.ids import ActorId, parse_id
from stead.storage.contract import BATCH_COMMITS_MAX, LOAD_BYTES_MAX, ActorRow, AlarmRow, Claim, Commit
from stead.storage.sqlite.failure import failure
from stead.storage.sqlite.file import DatabaseFile
from stead.storage.sqlite.layout import check_undivided
from stead.storage.sqlite.lock import DirectoryLock
from stead.storage.sqlite.schema import HEAD, HEAD_HOLDS_ANYTHING
from stead.storage.sqlite.writer import Batch, Owner, Writer

CLAIM_BITS = 32  # of an epoch: four billion claims for each opening, two billion openings

_HEAD_OF = "SELECT number, value FROM actors JOIN entries ON actor = number AND key = 0 WHERE id = ?"
_STORED = "CASE typeof(value) WHEN 'blob' THEN value ELSE (SELECT large.value FROM large WHERE number = entries.value) END"
_ENTRIES_OF = f"SELECT key, {_STORED} FROM entries WHERE actor = ? AND key >= x''"
_VALUE = f"SELECT {_STORED} FROM entries WHERE actor = (SELECT number FROM actors WHERE id = ?) AND key = ?"
_RANGE = f"SELECT key, {_STORED} FROM entries WHERE actor = (SELECT number FROM actors WHERE id = ?) AND key >= ?"
_LISTED = (
    "SELECT id, created_ms, value FROM actors JOIN entries ON actor = number AND key = 0 WHERE id >= ? AND value >= ? ORDER BY id"
)
_DUE = "SELECT due_ms, actor, name FROM alarms WHERE due_ms <= ? ORDER BY due_ms, actor, name LIMIT ?"


class Writing:
    """What an engine that writes has more than one that reads: a connection, the directory's lock and a generation."""

    def __init__(self, connection: apsw.Connection, lock: DirectoryLock) -> None:
        self.connection = connection
        self.lock = lock
        self.generation = 0

    def begin_generation(self, now_ms: int) -> None:
        """Raise the generation, durably, before any epoch of it exists."""
        query = "UPDATE engine SET generation = generation + 1, opened_ms = ? RETURNING generation"
        self.generation = int(self.connection.execute(query, (now_ms,)).get)


class SqliteEngine:
    """The engine of one process on one data directory. Made by `open`."""

    def __init__(self, path: Path, reader: apsw.Connection, writing: Writing | None) -> None:
        self._path = path
        self._reader = reader
        self._writing = writing
        self._writer = None if writing is None else Writer(writing.connection, path, self._settle)
        self._epoch = 0 if writing is None else writing.generation << CLAIM_BITS
        self._owners: dict[str, Owner] = {}

    @classmethod
    def open(
        cls,
        directory: Path,
        clock: Clock,
        *,
        read_only: bool = False,
        deep_check: bool = False,
        size_bytes_max: int | None = None,
    ) -> Self:
        """Open the database in `directory`, making both if there never was one.

        `read_only` takes no lock and may be used beside a running server; claims and commits then raise. `deep_check` walks
        every page of a database of any size. `size_bytes_max` is how large the database file may grow. Raises `EngineFailed` if the
        directory is in use, or the file is damaged, lost, or of a newer release.
        """
        file = DatabaseFile(directory)
        try:
            check_undivided(directory)
            if read_only:
                file.check_presence(must_exist=True)
                return cls(file.path, file.open_reader(), None)
            directory.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = DirectoryLock(directory)
                undo.callback(lock.release)
                file.prepare(deep_check=deep_check)
                connection = file.open_writer(size_bytes_max)
                undo.callback(connection.close)
                writing = Writing(connection, lock)
                writing.begin_generation(clock.now_ms())
                engine = cls(file.path, file.open_reader(), writing)
                undo.pop_all()
            return engine
        except apsw.Error as exc:
            raise failure(exc, file.path) from exc
        except OSError as exc:
            raise EngineFailed(f"the data directory {directory} cannot be used: {exc}") from exc

    @property
    def flights(self) -> int:
        return 1  # one writer, one file

    async def claim(self, actor: ActorId) -> Claim:
        if self._writer is None:
            raise EngineFailed(f"{self._path} is open for reading only or closed: nothing can be claimed")
        self._epoch = epoch = self._epoch + 1
        owner = self._owners.get(actor.text)
        if owner is None:
            owner = self._owners[actor.text] = Owner()
        owner.epoch = epoch
        try:
            while owner.pending:
                await self._wait_answered(owner)  # what was sent before this claim is part of what it returns
            return self._load(actor, owner, epoch)
        except BaseException:
            self._give_up(actor.text, owner, epoch)
            raise

    async def release(self, actor: ActorId, epoch: int) -> None:
        owner = self._owners.get(actor.text)
        if owner is not None:
            self._give_up(actor.text, owner, epoch)

    async def commit(self, batch: Sequence[Commit]) -> Sequence[bool]:
        assert len(batch) <= BATCH_COMMITS_MAX, f"a batch holds {BATCH_COMMITS_MAX} commits at most"
        if self._writer is None:
            raise EngineFailed(f"{self._path} is open for reading only or closed: nothing can be committed")
        owners: list[Owner | None] = []
        for commit in batch:
            owner = self._owners.get(commit.actor.text)
            if owner is not None and owner.epoch == commit.epoch:
                owner.pending += 1
                owners.append(owner)
            else:
                owners.append(None)
        done: asyncio.Future[Sequence[bool]] = asyncio.get_running_loop().create_future()
        self._writer.submit(Batch(batch, owners, done))
        return await done

    async def read(self, actor: ActorId, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        try:
            # One snapshot: a commit between two keys is seen at both or at neither.
            with self._reader if len(keys) > 1 else nullcontext():
                for key in keys:
                    value = self._reader.execute(_VALUE, (actor.text, key)).get
                    if value is not None:
                        values[key] = value
        except apsw.Error as exc:
            raise failure(exc, self._path) from exc
        return values

    async def scan(
        self, actor: ActorId, start: bytes, end: bytes | None, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        query, values = _RANGE, [actor.text, start]
        if end is not None:
            query, values = f"{query} AND key < ?", [*values, end]
        query = f"{query} ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?"
        return self._rows(query, (*values, -1 if limit is None else limit))

    async def due(self, before_ms: int, limit: int) -> list[AlarmRow]:
        return [AlarmRow(due_ms, parse_id(text), name) for due_ms, text, name in self._rows(_DUE, (before_ms, limit))]

    async def next_due_ms(self) -> int | None:
        rows = self._rows("SELECT min(due_ms) FROM alarms", ())
        return None if rows[0][0] is None else int(rows[0][0])

    async def actors(self, unit: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[ActorRow]:
        starts = [""] if unit is None else [f"{unit}/{prefix}"] if prefix else [f"{unit}/", f"{unit}~"]
        rows: list[ActorRow] = []
        try:
            for start in starts:
                rows += self._listed(start, prefix, after, limit - len(rows))
        except apsw.Error as exc:
            raise failure(exc, self._path) from exc
        return rows

    async def close(self) -> None:
        """Ends what is under way (the loop stands still meanwhile), copies the log back and lets the next process in."""
        writing, self._writing = self._writing, None
        writer, self._writer = self._writer, None
        self._owners.clear()
        if writer is not None:
            writer.join()
        try:
            self._reader.close()
            if writing is not None:
                writing.connection.close()  # the last connection: SQLite copies the log into the file and removes it
        except apsw.Error as exc:
            raise failure(exc, self._path) from exc
        finally:
            if writing is not None:
                writing.lock.release()

    def owned(self) -> int:
        """How many actors this engine keeps an owner of in memory."""
        return len(self._owners)

    def stored(self) -> int:
        """How many actors there are."""
        return int(self._rows("SELECT count(*) FROM actors", ())[0][0])

    def _load(self, actor: ActorId, owner: Owner, epoch: int) -> Claim:
        try:
            found = self._reader.execute(_HEAD_OF, (actor.text,)).get
            if found is None:
                return Claim(epoch, 0, 0, {})
            owner.number, head = found
            size_bytes, owner.seq, _, _ = HEAD.unpack(head)
            if size_bytes > LOAD_BYTES_MAX:
                return Claim(epoch, owner.seq, size_bytes, None)
        except apsw.Error as exc:
            raise failure(exc, self._path) from exc
        entries = dict(self._rows(_ENTRIES_OF, (owner.number,)))
        return Claim(epoch, owner.seq, size_bytes, entries)

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._reader.execute(query, values).fetchall()  # to the end: an open cursor would pin the log
        except apsw.Error as exc:
            raise failure(exc, self._path) from exc

    def _listed(self, start: str, prefix: str, after: str, limit: int) -> list[ActorRow]:
        """Registry lines whose id starts with `start`, those after `after`, whose name starts with `prefix`."""
        rows: list[ActorRow] = []
        cursor = self._reader.execute(_LISTED, (max(start, after), HEAD_HOLDS_ANYTHING))
        for text, created_ms, head in cursor:
            if len(rows) >= limit or not text.startswith(start):
                break
            actor = parse_id(text)
            if text != after and (not prefix or (actor.name or "").startswith(prefix)):
                size_bytes, seq, epoch, active_ms = HEAD.unpack(head)
                rows.append(ActorRow(actor, epoch, seq, size_bytes, created_ms, active_ms))
        cursor.close()
        return rows

    async def _wait_answered(self, owner: Owner) -> None:
        answered = asyncio.get_running_loop().create_future()
        owner.waiters.append(answered)
        await answered

    def _settle(self, batch: Batch, verdicts: Sequence[bool], error: BaseException | None) -> None:
        """Answer a batch, in the event loop."""
        for owner, commit in zip(batch.owners, batch.commits, strict=True):
            if owner is None:
                continue
            owner.pending -= 1
            if not owner.pending:
                for waiter in owner.waiters:
                    if not waiter.done():
                        waiter.set_result(None)
                owner.waiters.clear()
                if not owner.epoch:
                    self._give_up(commit.actor.text, owner, 0)
        if batch.done.done():
            return  # who waited was cancelled; the batch was written all the same
        if error is None:
            batch.done.set_result(verdicts)
        else:
            batch.done.set_exception(error)

    def _give_up(self, text: str, owner: Owner, epoch: int) -> None:
        """Nobody owns the actor, if `epoch` did. While commits of it are under way the next claim must still find them."""
        if owner.epoch == epoch:
            owner.epoch = 0
            if not owner.pending:
                self._owners.pop(text, None)
