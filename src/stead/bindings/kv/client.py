"""What other units see of a kv cache.

**Consistency.** With `cache_ttl_s = 0`, the default, every read asks the one actor that keeps the key: it sees the last
acknowledged write, wherever it came from. With more, a node remembers what it read for that long: a read may then miss writes of
other nodes that are younger, never those of its own node. A list always asks.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, overload

import msgspec

from stead.api import Env, Namespace
from stead.errors import Invalid

KEY_BYTES_MAX = 512
VALUE_BYTES_MAX = 25 * 1024 * 1024
METADATA_BYTES_MAX = 1024  # as JSON
KEYS_MAX = 1000  # in one page of a list, and of a bulk get
SHARDS = 8  # actors among which the keys are spread: as many writers
CACHE_BYTES_MAX = 16 * 1024 * 1024  # of values that a node remembers
STREAM_CHUNK_BYTES = 64 * 1024

Type = Literal["text", "json", "bytes", "stream"]
Value = str | bytes | AsyncIterable[bytes] | Mapping[str, Any] | Sequence[Any] | int | float | bool | None
"""What `put` takes: text, bytes, a stream of bytes, or what JSON can hold."""

_MISSING = object()


class KvEntry(msgspec.Struct, frozen=True):
    """A value with its metadata; both None for a key that does not exist."""

    value: Any
    metadata: Any = None


class KvKey(msgspec.Struct, frozen=True):
    """A line of a list. `expiration` in seconds since 1970."""

    name: str
    expiration: int | None = None
    metadata: Any = None


class KvPage(msgspec.Struct, frozen=True):
    """One page of a list; `cursor` asks for the next one."""

    keys: list[KvKey]
    list_complete: bool
    cursor: str | None = None


class KvCache:
    """`await env.SESSIONS.put("ann", {"cart": 3}, expiration_ttl=3600)`."""

    def __init__(self, namespace: Namespace[Any], env: Env, cache_ttl_s: float = 0.0) -> None:
        self._namespace = namespace
        self._env = env
        self._cache_ttl_s = cache_ttl_s
        self._cache: OrderedDict[str, tuple[float, tuple[bytes, Any] | None]] = OrderedDict()  # when read, what
        self._cached_bytes = 0

    @overload
    async def get(self, key: str, type: Type = "text") -> Any: ...
    @overload
    async def get(self, key: Sequence[str], type: Literal["text", "json", "bytes"] = "text") -> dict[str, Any]: ...
    async def get(self, key: str | Sequence[str], type: Type = "text") -> Any:
        """The value of a key, None if there is none; of a list of keys a dict with every key in it.

        `type`: "text" and "json" decode, "bytes" gives them as they are, "stream" an async iterator of them. Raises `Invalid` for a
        value that is not of that type.
        """
        if isinstance(key, str):
            return (await self.get_with_metadata(key, type)).value
        if not isinstance(key, Sequence):
            raise Invalid(f"a key is text, or a list of them for many, got {key!r:.80}")
        entries = await self._read_many(key)
        return {name: None if entry is None else _decode(name, entry[0], type) for name, entry in entries.items()}

    async def get_with_metadata(self, key: str, type: Type = "text") -> KvEntry:
        entry = await self._read(_checked(key))
        return KvEntry(None) if entry is None else KvEntry(_decode(key, entry[0], type), entry[1])

    async def put(
        self,
        key: str,
        value: Value,
        *,
        expiration: datetime | float | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
    ) -> None:
        """Set a key, durably when this returns. `expiration` is in seconds since 1970, `expiration_ttl` in seconds from now."""
        _checked(key)
        if len(_json(metadata, "metadata")) > METADATA_BYTES_MAX:
            raise Invalid(f"metadata of {key!r} has more than {METADATA_BYTES_MAX:,} bytes as JSON")
        data = await _encode(key, value)
        self._forget(key)
        await self._shard(key).put(key, data, self._expires_ms(expiration, expiration_ttl), metadata)
        self._forget(key)  # what a read found meanwhile is old

    async def delete(self, key: str) -> None:
        """Remove a key; one that does not exist is no error."""
        self._forget(_checked(key))
        await self._shard(key).delete(key)
        self._forget(key)

    async def list(self, prefix: str = "", limit: int = KEYS_MAX, cursor: str | None = None) -> KvPage:
        """The keys that begin with `prefix`, in order."""
        if not 0 < limit <= KEYS_MAX:
            raise Invalid(f"limit must be 1 to {KEYS_MAX:,}, got {limit}")
        rows: list[tuple[str, int | None, Any]] = []
        for shard in range(SHARDS):
            rows += await self._namespace.get(str(shard)).keys(prefix, cursor or "", limit + 1)
        rows.sort(key=lambda row: row[0].encode())
        keys = [KvKey(name, None if expires_ms is None else expires_ms // 1000, meta) for name, expires_ms, meta in rows[:limit]]
        more = len(rows) > limit
        return KvPage(keys, not more, keys[-1].name if more else None)

    # -- reading -------------------------------------------------------------------------------------------------------------------

    async def _read(self, key: str) -> tuple[bytes, Any] | None:
        known = self._remembered(key)
        if known is not _MISSING:
            return known  # type: ignore[no-any-return]
        entry: tuple[bytes, Any] | None = await self._shard(key).get(key)
        self._remember(key, entry)
        return entry

    async def _read_many(self, keys: Sequence[str]) -> dict[str, tuple[bytes, Any] | None]:
        if len(keys) > KEYS_MAX:
            raise Invalid(f"at most {KEYS_MAX:,} keys at a time, got {len(keys):,}")
        found: dict[str, tuple[bytes, Any] | None] = dict.fromkeys(keys)
        asked: dict[int, list[str]] = {}
        for key in found:
            known = self._remembered(_checked(key))
            if known is _MISSING:
                asked.setdefault(_shard_of(key), []).append(key)
            else:
                found[key] = known
        for shard, share in asked.items():
            entries = await self._namespace.get(str(shard)).get_many(share)
            for key in share:
                found[key] = entries.get(key)
                self._remember(key, found[key])
        return found

    def _remembered(self, key: str) -> Any:
        cached = self._cache.get(key)
        if cached is None or cached[0] + self._cache_ttl_s <= self._now_s():
            return _MISSING
        return cached[1]

    def _remember(self, key: str, entry: tuple[bytes, Any] | None) -> None:
        if not self._cache_ttl_s:
            return
        self._forget(key)
        self._cache[key] = self._now_s(), entry
        self._cached_bytes += _weight(key, entry)
        while self._cached_bytes > CACHE_BYTES_MAX:
            self._forget(next(iter(self._cache)))

    def _forget(self, key: str) -> None:
        cached = self._cache.pop(key, None)
        if cached is not None:
            self._cached_bytes -= _weight(key, cached[1])

    # -- writing -------------------------------------------------------------------------------------------------------------------

    def _shard(self, key: str) -> Any:
        return self._namespace.get(str(_shard_of(key)))

    def _expires_ms(self, expiration: datetime | float | None, ttl_s: float | None) -> int | None:
        if expiration is not None and ttl_s is not None:
            raise Invalid("give either expiration or expiration_ttl")
        if ttl_s is not None:
            if not ttl_s > 0:
                raise Invalid(f"expiration_ttl must be more than 0 seconds, got {ttl_s}")
            return round((self._now_s() + ttl_s) * 1000)
        if expiration is None:
            return None
        moment_s = expiration.timestamp() if isinstance(expiration, datetime) else expiration
        if not self._now_s() < moment_s < 1e11:
            raise Invalid("expiration must be a moment to come, in seconds since 1970")
        return round(moment_s * 1000)

    def _now_s(self) -> float:
        return self._env.now().timestamp()


def _shard_of(key: str) -> int:
    return zlib.crc32(key.encode()) % SHARDS


def _checked(key: str) -> str:
    if not isinstance(key, str) or not 0 < len(key.encode(errors="surrogatepass")) <= KEY_BYTES_MAX or "\0" in key:
        raise Invalid(f"a key is text of 1 to {KEY_BYTES_MAX} bytes in UTF-8 without NUL, got {key!r:.80}")
    return key


def _weight(key: str, entry: tuple[bytes, Any] | None) -> int:
    return len(key) + 200 + (0 if entry is None else len(entry[0]))


async def _encode(key: str, value: Value) -> bytes:
    if isinstance(value, str):
        data = value.encode()
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
    elif isinstance(value, AsyncIterable):
        data = await _collect(key, value)
    else:
        data = _json(value, f"the value of {key!r}")
    if len(data) > VALUE_BYTES_MAX:
        raise _too_large(key)
    return data


async def _collect(key: str, stream: AsyncIterable[bytes]) -> bytes:
    data = bytearray()
    async for chunk in stream:
        data += chunk
        if len(data) > VALUE_BYTES_MAX:
            raise _too_large(key)
    return bytes(data)


def _too_large(key: str) -> Invalid:
    return Invalid(f"the value of {key!r} is over the limit of {VALUE_BYTES_MAX:,} bytes")


def _json(value: Any, what: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Invalid(f"{what} cannot be written as JSON: {exc}") from exc


def _decode(key: str, data: bytes, type: Type) -> Any:
    try:
        match type:
            case "text":
                return data.decode()
            case "json":
                return msgspec.json.decode(data)
            case "bytes":
                return data
            case "stream":
                return _stream(data)
    except (UnicodeDecodeError, msgspec.DecodeError) as exc:
        raise Invalid(f"the value of {key!r} is no {type}: {exc}") from exc
    raise Invalid(f"type must be text, json, bytes or stream, not {type!r}")


async def _stream(data: bytes) -> AsyncIterator[bytes]:  # noqa: RUF029 - an async iterator, as other streams are
    for start in range(0, len(data), STREAM_CHUNK_BYTES):
        yield data[start : start + STREAM_CHUNK_BYTES]
