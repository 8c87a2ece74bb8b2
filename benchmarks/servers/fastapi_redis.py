"""The counter with FastAPI and Redis, which the driver starts with `appendfsync always`: an answer means the disk has it."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from redis.asyncio import Redis

app = FastAPI(default_response_class=PlainTextResponse, openapi_url=None)
redis = Redis(host="127.0.0.1", port=int(os.environ["BENCH_STORE_PORT"]))


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/kv/{name}")
async def kv(name: str) -> str:
    return str(int(await redis.get(name) or 0))


@app.post("/kv/{name}")
async def increment_kv(name: str) -> str:
    return str(await redis.incr(name))
