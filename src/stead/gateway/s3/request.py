"""A request to the endpoint: which bucket and key it is about, in path style and in virtual-host style."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import Request

from stead.events import Fetch
from stead.gateway.s3.errors import S3Error

KEY_BYTES_MAX = 1024
DOCUMENT_BYTES_MAX = 2 * 1024 * 1024  # of XML that is sent to us: a completion with 10,000 parts and their checksums


@dataclass(frozen=True)
class S3Request:
    """What was asked. `bucket` and `key` are empty where none is named; `raw_path` is the path as it was sent."""

    method: str
    bucket: str
    key: str
    query: Sequence[tuple[str, str]]
    headers: Headers
    raw_path: bytes
    body: AsyncIterator[bytes]

    @property
    def parameters(self) -> Mapping[str, str]:
        return dict(self.query)

    def number(self, name: str, default: int, most: int) -> int:
        """A parameter from 0 to `most`; a larger one counts as `most`."""
        text = self.parameters.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise S3Error("InvalidArgument", f"{name} must be a number from 0 to {most:,}.", ArgumentName=name)
        return min(int(text), most)


def read_request(fetch: Fetch, host: bytes, own_hosts: Sequence[bytes]) -> S3Request:
    """Raises `KeyTooLongError` or `InvalidURI`."""
    scope = fetch.scope
    raw_path: bytes = scope["raw_path"] or b"/"
    bucket = next((host[: -len(own) - 1] for own in own_hosts if host.endswith(b"." + own)), b"").decode()
    path = unquote_to_bytes(raw_path).decode()[1:]  # that it is UTF-8 has been checked at admission
    if not bucket:
        bucket, _, path = path.partition("/")
    if len(path.encode()) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", Size=str(len(path.encode())), MaxSizeAllowed=str(KEY_BYTES_MAX))
    if "\0" in path:
        raise S3Error("InvalidURI", "A key must not contain NUL.")
    request = Request(scope, fetch.receive)
    return S3Request(scope["method"], bucket, path, _query(scope["query_string"]), request.headers, raw_path, request.stream())


async def read_document(body: AsyncIterator[bytes]) -> bytes:
    """A body of XML, whole."""
    data = bytearray()
    async for chunk in body:
        data += chunk
        if len(data) > DOCUMENT_BYTES_MAX:
            raise S3Error("MalformedXML", f"The XML has more than {DOCUMENT_BYTES_MAX:,} bytes.")
    return bytes(data)


def _query(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as exc:
        raise S3Error("InvalidURI", "The query is malformed.") from exc
