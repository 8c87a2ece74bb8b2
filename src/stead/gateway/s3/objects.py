"""Operations on objects: get, head, put, copy, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import unquote

from starlette.responses import Response

from stead.bindings import BucketObject, ObjectBody
from stead.bindings.bucket import Action, Cause, Draft, Refusal, check_key, refusal
from stead.errors import Invalid
from stead.gateway.s3 import xml
from stead.gateway.s3.call import BodyResponse, Call, xml_answer
from stead.gateway.s3.errors import S3Error, of_ours
from stead.gateway.s3.metadata import (
    S3_CHECKSUMS,
    byte_range,
    checksum_elements,
    checksum_headers,
    conditions,
    custom_metadata,
    http_date,
    http_metadata,
    iso_date,
    object_headers,
)
from stead.gateway.s3.request import S3Request, read_document

DELETE_KEYS_MAX = 1000
_COPY_SOURCE = "x-amz-copy-source"


async def get_object(call: Call) -> Response:
    request = call.request
    asked = byte_range(request.headers.get("range"))
    if asked is not None and "if-range" in request.headers:
        present = await call.bucket.head(call.key)
        if present is None or request.headers["if-range"] not in {present.http_etag, http_date(present.uploaded)}:
            asked = None
    wanted = conditions(request.headers)
    found = await call.bucket.get(call.key, range=asked, only_if=wanted)
    if not isinstance(found, ObjectBody):
        return _unchanged(found, call)
    headers = object_headers(found, request)
    if found.range is None:
        return BodyResponse(200, {**headers, "content-length": str(found.size)}, found.body)
    first, length = found.range.offset or 0, found.range.length or 0
    headers |= {"content-range": f"bytes {first}-{first + length - 1}/{found.size}", "content-length": str(length)}
    return BodyResponse(206, headers, found.body)


async def head_object(call: Call) -> Response:
    found = await call.bucket.head(call.key)
    if found is None or refusal(conditions(call.request.headers), found) is not None:
        return _unchanged(found, call)
    asked = byte_range(call.request.headers.get("range"))
    part = None if asked is None else asked.of(found.size)
    headers = object_headers(found, call.request)
    if part is None:
        return BodyResponse(200, {**headers, "content-length": str(found.size)}, _nothing())
    first, length = part.offset or 0, part.length or 0
    headers |= {"content-range": f"bytes {first}-{first + length - 1}/{found.size}", "content-length": str(length)}
    return BodyResponse(206, headers, _nothing())


async def get_tags(call: Call) -> Response:
    """None: no object has any. Clients ask before they copy a large one in parts."""
    if await call.bucket.head(call.key) is None:
        raise S3Error("NoSuchKey", Key=call.key)
    return xml_answer("Tagging", {"TagSet": {}})


async def put_object(call: Call) -> Response:
    headers = call.request.headers
    draft = Draft(
        http_metadata=http_metadata(headers),
        custom_metadata=custom_metadata(headers),
        checksums=call.payload.checksums,
        only_if=conditions(headers),
    )
    made = stored(await call.bucket.write(call.key, call.payload, draft), call.request)
    return Response(b"", 200, {"etag": made.http_etag, **checksum_headers(made.checksums)})


async def copy_object(call: Call) -> Response:
    headers = call.request.headers
    source, found = await open_source(call)
    replaces = headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if source == f"{call.request.bucket}/{call.key}" and not replaces:
        raise S3Error("InvalidRequest", "A copy of an object to itself must replace its metadata.")
    kept = [name for name in found.checksums if name in S3_CHECKSUMS]
    draft = Draft(
        http_metadata=http_metadata(headers) if replaces else found.http_metadata,
        custom_metadata=custom_metadata(headers) if replaces else found.custom_metadata,
        checksums={name: None for name in [*kept, headers.get("x-amz-checksum-algorithm", "").lower()] if name in S3_CHECKSUMS},
        only_if=conditions(headers),
        cause=Cause(Action.COPY, source),
    )
    made = stored(await call.bucket.write(call.key, found.body, draft), call.request)
    return xml_answer("CopyObjectResult", copy_result(made))


async def delete_object(call: Call) -> Response:
    await call.bucket.delete(call.key)
    return Response(b"", 204)


async def delete_objects(call: Call) -> Response:
    root = xml.read(await read_document(aiter(call.payload)), "Delete")
    keys = [found.findtext("Key") or "" for found in root.findall("Object")]
    if not 0 < len(keys) <= DELETE_KEYS_MAX:
        raise S3Error("MalformedXML")
    errors: list[xml.Tree] = []
    good = []
    for key in keys:
        try:
            good.append(check_key(key))
        except Invalid as exc:
            error = of_ours(exc)
            assert error is not None
            errors.append({"Key": key, "Code": error.code, "Message": error.message})
    await call.bucket.delete(good)
    is_quiet = (root.findtext("Quiet") or "").strip().lower() == "true"
    deleted: list[xml.Tree] = [] if is_quiet else [{"Key": key} for key in good]
    return xml_answer("DeleteResult", {"Deleted": deleted, "Error": errors})


async def open_source(call: Call, ranged: str | None = None) -> tuple[str, ObjectBody]:
    """What a copy is of: its bucket and key, and the object. Raises `NoSuchKey` or `PreconditionFailed`."""
    try:
        text = unquote(call.request.headers[_COPY_SOURCE], errors="strict").removeprefix("/")
    except UnicodeDecodeError as exc:
        raise S3Error("InvalidArgument", f"{_COPY_SOURCE} is not UTF-8 once its percent-encoding is undone.") from exc
    if "?" in text and text.rpartition("?")[2].startswith("versionId="):
        raise S3Error("NotImplemented", "Objects have no versions here.")
    bucket, _, key = text.partition("/")
    if not key:
        raise S3Error("InvalidArgument", f"{_COPY_SOURCE} must read bucket/key.")
    asked = byte_range(ranged)
    if ranged is not None and asked is None:
        raise S3Error("InvalidArgument", f"{_COPY_SOURCE}-range must read bytes=first-last.")
    wanted = conditions(call.request.headers, f"{_COPY_SOURCE}-")
    found = await call.open_bucket(bucket).get(key, range=asked, only_if=wanted)
    if found is None:
        raise S3Error("NoSuchKey", Key=key)
    if not isinstance(found, ObjectBody):
        raise S3Error("PreconditionFailed")
    return text, found


def stored(made: BucketObject | None, request: S3Request) -> BucketObject:
    """The object, unless a condition did not hold."""
    if made is not None:
        return made
    raise S3Error("PreconditionFailed", Condition="If-Match" if "if-match" in request.headers else "If-None-Match")


def copy_result(made: BucketObject) -> xml.Tree:
    return {"LastModified": iso_date(made.uploaded), "ETag": made.http_etag, **checksum_elements(made.checksums)}


def _unchanged(found: BucketObject | None, call: Call) -> Response:
    """The answer where there is no object, or a condition does not hold."""
    if found is None:
        raise S3Error("NoSuchKey", Key=call.key)
    if refusal(conditions(call.request.headers), found) is Refusal.CHANGED:
        raise S3Error("PreconditionFailed")
    headers = object_headers(found, call.request)
    return Response(b"", 304, {name: headers[name] for name in ("etag", "last-modified", "cache-control") if name in headers})


async def _nothing() -> AsyncIterator[bytes]:  # noqa: RUF029 - the body of an answer without one
    for _ in ():
        yield b""
