"""What services see of the cache: `match`, `put` and `delete`, with the rules of `logic/caching.py`."""

from __future__ import annotations

from stead.api import Request, Response
from stead.bindings.cache.store import Cached, CacheStore
from stead.clock import Clock
from stead.errors import Invalid
from stead.logic import caching

BODY_BYTES_MAX = 8 * 1024 * 1024  # of one response
_UNCHANGED = frozenset(
    {"cache-control", "content-location", "date", "etag", "expires", "vary"}
)  # what a 304 repeats: RFC 9110, 15.4.5
_PASSING = frozenset({"age", "connection", "content-length", "keep-alive", "transfer-encoding"})


class ResponseCache:
    """`self.cache` of a service: shared by the services of a node, and by nobody else."""

    def __init__(self, store: CacheStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def match(self, request: Request) -> Response | None:
        """The response that is kept for this request, with its `Age`; 304 if the client has it already. None if there is none."""
        headers = request.headers.items()
        if request.method not in {"GET", "HEAD"} or not caching.may_answer(headers):
            return None
        now_ms = self._clock.now_ms()
        cached = self._store.find(str(request.url), headers, now_ms)
        if cached is None:
            return None
        age = ("age", str((now_ms - cached.kept_ms) // 1000))
        if caching.is_unchanged(headers, next(iter(caching.all_of(cached.headers, "etag")), None)):
            return _response(b"", 304, [*((name, value) for name, value in cached.headers if name in _UNCHANGED), age])
        return _response(cached.body, cached.status, [*cached.headers, age])

    async def put(self, request: Request, response: Response) -> bool:
        """Keep a whole response for requests like this one, as its Cache-Control says. False if it may not be kept.

        Raises `Invalid` for a streaming response.
        """
        if not isinstance(getattr(response, "body", None), bytes):
            raise Invalid("a cache keeps whole responses; read what streams, and make a Response of it")
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers]
        fresh_s = caching.fresh_for_s(request.method, request.headers.items(), response.status_code, headers)
        vary = caching.varies_by(headers)
        if fresh_s is None or vary is None or len(response.body) > BODY_BYTES_MAX:
            return False
        now_ms = self._clock.now_ms()
        age_s = int(next(iter(caching.all_of(headers, "age")), "0"))
        kept = [(name, value) for name, value in headers if name not in _PASSING]
        cached = Cached(response.status_code, kept, bytes(response.body), now_ms - age_s * 1000, now_ms + fresh_s * 1000)
        self._store.keep(str(request.url), vary, request.headers.items(), cached)
        return True

    async def delete(self, request: Request) -> bool:
        """Forget what is kept for the request's address, and say whether there was anything."""
        return self._store.remove(str(request.url))


def _response(body: bytes, status: int, headers: list[tuple[str, str]]) -> Response:
    response = Response(body, status)
    length = [] if status in {204, 304} else [(b"content-length", b"%d" % len(body))]
    response.raw_headers = [*length, *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)]
    return response
