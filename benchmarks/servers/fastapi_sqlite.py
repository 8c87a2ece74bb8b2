"""The counter with FastAPI and one SQLite file: WAL, a flush for each commit.

Endpoints commit on the event loop. That is the fastest plain way on one core: handing each commit to a thread costs more than it
gives, since SQLite takes one writer at a time.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS kv (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

app = FastAPI(default_response_class=PlainTextResponse, openapi_url=None)
database = sqlite3.connect(Path(os.environ["BENCH_DATA"]) / "counter.sqlite", isolation_level=None)
database.executescript(SCHEMA)


def read(query: str, name: str) -> int:
    row = database.execute(query, (name,)).fetchone()
    return int(row[0]) if row else 0


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/kv/{name}")
async def kv(name: str) -> str:
    return str(read("SELECT value FROM kv WHERE name = ?", name))


@app.post("/kv/{name}")
async def increment_kv(name: str) -> str:
    database.execute("BEGIN IMMEDIATE")
    value = read("SELECT value FROM kv WHERE name = ?", name) + 1
    database.execute("REPLACE INTO kv VALUES (?, ?)", (name, value))
    database.execute("COMMIT")
    return str(value)


@app.get("/sql/{name}")
async def sql(name: str) -> str:
    return str(read("SELECT value FROM counter WHERE name = ?", name))


@app.post("/sql/{name}")
async def increment_sql(name: str) -> str:
    query = "INSERT INTO counter VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value"
    return str(read(query, name))
