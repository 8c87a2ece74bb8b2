"""Messages as they are stored and handed over, and what a queue is set to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from stead import codec
from stead.errors import Invalid

MESSAGE_BYTES_MAX = 1024 * 1024  # of one body as it is stored
DELAY_S_MAX = 12 * 3600.0
BATCH_MESSAGES_MAX = 1000  # sent, leased or settled at a time

ContentType = Literal["json", "text", "bytes", "python"]


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


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """A message on its way into a queue."""

    body: bytes
    content_type: ContentType = "json"
    delay_s: float = 0.0
    attempts: int = 0  # of one that was a message before: of a dead letter


class Leased(msgspec.Struct, frozen=True, array_like=True):
    """A message in the hands of a consumer. `key` settles it; `attempts` counts this one."""

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
        return self.id.partition("-")[0]

    def pulled(self) -> Pulled:
        sent = datetime.fromtimestamp(self.sent_ms / 1000, UTC)
        return Pulled(f"{self.shard}/{self.key}", self.id, sent, self.attempts, self.content_type, self.value())


class Pulled(msgspec.Struct, frozen=True):
    """A message as JSON carries it, for consumers outside. `lease` settles it."""

    lease: str
    id: str
    timestamp: datetime
    attempts: int
    content_type: ContentType
    body: Any


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """What a consumer says of a message: done, or to be tried again, after `delay_s` if it says so."""

    key: str
    is_done: bool
    delay_s: float | None = None


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A message as it is stored."""

    id: str
    sent_ms: int
    attempts: int
    content_type: ContentType
    body: bytes

    def leased(self, key: str) -> Leased:
        return Leased(key, self.id, self.sent_ms, self.attempts + 1, self.content_type, self.body)


# Rows and batches are bytes to the codec, which walks through any other value step by step: with many messages that is the cost.
pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
unpack_row: Callable[[bytes], Row] = msgspec.msgpack.Decoder(Row).decode
unpack_outgoing: Callable[[bytes], list[Outgoing]] = msgspec.msgpack.Decoder(list[Outgoing]).decode
unpack_leased: Callable[[bytes], list[Leased]] = msgspec.msgpack.Decoder(list[Leased]).decode
unpack_verdicts: Callable[[bytes], list[Verdict]] = msgspec.msgpack.Decoder(list[Verdict]).decode


def outgoing(body: Any, content_type: ContentType, delay_s: float) -> Outgoing:
    """A message to send. Raises `Invalid` for what does not fit its type or its bounds."""
    if not 0 <= delay_s <= DELAY_S_MAX:
        raise Invalid(f"delay_s must be 0 to {DELAY_S_MAX:,.0f} (12 hours), got {delay_s}")
    data = _encode_body(body, content_type)
    if len(data) > MESSAGE_BYTES_MAX:
        raise Invalid(f"the message has {len(data):,} bytes; the limit is {MESSAGE_BYTES_MAX:,}: put what is large into a bucket")
    return Outgoing(data, content_type, delay_s)


def _encode_body(body: Any, content_type: ContentType) -> bytes:
    try:
        match content_type:
            case "json":
                return msgspec.json.encode(body)
            case "text" if isinstance(body, str):
                return body.encode()
            case "bytes" if isinstance(body, bytes | bytearray | memoryview):
                return bytes(body)
            case "python":
                return codec.encode(body)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Invalid(f"the message cannot be sent as {content_type}: {exc}") from exc
    if content_type in {"text", "bytes"}:
        raise Invalid(f"a message of content type {content_type!r} cannot be a {type(body).__name__}")
    raise Invalid(f"content_type must be json, text, bytes or python, not {content_type!r}")


def decode_body(data: bytes, content_type: ContentType) -> Any:
    match content_type:
        case "json":
            return msgspec.json.decode(data)
        case "text":
            return data.decode()
        case "python":
            return codec.decode(data)
        case "bytes":
            return data
