"""The S3 endpoint inside an application: what boto3 would never send, and what crosses between the endpoint and the bindings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from stead.bindings import Bucket, BucketObject, HttpMetadata
from stead.ids import Chance
from stead.testing import TestApp, check, run

MANIFEST = 'application "a" {\n  bucket "files" {}\n  bucket "open" { visibility = "public" }\n}\n'
HOST = "http://s3.localhost"


class PathSigner(SigV4Auth):  # type: ignore[misc] # has no types
    """Signs a path as it is, as S3 has it."""

    def _normalize_url_path(self, path: str) -> str:
        return path


@asynccontextmanager
async def with_endpoint(place: Path) -> AsyncIterator[tuple[TestApp, Any]]:
    """An application with buckets, and a function that sends it a signed request."""
    (place / "stead.manifest").write_text(MANIFEST)
    (place / "app.py").write_text("")
    async with TestApp(place) as app:
        credential = await app.env.S3_CREDENTIALS.create()
        keys = Credentials(credential.access_key_id, credential.secret_access_key)

        async def send(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> httpx.Response:
            request = AWSRequest(
                method, HOST + path, data=body, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD", **(headers or {})}
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("botocore.auth.get_current_datetime", lambda: app.env.now().replace(tzinfo=None))
                PathSigner(keys, "s3", "auto").add_auth(request)
            return await app.client.request(method, request.url, content=body, headers=dict(request.headers.items()))

        yield app, send


def test_both_sides_see_one_object(tmp_path: Path) -> None:
    """What the application puts S3 gets, with its metadata in words that fit headers; what S3 puts the application gets."""

    async def scenario() -> None:
        async with with_endpoint(tmp_path) as (app, send):
            files: Bucket = app.env.FILES
            custom = {"by": "jörg", "odd name": "x", "line": "a\r\nset-cookie: b"}
            await files.put("a b", "text", http_metadata=HttpMetadata(content_type="text/plain"), custom_metadata=custom)
            found = await send("GET", "/files/a%20b")
            assert (found.text, found.headers["content-type"]) == ("text", "text/plain")
            assert found.headers["x-amz-meta-by"] == "=?UTF-8?B?asO2cmc=?=" and found.headers["x-amz-missing-meta"] == "1"
            assert "set-cookie" not in found.headers
            odd = await send("GET", "/files/a%20b?response-content-type=a%0D%0Aset-cookie%3Ab")
            assert odd.status_code == 400 and "set-cookie" not in odd.headers
            await send("PUT", "/files/back", b"again", {"x-amz-meta-by": "ann", "content-type": "image/png"})
            made = await files.head("back")
            assert isinstance(made, BucketObject) and made.custom_metadata == {"by": "ann"}
            assert made.http_metadata.content_type == "image/png"

    run(scenario())


@pytest.mark.parametrize("parameter", ["tagging", "acl", "uploads", "location", "versioning", "delete", "list-type=2"])
def test_a_parameter_of_another_operation_changes_nothing(tmp_path: Path, parameter: str) -> None:
    """Neither a PUT nor a DELETE of what belongs to an object is one of the object."""

    async def scenario() -> None:
        async with with_endpoint(tmp_path) as (app, send):
            await app.env.FILES.put("k", "kept")
            for method in ("PUT", "DELETE"):
                answer = await send(method, f"/files/k?{parameter}", b"other")
                assert answer.status_code == 501 and "<Code>NotImplemented</Code>" in answer.text, answer.text
            assert (await send("GET", "/files/k")).text == "kept"

    run(scenario())


def test_objects_have_no_tags(tmp_path: Path) -> None:
    """Who asks for an object's gets none; of no object there are not even none."""

    async def scenario() -> None:
        async with with_endpoint(tmp_path) as (app, send):
            await app.env.FILES.put("k", "text")
            assert "<TagSet />" in (await send("GET", "/files/k?tagging")).text
            assert "<Code>NoSuchKey</Code>" in (await send("GET", "/files/none?tagging")).text

    run(scenario())


METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]
LONG = "/files/" + "x" * 1030
PATHS = ["/", "/files", "/files/", "/files/k", "/files//", "/files/..", "/files/%01", "/open/k", "/none/k", LONG, "//k"]
PARAMETERS = [
    *("", "uploads", "uploadId=x", "uploadId=x&partNumber=1", "partNumber=0&uploadId=x", "delete", "list-type=2", "location"),
    *("tagging", "list-type=2&max-keys=0", "delimiter=%2F", "delimiter=%F4%8F%BF%BF", "marker=%01", "start-after=%01&list-type=2"),
    *("max-keys=-1", "encoding-type=url", "acl", "versionId=1", "X-Amz-Signature=x", "versioning", "&&==", "upload-id-marker=%00"),
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%01%2Fa%2Fb%2Fs3%2Faws4_request",
    *("continuation-token=%FF&list-type=2", "key-marker=%00", "prefix=%ED%A0%80", "marker=%00", "prefix=%00&list-type=2"),
]
HEADERS: list[dict[str, str]] = [
    {},
    *({"range": text} for text in ("bytes=5-1", "bytes=-0", "bytes=0-", "bytes=x", "lines=1-2", "bytes=20-30")),
    *({name: text} for name in ("if-match", "if-none-match") for text in ("", "*", '"x", "y"')),
    *({"if-modified-since": text} for text in ("never", "Thu, 01 Jan 1970 00:00:00 GMT")),
    *({"x-amz-copy-source": text} for text in ("files/k", "%FF", "none/none", "files/%00")),
    {"x-amz-copy-source": "files/k", "x-amz-copy-source-range": "bytes=9-1"},
    {"x-amz-copy-source": "files/k", "x-amz-copy-source-if-match": "x", "x-amz-metadata-directive": "REPLACE"},
    *({name: "="} for name in ("content-md5", "x-amz-checksum-crc32", "x-amz-checksum-sha256", "x-amz-checksum-odd")),
    *({"x-amz-decoded-content-length": text} for text in ("x", "5", "99999999999999999999")),
    {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32"},
    {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"},
    {"x-amz-checksum-algorithm": "odd"},
    {"x-amz-checksum-mode": "ENABLED"},
]
PART = b"<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
BODIES = [
    *(b"", b"text", b"<", b"<Delete><Object><Key>k</Key></Object></Delete>", b"<Delete><Object/></Delete>", b"\0" * 100),
    *(b"4\r\ntext\r\n0\r\n\r\n", b"fffffffff\r\n", b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
    *(b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>" for parts in (b"", PART, PART * 2, b"<Part/>")),
]


def test_nothing_that_is_sent_is_our_error(tmp_path: Path) -> None:
    """Over many requests put together by chance: no 500, every error is XML that can be read, and HEAD has no body."""

    async def scenario(seed: int) -> None:
        chance = Chance(seed)

        def one(of: Any) -> Any:
            return of[chance.below(len(of))]

        async with with_endpoint(tmp_path) as (app, send):
            await app.env.FILES.put("k", "0123456789")
            await app.env.OPEN.put("k", "0123456789")
            for _ in range(40):
                method, parameters = one(METHODS), one(PARAMETERS)
                path = one(PATHS) + (f"?{parameters}" if parameters else "")
                asked = (method, path, one(BODIES), one(HEADERS))
                if chance.below(3):
                    answer = await send(*asked)
                else:
                    answer = await app.client.request(method, HOST + path, content=asked[2], headers=asked[3])
                assert answer.status_code < 500 or answer.status_code == 501, (asked, answer.text)
                if method == "HEAD":
                    assert answer.content == b""
                elif answer.status_code >= 400:
                    root = ElementTree.fromstring(answer.content)
                    assert root.tag == "Error" and root.findtext("Code") and root.findtext("RequestId"), answer.text

    check(scenario, seeds=60)
