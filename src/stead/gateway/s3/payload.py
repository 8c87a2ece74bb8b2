"""The body of a request: plain, or in the chunks of `aws-chunked`, with its signatures and checksums checked as it streams.

Nothing is held back until it is checked: what is wrong raises in the middle or at the end of the stream, and an object becomes
visible only after that. So the memory that a body takes does not depend on the size of its chunks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import AsyncIterator

from starlette.datastructures import Headers

from stead.bindings.bucket import ALGORITHMS
from stead.gateway.s3.errors import S3Error
from stead.gateway.s3.signing import UNSIGNED, Signer

BODY_BYTES_MAX = 5 * 1024**3  # of one object or part
STREAMING = "STREAMING-"
_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_WITH_TRAILER = f"{_SIGNED}-TRAILER"
_OF_CHUNK, _OF_TRAILER = "AWS4-HMAC-SHA256-PAYLOAD", "AWS4-HMAC-SHA256-TRAILER"  # algorithms in what is signed
_LINE_BYTES_MAX = 4096
_TRAILERS_MAX = 16
_EMPTY = hashlib.sha256(b"").hexdigest()
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?").fullmatch
_CHECKSUM = "x-amz-checksum-"


class Payload:
    """Iterate it for the body. `checksums` has those that the client gave, in hexadecimal by algorithm; those of a trailer are None
    until the body has ended."""

    def __init__(self, body: AsyncIterator[bytes], headers: Headers, kind: str, signer: Signer | None) -> None:
        self._body = body
        self._headers = headers
        self._kind = kind
        self._signer = signer
        self.checksums: dict[str, str | None] = _checksums(headers)
        if _size(headers) > BODY_BYTES_MAX:
            raise S3Error("EntityTooLarge", MaxSizeAllowed=str(BODY_BYTES_MAX))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._kind.startswith(STREAMING):
            size = 0
            async for piece in self._chunks():
                size += len(piece)
                yield piece
            if str(size) != self._headers.get("x-amz-decoded-content-length", str(size)):
                raise S3Error("IncompleteBody")
        elif self._kind == UNSIGNED:
            async for piece in self._body:
                yield piece
        else:
            digest = hashlib.sha256()
            async for piece in self._body:
                digest.update(piece)
                yield piece
            if not hmac.compare_digest(digest.hexdigest(), self._kind.lower()):
                raise S3Error("XAmzContentSHA256Mismatch")

    async def _chunks(self) -> AsyncIterator[bytes]:
        is_signed = self._kind.startswith(_SIGNED)
        if is_signed and self._signer is None:
            raise S3Error("AccessDenied")
        reader = _Reader(self._body)
        previous = self._signer.seed if self._signer is not None else ""
        while True:
            match = _CHUNK(await reader.line())
            if match is None or is_signed != (match[2] is not None):
                raise S3Error("IncompleteBody", "A chunk begins with its size, and its signature if the body is signed.")
            left, digest = int(match[1], 16), hashlib.sha256()
            is_last = left == 0
            while left:
                piece = await reader.some(left)
                left -= len(piece)
                if is_signed:
                    digest.update(piece)
                yield piece
            if is_signed:
                previous = self._check(_OF_CHUNK, match[2], previous, _EMPTY, digest.hexdigest())
            if is_last:
                break
            if await reader.line():
                raise S3Error("IncompleteBody", "A chunk is longer than its size.")
        await self._trailers(reader, previous)

    async def _trailers(self, reader: _Reader, previous: str) -> None:
        lines: dict[str, str] = {}
        while line := await reader.line(may_end=True):
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(lines) == _TRAILERS_MAX:
                raise S3Error("IncompleteBody", "A trailer reads name:value.")
            lines[name.strip().lower()] = value.strip()
        signature = lines.pop("x-amz-trailer-signature", None)
        if self._kind == _SIGNED_WITH_TRAILER:
            text = "".join(f"{name}:{value}\n" for name, value in sorted(lines.items()))
            self._check(_OF_TRAILER, (signature or "").encode(), previous, hashlib.sha256(text.encode()).hexdigest())
        for name, value in lines.items():
            if name.startswith(_CHECKSUM) and name.removeprefix(_CHECKSUM) in self.checksums:
                self.checksums[name.removeprefix(_CHECKSUM)] = _hex(value)
        missing = [name for name, value in self.checksums.items() if value is None]
        if missing:
            raise S3Error("IncompleteBody", f"The trailer {_CHECKSUM}{missing[0]} is missing.")

    def _check(self, algorithm: str, given: bytes, previous: str, *lines: str) -> str:
        assert self._signer is not None
        wanted = self._signer.sign(algorithm, previous, *lines)
        if not hmac.compare_digest(wanted.encode(), given):
            raise S3Error("SignatureDoesNotMatch")
        return wanted


class _Reader:
    """Lines and bytes out of a stream."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._buffer = b""

    async def line(self, *, may_end: bool = False) -> bytes:
        """Up to the next CRLF, without it. At the end of the stream empty, if it may be there."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE_BYTES_MAX:
                raise S3Error("IncompleteBody", "A line of the chunked body is too long.")
            more = await self._more()
            if not more:
                if may_end and not self._buffer:
                    return b""
                raise S3Error("IncompleteBody")
            self._buffer += more
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    async def some(self, most: int) -> bytes:
        """At least one byte and at most so many."""
        data = self._buffer or await self._more()
        if not data:
            raise S3Error("IncompleteBody")
        self._buffer = data[most:]
        return data[:most]

    async def _more(self) -> bytes:
        async for piece in self._stream:
            if piece:
                return piece
        return b""


def _checksums(headers: Headers) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    md5 = headers.get("content-md5")
    if md5 is not None:
        found["md5"] = _hex(md5)
    for name in headers:
        algorithm = name.removeprefix(_CHECKSUM)
        if name.startswith(_CHECKSUM) and algorithm in ALGORITHMS:
            found[algorithm] = _hex(headers[name])
    for name in headers.get("x-amz-trailer", "").lower().split(","):
        algorithm = name.strip().removeprefix(_CHECKSUM)
        if algorithm in ALGORITHMS:
            found[algorithm] = None
    return found


def _hex(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError) as exc:
        raise S3Error("InvalidDigest") from exc


def _size(headers: Headers) -> int:
    text = headers.get("x-amz-decoded-content-length") or headers.get("content-length") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise S3Error("InvalidArgument", "The length of the body is no number.")
    return int(text)
