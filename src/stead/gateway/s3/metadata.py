"""What headers say of an object, and what an object says in headers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from starlette.datastructures import Headers

from stead.bindings import BucketObject, ByteRange, Conditions, HttpMetadata
from stead.bindings.bucket import HEADER_VALUE
from stead.gateway.s3.errors import S3Error
from stead.gateway.s3.request import S3Request

METADATA_BYTES_MAX = 2048  # of what users add: names and values
DEFAULT_TYPE = "binary/octet-stream"
S3_CHECKSUMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
_CUSTOM = "x-amz-meta-"
_HEADERS = {
    "content_type": "content-type",
    "content_language": "content-language",
    "content_disposition": "content-disposition",
    "content_encoding": "content-encoding",
    "cache_control": "cache-control",
    "cache_expiry": "expires",
}
_CHUNKED = "aws-chunked"  # how a body travels, not what it is
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})").fullmatch
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110, section 5.6.2
_SECOND, _INSTANT = timedelta(seconds=1), timedelta(microseconds=1)  # headers have seconds, objects more


def http_metadata(headers: Headers) -> HttpMetadata:
    found = {field: headers[name] for field, name in _HEADERS.items() if name in headers}
    encodings = [part.strip() for part in found.pop("content_encoding", "").split(",")]
    kept = ", ".join(part for part in encodings if part and part != _CHUNKED)
    return HttpMetadata(**found, content_encoding=kept or None)


def custom_metadata(headers: Headers) -> dict[str, str]:
    """What users added, each name in lower case and without its prefix."""
    found = {name.removeprefix(_CUSTOM): headers[name] for name in headers if name.startswith(_CUSTOM)}
    if sum(len(name) + len(value) for name, value in found.items()) > METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", MaxSizeAllowed=str(METADATA_BYTES_MAX))
    return found


def conditions(headers: Headers, prefix: str = "") -> Conditions | None:
    """The conditions of a request, or with a prefix those of a copy's source."""
    found = Conditions(
        etag_matches=_etags(headers.get(f"{prefix}if-match")),
        etag_does_not_match=_etags(headers.get(f"{prefix}if-none-match")),
        uploaded_before=_after(headers.get(f"{prefix}if-unmodified-since"), _SECOND),
        uploaded_after=_after(headers.get(f"{prefix}if-modified-since"), _SECOND - _INSTANT),
    )
    return None if found == Conditions() else found


def byte_range(text: str | None) -> ByteRange | None:
    """The range of a `Range` header; None for none, and for what HTTP says to ignore."""
    match = _RANGE(text.replace(" ", "")) if text is not None else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return ByteRange(suffix=int(last))
    if not last:
        return ByteRange(int(first))
    return ByteRange(int(first), int(last) - int(first) + 1) if int(first) <= int(last) else None


def object_headers(found: BucketObject, request: S3Request) -> dict[str, str]:
    """What the answer to GET and HEAD says of the object."""
    headers = {
        "etag": found.http_etag,
        "last-modified": http_date(found.uploaded),
        "accept-ranges": "bytes",
        "content-type": found.http_metadata.content_type or DEFAULT_TYPE,
    }
    for field, name in _HEADERS.items():
        value = _wanted(request, f"response-{name}") or getattr(found.http_metadata, field)
        if value is not None:
            headers[name] = value
    sendable = {name: value for name, value in found.custom_metadata.items() if _TOKEN(name)}
    headers |= {f"{_CUSTOM}{name}": _header_text(value) for name, value in sendable.items()}
    if len(sendable) < len(found.custom_metadata):
        headers["x-amz-missing-meta"] = str(len(found.custom_metadata) - len(sendable))
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and found.range is None:
        headers |= checksum_headers(found.checksums)
    return headers


def _wanted(request: S3Request, name: str) -> str | None:
    """A header that the request wants in its answer."""
    value = request.parameters.get(name)
    if value is not None and not HEADER_VALUE(value):
        raise S3Error("InvalidArgument", "A header is visible ASCII and spaces.", ArgumentName=name)
    return value


def _header_text(value: str) -> str:
    """Text as a header; where it does not fit, in the words of RFC 2047, as S3 does."""
    return value if HEADER_VALUE(value) else f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    found = {f"x-amz-checksum-{name}": text for name, text in checksum_texts(checksums).items()}
    if found:
        found["x-amz-checksum-type"] = "COMPOSITE" if any("-" in value for value in checksums.values()) else "FULL_OBJECT"
    return found


def checksum_elements(checksums: Mapping[str, str]) -> dict[str, str]:
    """As elements of XML: `ChecksumCRC32`, say."""
    return {f"Checksum{name.upper()}": text for name, text in checksum_texts(checksums).items()}


def checksum_texts(checksums: Mapping[str, str]) -> dict[str, str]:
    """Those that S3 knows, in base64."""
    return {name: _base64(value) for name, value in checksums.items() if name in S3_CHECKSUMS}


def http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


def iso_date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _base64(hexadecimal: str) -> str:
    digest, dash, count = hexadecimal.partition("-")
    return base64.b64encode(bytes.fromhex(digest)).decode() + dash + count


def _etags(text: str | None) -> list[str] | None:
    return None if text is None else [etag.strip().removeprefix("W/").strip('"') for etag in text.split(",")]


def _after(text: str | None, duration: timedelta) -> datetime | None:
    """A moment after that of a header, None for a header that is no date: HTTP says to ignore it."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) + duration
