"""A message as consumers have it, its body, and what a queue is set to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from stead import codec
from stead.bindings.queue.parcel import ContentType, Outgoing, Parcel
from stead.errors import Invalid

MESSAGE_BYTES_MAX = 1024 * 1024  # of one body as it is stored
DELAY_S_MAX = 12 * 3600.0
BATCH_MESSAGES_MAX = 1000  # sent, leased or settled at a time


class QueueSettings(msgspec.Struct, frozen=True):
    """What the manifest says of a queue. `consumer` is the service of its observer, None for one that is pulled."""

    name: str
    consumer: str | None = None
    max_concurrency: int = 4
    max_batch_size: int = 10
    max_batch_timeout_s: float = 5.0
    max_retries: int = 3
    retry_delay_s: float = 0.0
    dead_letter_queue: str | None = None  # another queue's name; None: the queue's own dead letters
    retention_s: float = 4 * 24 * 3600.0
    messages_max: int = 100_000  # in each shard; past it senders are refused


class Leased(msgspec.Struct, frozen=True, array_like=True):
    """A message in the hands of a consumer. `key` and `id` settle it; `attempts` counts this one."""

    key: str
    id: str
    sent_ms: int
    attempts: int
    content_type: ContentType
    body: bytes

    def value(self) -> Any:
        """The body as it was sent."""
        return decode_body(self.body, self.content_type)

    @property
    def shard(self) -> str:
        """The actor that has it."""
        return self.id.rpartition("/")[2].partition("-")[0]

    @property
    def number(self) -> int:
        return int(self.id.rpartition("-")[2])

    def pulled(self) -> Pulled:
        sent = datetime.fromtimestamp(self.sent_ms / 1000, UTC)
        return Pulled(f"{self.shard}-{self.number}/{self.key}", self.id, sent, self.attempts, self.content_type, self.value())


class Pulled(msgspec.Struct, frozen=True):
    """A message as JSON carries it, for consumers outside. `lease` settles it."""

    lease: str
    id: str
    timestamp: datetime
    attempts: int
    content_type: ContentType
    body: Any


def leased(actor: str, key: str, parcel: Parcel) -> list[Leased]:
    """The messages of a parcel one by one."""
    return [
        Leased(key, message_id(actor, number), parcel.sent_ms, parcel.attempts, parcel.content_type, body)
        for number, body in zip(parcel.numbers, parcel.bodies, strict=True)
    ]


def message_id(actor: str, number: int) -> str:
    """No other message of the application has it: observers make keys of it."""
    return f"{actor}-{number}"


def outgoing(bodies: Iterable[Any], content_type: ContentType, delay_s: float) -> Outgoing:
    """Messages to send. Raises `Invalid` for what does not fit its type or its bounds."""
    if not 0 <= delay_s <= DELAY_S_MAX:
        raise Invalid(f"delay_s must be 0 to {DELAY_S_MAX:,.0f} (12 hours), got {delay_s}")
    encode = _ENCODERS.get(content_type) if isinstance(content_type, str) else None
    if encode is None:
        raise Invalid(f"content_type must be json, text, bytes or python, not {content_type!r}")
    try:
        encoded = [encode(body) for body in bodies]
    except (TypeError, ValueError, RecursionError) as exc:
        raise Invalid(f"the message cannot be sent as {content_type}: {exc}") from exc
    longest_bytes = max(map(len, encoded), default=0)
    if longest_bytes > MESSAGE_BYTES_MAX:
        raise Invalid(
            f"the message has {longest_bytes:,} bytes; the limit is {MESSAGE_BYTES_MAX:,}: put what is large into a bucket"
        )
    return Outgoing(encoded, content_type, delay_s)


def _encode_text(body: Any) -> bytes:
    if not isinstance(body, str):
        raise TypeError(f"it is a {type(body).__name__}")
    return body.encode()


def _encode_bytes(body: Any) -> bytes:
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"it is a {type(body).__name__}")
    return bytes(body)


_ENCODERS: dict[ContentType, Callable[[Any], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "text": _encode_text,
    "bytes": _encode_bytes,
    "python": codec.encode,
}
_DECODERS: dict[ContentType, Callable[[bytes], Any]] = {
    "json": msgspec.json.Decoder().decode,
    "text": bytes.decode,
    "bytes": bytes,
    "python": codec.decode,
}


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, Invalid)  # what decoding raises for bytes that are none of ours


def decode_body(data: bytes, content_type: ContentType) -> Any:
    return _DECODERS[content_type](data)


def decode_bodies(bodies: Iterable[bytes], content_type: ContentType) -> list[Any]:
    return list(map(_DECODERS[content_type], bodies))
