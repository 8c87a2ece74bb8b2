"""Documents with every version kept. Two people who edit at once do not overwrite each other: the second is told."""

from __future__ import annotations

from typing import Any

from stead import Actor, HTTPException, durable, reads

NOW_MS = "CAST(unixepoch('subsec') * 1000 AS INTEGER)"  # the platform's clock, which tests can move


class Document(Actor):
    """One document, its versions numbered from 1, and how many words the file that came last has (None: none came)."""

    words: int | None = durable(None)

    async def on_start(self) -> None:
        await self.sql.execute(
            "CREATE TABLE IF NOT EXISTS versions "
            "(version INTEGER PRIMARY KEY, author TEXT NOT NULL, saved_at INTEGER NOT NULL, text TEXT NOT NULL)"
        )

    async def save(self, author: str, text: str, based_on: int) -> int:
        """Add a version to the one that the author had before them (0 for none), and return its number. Raises 409 if it is not
        the latest any more."""
        latest = await self._latest()
        if based_on != latest:
            raise HTTPException(409, f"version {latest} is the latest, yours was based on {based_on}; read it and save again")
        await self.sql.execute(f"INSERT INTO versions VALUES (?, ?, {NOW_MS}, ?)", latest + 1, author, text)
        return latest + 1

    @reads
    async def read(self, version: int | None = None) -> dict[str, Any]:
        """A version, the latest if none is named. Raises 404 if there is none."""
        wanted = await self._latest() if version is None else version
        found = await self.sql.fetch_one("SELECT version, author, saved_at, text FROM versions WHERE version = ?", wanted)
        if found is None:
            what = f"no document {self.id.name!r}" if version is None else f"no version {version} of document {self.id.name!r}"
            raise HTTPException(404, f"there is {what}")
        return found

    async def set_words(self, words: int | None) -> None:
        self.words = words

    @reads
    async def overview(self) -> dict[str, Any]:
        """The latest version, how many there are, and the words of the file. Raises 404 if there is neither version nor file."""
        versions = await self._latest()
        latest = await self.read() if versions or self.words is None else {}
        return {**latest, "versions": versions, "words": self.words}

    @reads
    async def history(self) -> list[dict[str, Any]]:
        """All versions without their texts, the latest first."""
        return await self.sql.fetch_all("SELECT version, author, saved_at FROM versions ORDER BY version DESC")

    @reads
    async def authors(self) -> list[str]:
        rows = await self.sql.fetch_all("SELECT DISTINCT author FROM versions ORDER BY author")
        return [str(row["author"]) for row in rows]

    async def _latest(self) -> int:
        latest = await self.sql.fetch_value("SELECT max(version) FROM versions")
        return latest if isinstance(latest, int) else 0
