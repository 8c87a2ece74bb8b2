"""The queues with Redis streams, which the driver starts with `appendfsync always`: the same messages, paths and answers.

A client has its batch in one pipeline. It acknowledges what it had together with reading on, and deletes nothing: the stream is
dropped before the next one is sent.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import msgspec
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

BODY = {"to": "ann@example.com", "subject": "Thank you", "order": 12345, "lines": ["tea", "cup"]}
STREAM, GROUP = "jobs", "group"

redis = Redis(host="127.0.0.1", port=int(os.environ["BENCH_STORE_PORT"]))
encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def send(request: Request) -> JSONResponse:
    clients, batch, rounds = (int(request.path_params[name]) for name in ("clients", "batch", "rounds"))
    await redis.delete(STREAM)
    await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)

    async def client(number: int) -> int:
        for _ in range(rounds):
            pipeline = redis.pipeline(transaction=False)
            for _ in range(batch):
                pipeline.xadd(STREAM, {"body": encode(BODY)})
            await pipeline.execute()
        return batch * rounds

    return await measured(client, clients)


async def deliver(request: Request) -> JSONResponse:
    clients, batch = (int(request.path_params[name]) for name in ("clients", "batch"))

    async def client(number: int) -> int:
        done: list[bytes] = []
        seen = 0
        while True:
            pipeline = redis.pipeline(transaction=False)
            if done:
                pipeline.xack(STREAM, GROUP, *done)
            pipeline.xreadgroup(GROUP, str(number), {STREAM: ">"}, count=batch)
            taken = (await pipeline.execute())[-1]
            done = []
            for _, entries in taken:
                for identity, fields in entries:
                    seen += bool(decode(fields[b"body"])["order"] == BODY["order"])
                    done.append(identity)
            if not done:
                return seen

    answer = await measured(client, clients)
    assert (await redis.xpending(STREAM, GROUP))["pending"] == 0
    return answer


async def measured(client: Callable[[int], Awaitable[int]], clients: int) -> JSONResponse:
    began_s = time.perf_counter()
    messages = await asyncio.gather(*(client(number) for number in range(clients)))
    return JSONResponse({"messages": sum(messages), "seconds": time.perf_counter() - began_s})


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/send/{clients:int}/{batch:int}/{rounds:int}", send, methods=["POST"]),
        Route("/deliver/{clients:int}/{batch:int}", deliver, methods=["POST"]),
    ]
)
