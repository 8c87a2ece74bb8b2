"""Operations that list: buckets, and the objects of one, in both versions."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from stead.bindings import BucketObject, BucketPage
from stead.bindings.bucket import cursor_behind
from stead.errors import Invalid
from stead.gateway.s3 import xml
from stead.gateway.s3.call import Call, xml_answer
from stead.gateway.s3.errors import S3Error
from stead.gateway.s3.metadata import S3_CHECKSUMS, iso_date

KEYS_MAX = 1000
OWNER: xml.Tree = {"ID": "stead", "DisplayName": "stead"}


def list_buckets(names: list[str], created: str) -> Response:
    buckets: list[xml.Tree] = [{"Name": name, "CreationDate": created} for name in names]
    return xml_answer("ListAllMyBucketsResult", {"Owner": OWNER, "Buckets": {"Bucket": buckets}})


async def get_location(call: Call) -> Response:  # noqa: RUF029 - an operation like others
    return xml_answer("LocationConstraint", {})


async def get_versioning(call: Call) -> Response:  # noqa: RUF029 - an operation like others
    return xml_answer("VersioningConfiguration", {})


async def head_bucket(call: Call) -> Response:  # noqa: RUF029 - an operation like others
    return Response(b"", 200)


async def list_objects_v2(call: Call) -> Response:
    asked = call.request.parameters
    start_after, token = asked.get("start-after", ""), asked.get("continuation-token")
    if token == "":
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token")
    page = await _page(call, token, start_after)
    tree = _listed(call, page)
    tree["KeyCount"] = str(len(page.objects) + len(page.delimited_prefixes))
    if token is not None:
        tree["ContinuationToken"] = token
    if page.cursor is not None:
        tree["NextContinuationToken"] = page.cursor
    if start_after:
        tree["StartAfter"] = _encode(call, start_after)
    return xml_answer("ListBucketResult", tree)


async def list_objects_v1(call: Call) -> Response:
    """In version 1 the next page begins behind the last line of this one, also where that is a prefix."""
    asked = call.request.parameters
    marker, delimiter, prefix = asked.get("marker", ""), asked.get("delimiter", ""), asked.get("prefix", "")
    if delimiter and marker.startswith(prefix) and marker.find(delimiter, len(prefix)) == len(marker) - len(delimiter):
        cursor = cursor_behind(marker)
        page = BucketPage([], [], False) if cursor is None else await _page(call, cursor)
    else:
        page = await _page(call, None, marker)
    tree = _listed(call, page)
    tree["Marker"] = _encode(call, marker)
    if page.truncated:
        lines = [found.key for found in page.objects[-1:]] + page.delimited_prefixes[-1:]
        tree["NextMarker"] = _encode(call, max(lines))
    return xml_answer("ListBucketResult", tree)


async def _page(call: Call, token: str | None, start_after: str = "") -> BucketPage:
    asked, limit = call.request.parameters, _limit(call)
    if limit == 0:
        return BucketPage([], [], False)
    try:
        return await call.bucket.list(
            prefix=asked.get("prefix", ""),
            limit=limit,
            cursor=token,
            delimiter=asked.get("delimiter", ""),
            start_after=start_after,
        )
    except Invalid as exc:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token") from exc


def _limit(call: Call) -> int:
    return call.request.number("max-keys", KEYS_MAX, KEYS_MAX)


def _listed(call: Call, page: BucketPage) -> xml.Tree:
    asked = call.request.parameters
    tree: xml.Tree = {
        "Name": call.request.bucket,
        "Prefix": _encode(call, asked.get("prefix", "")),
        "MaxKeys": str(_limit(call)),
        "IsTruncated": str(page.truncated).lower(),
        "Contents": [_line(call, found) for found in page.objects],
        "CommonPrefixes": [{"Prefix": _encode(call, prefix)} for prefix in page.delimited_prefixes],
    }
    if asked.get("delimiter"):
        tree["Delimiter"] = _encode(call, asked["delimiter"])
    if _is_encoded(call):
        tree["EncodingType"] = "url"
    return tree


def _line(call: Call, found: BucketObject) -> xml.Tree:
    line: xml.Tree = {
        "Key": _encode(call, found.key),
        "LastModified": iso_date(found.uploaded),
        "ETag": found.http_etag,
        "Size": str(found.size),
        "StorageClass": "STANDARD",
    }
    algorithms = [name.upper() for name in found.checksums if name in S3_CHECKSUMS]
    if algorithms:
        line["ChecksumAlgorithm"] = algorithms
    if call.request.parameters.get("fetch-owner") == "true" or call.request.parameters.get("list-type") != "2":
        line["Owner"] = OWNER
    return line


def _is_encoded(call: Call) -> bool:
    wanted = call.request.parameters.get("encoding-type")
    if wanted not in {None, "url"}:
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request", ArgumentName="encoding-type")
    return wanted == "url"


def _encode(call: Call, text: str) -> str:
    return quote(text, safe="/-_.~*") if _is_encoded(call) else text
