"""Operations of uploads in parts."""

from __future__ import annotations

import base64
import binascii
from xml.etree.ElementTree import Element

from starlette.responses import Response

from stead.bindings.bucket import MultipartUpload, Part
from stead.gateway.s3 import xml
from stead.gateway.s3.call import Call, xml_answer
from stead.gateway.s3.errors import S3Error
from stead.gateway.s3.listing import OWNER
from stead.gateway.s3.metadata import (
    S3_CHECKSUMS,
    checksum_elements,
    checksum_headers,
    conditions,
    custom_metadata,
    http_metadata,
    iso_date,
)
from stead.gateway.s3.objects import open_source, stored
from stead.gateway.s3.request import read_document

PART_NUMBER_MAX = 10_000
LINES_MAX = 1000  # in one page of parts or uploads


async def create_upload(call: Call) -> Response:
    headers = call.request.headers
    algorithm = headers.get("x-amz-checksum-algorithm", "").lower() or None
    if algorithm is not None and algorithm not in S3_CHECKSUMS:
        raise S3Error("InvalidRequest", f"Checksum algorithm {algorithm!r:.20} is not one of {', '.join(S3_CHECKSUMS)}.")
    kind = headers.get("x-amz-checksum-type", "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE").upper()
    upload = await call.bucket.create_multipart_upload(
        call.key,
        http_metadata=http_metadata(headers),
        custom_metadata=custom_metadata(headers),
        checksum_algorithm=algorithm,
        is_checksum_whole=kind == "FULL_OBJECT",
    )
    said = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind} if algorithm else {}
    tree: xml.Tree = {"Bucket": call.request.bucket, "Key": call.key, "UploadId": upload.upload_id}
    return xml_answer("InitiateMultipartUploadResult", tree, said)


async def upload_part(call: Call) -> Response:
    part = await _upload(call).write_part(_part_number(call), call.payload, call.payload.checksums)
    return Response(b"", 200, {"etag": f'"{part.etag}"', **_without_type(checksum_headers(part.checksums))})


async def upload_part_copy(call: Call) -> Response:
    number = _part_number(call)
    _, found = await open_source(call, call.request.headers.get("x-amz-copy-source-range"))
    part = await _upload(call).write_part(number, found.body, {})
    return xml_answer("CopyPartResult", {"LastModified": iso_date(part.uploaded), "ETag": f'"{part.etag}"'})


async def complete_upload(call: Call) -> Response:
    root = xml.read(await read_document(aiter(call.payload)), "CompleteMultipartUpload")
    parts = [_named_part(element) for element in root.findall("Part")]
    if not parts:
        raise S3Error("MalformedXML")
    whole = {name: value for name, value in call.payload.checksums.items() if value is not None and name in S3_CHECKSUMS}
    only_if = conditions(call.request.headers)
    made = stored(await _upload(call).complete(parts, only_if, whole), call.request)
    tree: xml.Tree = {
        "Location": f"/{call.request.bucket}/{call.key}",
        "Bucket": call.request.bucket,
        "Key": call.key,
        "ETag": made.http_etag,
        **checksum_elements(made.checksums),
    }
    return xml_answer("CompleteMultipartUploadResult", tree)


async def abort_upload(call: Call) -> Response:
    await _upload(call).abort()
    return Response(b"", 204)


async def list_parts(call: Call) -> Response:
    limit = call.request.number("max-parts", LINES_MAX, LINES_MAX)
    after = call.request.number("part-number-marker", 0, PART_NUMBER_MAX)
    upload = _upload(call)
    found = await upload.list_parts(after, limit + 1)
    parts, more = found[:limit], len(found) > limit
    lines: list[xml.Tree] = [
        {
            "PartNumber": str(part.part_number),
            "LastModified": iso_date(part.uploaded),
            "ETag": f'"{part.etag}"',
            "Size": str(part.size),
            **checksum_elements(part.checksums),
        }
        for part in parts
    ]
    tree: xml.Tree = {
        "Bucket": call.request.bucket,
        "Key": call.key,
        "UploadId": upload.upload_id,
        "Initiator": OWNER,
        "Owner": OWNER,
        "StorageClass": "STANDARD",
        "PartNumberMarker": str(after),
        "MaxParts": str(limit),
        "IsTruncated": str(more).lower(),
        "Part": lines,
    }
    if more and parts:
        tree["NextPartNumberMarker"] = str(parts[-1].part_number)
    return xml_answer("ListPartsResult", tree)


async def list_uploads(call: Call) -> Response:
    asked, limit = call.request.parameters, call.request.number("max-uploads", LINES_MAX, LINES_MAX)
    prefix, after_key, after_id = asked.get("prefix", ""), asked.get("key-marker", ""), asked.get("upload-id-marker", "")
    if asked.get("delimiter"):
        raise S3Error("NotImplemented", "Uploads are not listed by delimiter here.")
    found = await call.bucket.list_multipart_uploads(prefix, after_key, after_id, limit + 1)
    uploads, more = found[:limit], len(found) > limit
    lines: list[xml.Tree] = [
        {
            "Key": upload.key,
            "UploadId": upload.upload_id,
            "Initiator": OWNER,
            "Owner": OWNER,
            "StorageClass": "STANDARD",
            "Initiated": iso_date(upload.initiated),
        }
        for upload in uploads
    ]
    tree: xml.Tree = {
        "Bucket": call.request.bucket,
        "KeyMarker": after_key,
        "UploadIdMarker": after_id,
        "Prefix": prefix,
        "MaxUploads": str(limit),
        "IsTruncated": str(more).lower(),
        "Upload": lines,
    }
    if more and uploads:
        tree |= {"NextKeyMarker": uploads[-1].key, "NextUploadIdMarker": uploads[-1].upload_id}
    return xml_answer("ListMultipartUploadsResult", tree)


def _upload(call: Call) -> MultipartUpload:
    return call.bucket.resume_multipart_upload(call.key, call.request.parameters["uploadId"])


def _part_number(call: Call) -> int:
    text = call.request.parameters.get("partNumber", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= PART_NUMBER_MAX):
        problem = f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"
        raise S3Error("InvalidArgument", problem, ArgumentName="partNumber", ArgumentValue=text[:20])
    return int(text)


def _named_part(element: Element) -> Part:
    said = xml.texts(element, ["PartNumber", "ETag", *(f"Checksum{name.upper()}" for name in S3_CHECKSUMS)])
    number = said.pop("PartNumber", "")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or "ETag" not in said:
        raise S3Error("MalformedXML")
    etag = said.pop("ETag").strip('"')
    try:
        checksums = {
            name.removeprefix("Checksum").lower(): base64.b64decode(value, validate=True).hex() for name, value in said.items()
        }
    except binascii.Error as exc:
        raise S3Error("InvalidDigest") from exc
    return Part(part_number=int(number), etag=etag, checksums=checksums)


def _without_type(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "x-amz-checksum-type"}
