"""The counter with FastAPI and Redis, which the driver starts with `appendfsync always`: an answer means the disk has it."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from redis.asyncio import Redis

CONNECTIONS_MAX = 1024  # redis-py allows 100, fewer than a load and who counts after it may need, and refuses the next

app = FastAPI(default_response_class=PlainTextResponse, openapi_url=None)
redis = Redis(host="127.0.0.1", port=int(os.environ["BENCH_STORE_PORT"]), max_connections=CONNECTIONS_MAX)


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/kv/{name}")
async def kv(name: str) -> str:
    return str(int(await redis.get(name) or 0))


@app.post("/kv/{name}")
async def increment_kv(name: str) -> str:
    return str(await redis.incr(name))
