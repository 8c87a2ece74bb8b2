"""`self.cache`: what may be kept is, for as long as it was said, and nothing else ever is."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from stead import Invalid, Request, Response, Service, StreamingResponse, route
from stead.bindings import CacheStore
from stead.bindings.cache.store import ROW_BYTES, VARIANTS_MAX, Cached
from stead.logic.caching import directives
from stead.testing import TestApp, VirtualClock

pytestmark = pytest.mark.usefixtures("clock")


class Site(Service):
    """Answers what the request's headers ask for, through the cache."""

    def __init__(self) -> None:
        self.runs = 0

    @route("GET", "/page")
    async def page(self, request: Request) -> Response:
        kept = await self.cache.match(request)
        if kept is not None:
            return kept
        self.runs += 1
        status = int(request.headers.get("x-status", "200"))
        said = {name[2:]: value for name, value in request.headers.items() if name.startswith("r-")}
        response = Response(f"run {self.runs}", status, said)
        await self.cache.put(request, response)
        return response

    @route("DELETE", "/page")
    async def forget(self, request: Request) -> str:
        return str(await self.cache.delete(request))

    @route("GET", "/stream")
    async def stream(self, request: Request) -> str:
        with pytest.raises(Invalid, match="whole"):
            await self.cache.put(request, StreamingResponse(iter(["a"])))
        return "refused"


async def get(app: TestApp, query: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await app.client.get(f"http://site.localhost/page{query}", headers=named)


async def test_a_fresh_response_answers_until_it_is_old(clock: VirtualClock) -> None:
    """With its Age, by address, until max-age is over; s-maxage goes before it, and what had an Age already ends sooner."""
    async with TestApp.of(services={"site": Site}) as app:
        assert (await get(app, r_cache_control="max-age=60")).text == "run 1"
        await clock.advance(59)
        kept = await get(app)
        assert (kept.text, kept.headers["age"], kept.headers["cache-control"]) == ("run 1", "59", "max-age=60")
        assert (await get(app, "?other")).text == "run 2"
        await clock.advance(1)
        assert (await get(app, r_cache_control="max-age=1, s-maxage=100", r_age="90")).text == "run 3"
        await clock.advance(9)
        assert (await get(app)).headers["age"] == "99"
        await clock.advance(1)
        assert (await get(app)).text == "run 4"


async def test_a_client_that_has_it_gets_304() -> None:
    """If-None-Match is compared weakly, and with each of its tags."""
    async with TestApp.of(services={"site": Site}) as app:
        await get(app, r_cache_control="max-age=60", r_etag='"v1"', r_x_more="x")
        for tags in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
            answer = await get(app, if_none_match=tags)
            assert (answer.status_code, answer.text, answer.headers["etag"]) == (304, "", '"v1"')
            assert "x-more" not in answer.headers
        assert (await get(app, if_none_match='"v2"')).text == "run 1"


async def test_vary_keeps_variants_apart() -> None:
    """One for each value of the headers that a response names."""
    async with TestApp.of(services={"site": Site}) as app:
        for language in ("de", "en", "de", "en"):
            answer = await get(app, r_cache_control="max-age=60", r_vary="Accept-Language", accept_language=language)
            assert answer.text == {"de": "run 1", "en": "run 2"}[language]
        assert (await app.client.delete("http://site.localhost/page")).text == "True"
        assert (await app.client.delete("http://site.localhost/page")).text == "False"
        assert (await get(app, accept_language="de")).text == "run 3"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"r_cache_control": "no-store, max-age=60"},
        {"r_cache_control": "private, max-age=60"},
        {"r_cache_control": 'private="x-user", max-age=60'},
        {"r_cache_control": "no-cache, max-age=60"},
        {"r_cache_control": "max-age=0"},
        {"r_cache_control": "max-age=-5"},
        {"r_cache_control": "max-age=sixty"},
        {"r_cache_control": "max-age=60, max-age=70"},
        {"r_cache_control": "max-age=60; no-store"},
        {"r_cache_control": "max-age=60", "r_set_cookie": "a=b"},
        {"r_cache_control": "max-age=60", "r_vary": "*"},
        {"r_cache_control": "max-age=60", "authorization": "Bearer x"},
        {"r_cache_control": "max-age=60", "x_status": "206"},
        {"r_cache_control": "max-age=60", "x_status": "302"},
        {"r_cache_control": "max-age=60", "x_status": "500"},
        {"r_cache_control": "max-age=60", "r_content_range": "bytes 0-1/2"},
        {"r_cache_control": "max-age=60", "cache_control": "no-store"},
        {"r_cache_control": "max-age=60", "r_age": "60"},
    ],
)
async def test_what_must_not_be_kept_is_not(headers: dict[str, str], clock: VirtualClock) -> None:
    """The next request runs again."""
    async with TestApp.of(services={"site": Site}) as app:
        await get(app, **headers)
        assert (await get(app)).text == "run 2"


async def test_a_request_may_want_a_new_one(clock: VirtualClock) -> None:
    """no-cache, no-store, max-age=0 and ranges are not answered from the cache; public answers who is authorized."""
    async with TestApp.of(services={"site": Site}) as app:
        await get(app, r_cache_control="public, max-age=60", authorization="Bearer x")
        assert (await get(app, authorization="Bearer y")).text == "run 1"
        for number, headers in enumerate(({"cache_control": "no-cache"}, {"cache_control": "max-age=0"}, {"range": "bytes=0-1"})):
            assert (await get(app, **headers)).text == f"run {number + 2}"
        assert (await app.client.get("http://site.localhost/stream")).text == "refused"


def test_the_longest_unused_leave(tmp_path: Path) -> None:
    """The store stays within its bytes and its variants, counts right over a restart, and begins anew over what is no database."""
    path = tmp_path / "cache.sqlite"

    def kept(body: bytes) -> Cached:
        return Cached(200, [("a", "b")], body, 0, 10)

    store = CacheStore(path, 4 * (ROW_BYTES + 100))
    for number in range(4):
        store.keep(f"/{number}", (), [], kept(bytes(100)))
    assert store.find("/0", [], 5) == kept(bytes(100)) and store.find("/0", [], 10) is None
    store.keep("/new", (), [], kept(bytes(100)))
    assert [store.find(url, [], 5) is None for url in ("/0", "/1", "/2", "/3", "/new")] == [False, True, False, False, False]
    store.close()
    store = CacheStore(path, 4 * (ROW_BYTES + 100))
    assert store.size_bytes == 4 * (ROW_BYTES + 100) and store.find("/0", [], 5) is not None
    store.keep("/huge", (), [], kept(bytes(10_000)))
    assert store.size_bytes == 0 and store.find("/0", [], 5) is None
    store.close()
    path.write_bytes(b"no database at all, " * 500)
    store = CacheStore(path)
    for number in range(2 * VARIANTS_MAX):
        store.keep("/x", ("user-agent",), [("user-agent", str(number))], kept(b""))
    assert store.size_bytes == VARIANTS_MAX * ROW_BYTES
    assert store.find("/x", [("user-agent", str(2 * VARIANTS_MAX - 1))], 5) is not None
    store.close()


def test_directives_are_read_strictly() -> None:
    """Names fold, values may be quoted, and what cannot be read is no-store."""
    assert directives(['Max-Age=60, PUBLIC, ext="a, b"', "s-maxage=5"]) == {
        "max-age": "60",
        "public": "",
        "ext": "a, b",
        "s-maxage": "5",
    }
    for unreadable in ("max-age=60; x", 'a="', "=5", "max-age=1, max-age=2", "ä"):
        assert "no-store" in directives([unreadable])
