"""Routes marked `idempotent`: the first response answers repeats, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stead import Actor, HTTPException, Invalid, PlainTextResponse, Request, Response, Service, StreamingResponse, durable, route
from stead.clock import sleep
from stead.runtime.answers import ANSWER_BYTES_MAX
from stead.testing import TestApp, VirtualClock

pytestmark = pytest.mark.usefixtures("clock")


class Counter(Actor):
    value: int = durable(0)

    async def add(self) -> int:
        self.value += 1
        return self.value


class Shop(Service):
    def __init__(self) -> None:
        self.runs = 0

    @route("POST", "/charge", idempotent=True)
    async def charge(self, request: Request) -> Response:
        self.runs += 1
        match (await request.body()).decode():
            case "slow":
                await sleep(5)
            case "refused":
                raise HTTPException(402, "no money", {"x-why": "poor"})
            case "broken":
                raise HTTPException(503, "later")
            case "crash":
                raise ValueError("a bug")
            case "streamed":
                return StreamingResponse(self._stream(), 201, {"x-kind": "stream"})
            case "large":
                return PlainTextResponse("x" * (ANSWER_BYTES_MAX + 1))
        return PlainTextResponse(f"run {self.runs}", 201, {"location": "/charges/1", "connection": "close"})

    async def _stream(self) -> AsyncIterator[str]:
        yield "a"
        await self.env.COUNTER.get("streamed").add()
        yield "b"

    @route("POST", "/strict", idempotent="required")
    async def strict(self, request: Request) -> str:
        return "done"

    async def add_twice(self) -> list[int]:
        counter = self.env.COUNTER.get("a")
        return [await counter.add(), await counter.add()]


def shop() -> TestApp:
    return TestApp.of(actors={"counter": Counter}, services={"shop": Shop})


async def charge(app: TestApp, key: str | None, body: str = "", path: str = "/charge", **headers: str) -> httpx.Response:
    if key is not None:
        headers["idempotency-key"] = key
    return await app.client.post(f"http://shop.localhost{path}", content=body, headers=headers)


async def test_a_repeat_gets_the_first_response(clock: VirtualClock) -> None:
    """Status, headers and body, marked as a repeat, for 24 hours and over crashes; after that the key is new."""
    async with shop() as app:
        first = await charge(app, "k")
        again = await charge(app, "k")
        assert (first.status_code, first.text, first.headers["location"]) == (201, "run 1", "/charges/1")
        assert (again.status_code, again.text, again.headers["location"]) == (201, "run 1", "/charges/1")
        assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
        assert "connection" not in again.headers
        assert (await charge(app, "other")).text == "run 2"
        await clock.advance(hours=23)
        await app.crash()
        assert (await charge(app, "k")).text == "run 1"
        await clock.advance(hours=1)
        assert (await charge(app, "k")).text == "run 1"
        assert "idempotent-replayed" not in (await charge(app, "k2")).headers


async def test_repeats_wait_for_the_first() -> None:
    """Those that come while it runs get its response, also when the first client has gone."""
    async with shop() as app, asyncio.TaskGroup() as group:
        asked = [group.create_task(charge(app, "k", "slow")) for _ in range(5)]
        await sleep(1)
        asked[0].cancel()
        answers = [(await task).text for task in asked[1:]]
        assert set(answers) == {"run 1"}


async def test_another_request_with_the_same_key_is_refused() -> None:
    """422 for another body, query, method or caller: nobody gets what was meant for another."""
    async with shop() as app:
        await charge(app, "k", "one")
        for response in (
            await charge(app, "k", "two"),
            await charge(app, "k", "one", "/charge?x=1"),
            await charge(app, "k", "one", "/strict"),
            await charge(app, "k", "one", authorization="Bearer other"),
        ):
            assert response.status_code == 422, response.text
        assert (await charge(app, "k", "one")).text == "run 1"


async def test_errors_of_the_server_are_not_kept() -> None:
    """A 503, a bug and a response too large to keep run again; a 402 is an answer like any other."""
    async with shop() as app:
        for body, status in (("broken", 503), ("crash", 500), ("large", 500)):
            for _ in range(2):
                response = await charge(app, body, body)
                assert response.status_code == status and "idempotent-replayed" not in response.headers
        first, again = await charge(app, "poor", "refused"), await charge(app, "poor", "refused")
        assert [response.status_code for response in (first, again)] == [402, 402]
        assert again.json()["detail"] == "no money" and again.headers["x-why"] == "poor"
        assert again.headers["idempotent-replayed"] == "true"


async def test_a_streamed_response_is_kept_whole() -> None:
    """What a handler streams is there for repeats, too."""
    async with shop() as app:
        for _ in range(2):
            response = await charge(app, "k", "streamed")
            assert (response.status_code, response.text, response.headers["x-kind"]) == (201, "ab", "stream")
        assert await app.env.COUNTER.get("streamed").add() == 2


async def test_the_header_is_checked() -> None:
    """Without it a route runs as usual, or refuses where it is required; a wrong one is 400."""
    async with shop() as app:
        assert [(await charge(app, None)).text for _ in range(2)] == ["run 1", "run 2"]
        refused = await charge(app, None, path="/strict")
        assert refused.status_code == 400 and "Idempotency-Key" in refused.json()["detail"]
        assert (await charge(app, "k", path="/strict")).text == "done"
        for key in ("x" * 256, "a\tb"):
            assert (await charge(app, key)).status_code == 400
        twice = await app.client.post("http://shop.localhost/charge", headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
        assert twice.status_code == 400


async def test_a_service_is_called_with_a_key() -> None:
    """Its calls take effect once, each of them; another key is another call."""
    async with shop() as app:
        assert await app.env.SHOP.with_idempotency_key("k").add_twice() == [1, 2]
        await app.crash()
        assert await app.env.SHOP.with_idempotency_key("k").add_twice() == [1, 2]
        assert await app.env.SHOP.with_idempotency_key("l").add_twice() == [3, 4]
        assert await app.env.SHOP.add_twice() == [5, 6]


async def test_an_asgi_application_has_no_derived_keys() -> None:
    """What cannot be kept is refused, and nothing runs."""

    async def web(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        raise AssertionError("it ran")

    async with TestApp.of(services={"web": web}) as app:
        request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""})
        with pytest.raises(Invalid, match="ASGI application"):
            await app.env.WEB.with_idempotency_key("k").fetch(request)


@pytest.mark.parametrize("value", ["yes", None, 1.5])
def test_the_mark_is_checked(value: Any) -> None:
    """What is neither a yes nor a no nor "required" is refused where it is written."""
    with pytest.raises(Invalid, match="idempotent must be"):
        route("POST", "/x", idempotent=value)
