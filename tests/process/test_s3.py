"""The S3 endpoint of a real server, as boto3 uses it, unchanged but for the address."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import io
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.process.conftest import LIMIT_S, Serve, Server

pytestmark = pytest.mark.process

MIB = 1024 * 1024


@contextmanager
def resolving_names() -> Iterator[None]:
    """What resolvers of desktops do, and those of small containers do not: *.localhost is this machine."""
    resolve = socket.getaddrinfo

    def resolving(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if isinstance(host, str) and host.endswith(".localhost") else host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolving)
        yield


@pytest.fixture(scope="module")
def names() -> Iterator[None]:
    with resolving_names():
        yield


@pytest.fixture(scope="module")
def server(serve: Serve, tmp_path_factory: pytest.TempPathFactory, names: None) -> Iterator[Server]:
    with serve(Path(__file__).with_name("buckets"), tmp_path_factory.mktemp("s3") / "data") as running:
        yield running


def create_credential(server: Server, **arguments: Any) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.address.url}/_stead/admin/unit",
        params={"name": "s3_credentials", "operation": "create"},
        json=arguments,
        headers={"authorization": f"Bearer {server.address.token}"},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def client_of(server: Server, credential: dict[str, Any], region: str = "auto", **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://s3.localhost:{server.port}",
        region_name=region,
        aws_access_key_id=credential["access_key_id"],
        aws_secret_access_key=credential["secret_access_key"],
        config=Config(retries={"max_attempts": 1}, **config),
    )


@pytest.fixture(scope="module")
def credential(server: Server) -> dict[str, Any]:
    return create_credential(server)


@pytest.fixture(scope="module")
def s3(server: Server, credential: dict[str, Any]) -> Any:
    return client_of(server, credential)


def code_of(call: Callable[[], Any]) -> tuple[str, int]:
    """The error that a call raises, by S3's code and the status."""
    with pytest.raises(ClientError) as raised:
        call()
    response: Any = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def keys_of(page: dict[str, Any]) -> list[str]:
    return [line["Key"] for line in page.get("Contents", [])]


def read(s3: Any, key: str, bucket: str = "files", **named: Any) -> bytes:
    data: bytes = s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read()
    return data


def test_objects_come_back(s3: Any) -> None:
    """With metadata, type, length, ETag, time and checksum, from GET and HEAD; a delete is one."""
    made = s3.put_object(
        Bucket="files", Key="a/ö b+c%.txt", Body=b"hello", ContentType="text/plain", Metadata={"by": "ann"}, CacheControl="no-store"
    )
    assert made["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"' and made["ChecksumCRC32"]
    for found in (s3.get_object(Bucket="files", Key="a/ö b+c%.txt"), s3.head_object(Bucket="files", Key="a/ö b+c%.txt")):
        assert found["ContentLength"] == 5 and found["ContentType"] == "text/plain" and found["Metadata"] == {"by": "ann"}
        assert found["ETag"] == made["ETag"] and found["CacheControl"] == "no-store"
        assert abs(found["LastModified"].timestamp() - time.time()) < LIMIT_S  # noqa: TID251 - the server's clock is the machine's
    assert read(s3, "a/ö b+c%.txt") == b"hello"
    s3.put_object(Bucket="files", Key="empty", Body=b"")
    assert read(s3, "empty") == b""
    s3.delete_object(Bucket="files", Key="empty")
    s3.delete_object(Bucket="files", Key="empty")
    assert code_of(lambda: read(s3, "empty")) == ("NoSuchKey", 404)
    assert code_of(lambda: s3.head_object(Bucket="files", Key="empty")) == ("404", 404)
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"files", "copies", "open"}
    s3.head_bucket(Bucket="files")
    assert s3.get_bucket_location(Bucket="files")["LocationConstraint"] is None


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(s3: Any, algorithm: str) -> None:
    """Those that clients choose are verified, kept and given back; streams send theirs behind the body."""
    data = bytes(range(256)) * 1000
    made = s3.put_object(Bucket="files", Key=algorithm, Body=io.BytesIO(data), ChecksumAlgorithm=algorithm)
    found = s3.get_object(Bucket="files", Key=algorithm, ChecksumMode="ENABLED")
    assert found["Body"].read() == data and found[f"Checksum{algorithm}"] == made[f"Checksum{algorithm}"]
    wrong = {f"Checksum{algorithm}": base64.b64encode(b"\0" * (8 if algorithm == "CRC64NVME" else 4)).decode()}
    assert code_of(lambda: s3.put_object(Bucket="files", Key="wrong", Body=b"x", **wrong))[0] == "BadDigest"
    assert code_of(lambda: read(s3, "wrong"))[0] == "NoSuchKey"


def test_a_thousand_keys_in_pages(s3: Any) -> None:
    """Listed in order, by page, prefix and delimiter, in both versions; deleted a thousand at once."""
    keys = [f"many/{number % 10}/{number:04}" for number in range(1000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: s3.put_object(Bucket="copies", Key=key, Body=key), keys))
    for name in ("list_objects_v2", "list_objects"):
        pages = list(s3.get_paginator(name).paginate(Bucket="copies", Prefix="many/", PaginationConfig={"PageSize": 70}))
        assert [key for page in pages for key in keys_of(page)] == sorted(keys)
        assert len(pages) == 15
        pages = list(
            s3.get_paginator(name).paginate(Bucket="copies", Prefix="many/", Delimiter="/", PaginationConfig={"PageSize": 3})
        )
        assert [line["Prefix"] for page in pages for line in page.get("CommonPrefixes", [])] == [f"many/{n}/" for n in range(10)]
        assert not any(keys_of(page) for page in pages)
    assert keys_of(s3.list_objects_v2(Bucket="copies", StartAfter="many/9/0989")) == ["many/9/0999"]
    assert s3.list_objects_v2(Bucket="copies", MaxKeys=0)["KeyCount"] == 0
    gone = s3.delete_objects(Bucket="copies", Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(gone["Deleted"]) == 1000 and "Errors" not in gone
    assert s3.list_objects_v2(Bucket="copies")["KeyCount"] == 0


def test_ranges_and_conditions(s3: Any) -> None:
    """206, 304, 412 and 416 where HTTP says so; writes only where nobody was faster."""
    etag = s3.put_object(Bucket="files", Key="k", Body=b"0123456789")["ETag"]
    part = s3.get_object(Bucket="files", Key="k", Range="bytes=2-4")
    assert part["Body"].read() == b"234" and part["ContentRange"] == "bytes 2-4/10"
    assert read(s3, "k", Range="bytes=-3") == b"789" and read(s3, "k", Range="bytes=8-100") == b"89"
    assert code_of(lambda: read(s3, "k", Range="bytes=10-")) == ("InvalidRange", 416)
    assert code_of(lambda: read(s3, "k", IfNoneMatch=etag)) == ("304", 304)
    assert code_of(lambda: read(s3, "k", IfMatch='"no"')) == ("PreconditionFailed", 412)
    assert read(s3, "k", IfMatch=etag) == b"0123456789"
    modified = s3.head_object(Bucket="files", Key="k")["LastModified"]
    assert code_of(lambda: read(s3, "k", IfModifiedSince=modified)) == ("304", 304)
    assert read(s3, "k", IfUnmodifiedSince=modified) == b"0123456789"
    earlier = modified - datetime.timedelta(hours=1)
    assert code_of(lambda: read(s3, "k", IfUnmodifiedSince=earlier)) == ("PreconditionFailed", 412)

    def put(**conditions: str) -> Callable[[], Any]:
        return lambda: s3.put_object(Bucket="files", Key="k", Body=b"new", **conditions)

    assert code_of(put(IfNoneMatch="*")) == ("PreconditionFailed", 412)
    assert code_of(put(IfMatch='"no"')) == ("PreconditionFailed", 412)
    assert put(IfMatch=etag)()["ETag"] != etag
    assert read(s3, "k") == b"new"


def test_uploads_in_parts(s3: Any) -> None:
    """A hundred MiB through the transfer manager; parts listed, copied, replaced, aborted."""
    data = b"".join(hashlib.sha256(bytes([number])).digest() * 32768 for number in range(100))
    assert len(data) == 100 * MIB
    s3.upload_fileobj(io.BytesIO(data), "files", "large", Config=TransferConfig(multipart_chunksize=8 * MIB))
    assert s3.head_object(Bucket="files", Key="large")["ETag"].endswith('-13"')
    target = io.BytesIO()
    s3.download_fileobj("files", "large", target)
    assert target.getvalue() == data
    upload = s3.create_multipart_upload(Bucket="copies", Key="joined", Metadata={"by": "ann"})["UploadId"]
    name = {"Bucket": "copies", "Key": "joined", "UploadId": upload}
    s3.upload_part(**name, PartNumber=2, Body=b"replaced")
    two = s3.upload_part(**name, PartNumber=2, Body=b"end")["ETag"]
    source = {"Bucket": "files", "Key": "large"}
    one = s3.upload_part_copy(**name, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=0-{6 * MIB - 1}")["CopyPartResult"]
    assert [part["PartNumber"] for part in s3.list_parts(**name)["Parts"]] == [1, 2]
    assert s3.list_parts(**name, MaxParts=1)["NextPartNumberMarker"] == 1
    assert [found["UploadId"] for found in s3.list_multipart_uploads(Bucket="copies")["Uploads"]] == [upload]

    def complete(*parts: tuple[int, str]) -> Any:
        return s3.complete_multipart_upload(**name, MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in parts]})

    assert code_of(lambda: complete((2, two), (1, one["ETag"]))) == ("InvalidPartOrder", 400)
    assert code_of(lambda: complete((1, two))) == ("InvalidPart", 400)
    assert code_of(lambda: complete((1, one["ETag"]), (3, two))) == ("InvalidPart", 400)
    complete((1, one["ETag"]), (2, two))
    assert read(s3, "joined", "copies") == data[: 6 * MIB] + b"end"
    assert s3.head_object(Bucket="copies", Key="joined")["Metadata"] == {"by": "ann"}
    small = s3.create_multipart_upload(Bucket="copies", Key="small")["UploadId"]
    name = {"Bucket": "copies", "Key": "small", "UploadId": small}
    parts = [(number, s3.upload_part(**name, PartNumber=number, Body=b"x")["ETag"]) for number in (1, 2)]
    assert code_of(lambda: complete(*parts)) == ("EntityTooSmall", 400)
    s3.abort_multipart_upload(**name)
    assert code_of(lambda: s3.list_parts(**name)) == ("NoSuchUpload", 404)
    for number in (0, 10_001):
        assert code_of(lambda number=number: s3.upload_part(**name, PartNumber=number, Body=b"x")) == ("InvalidArgument", 400)  # type: ignore[misc]


def test_copies(s3: Any) -> None:
    """With the source's metadata or with new; from bucket to bucket; on conditions."""
    made = s3.put_object(Bucket="files", Key="source ü", Body=b"text", Metadata={"by": "ann"}, ContentType="text/plain")
    source = {"Bucket": "files", "Key": "source ü"}
    s3.copy_object(Bucket="copies", Key="target", CopySource=source)
    found = s3.get_object(Bucket="copies", Key="target")
    assert found["Body"].read() == b"text" and found["Metadata"] == {"by": "ann"} and found["ContentType"] == "text/plain"
    s3.copy_object(Bucket="copies", Key="target", CopySource=source, MetadataDirective="REPLACE", Metadata={"by": "bob"})
    assert s3.head_object(Bucket="copies", Key="target")["Metadata"] == {"by": "bob"}
    assert code_of(lambda: s3.copy_object(Bucket="files", Key="source ü", CopySource=source)) == ("InvalidRequest", 400)
    none = {"Bucket": "files", "Key": "none"}
    assert code_of(lambda: s3.copy_object(Bucket="copies", Key="t", CopySource=none)) == ("NoSuchKey", 404)
    wrong = {"CopySource": source, "CopySourceIfNoneMatch": made["ETag"]}
    assert code_of(lambda: s3.copy_object(Bucket="copies", Key="t", **wrong)) == ("PreconditionFailed", 412)


def test_presigned_urls(s3: Any, server: Server, credential: dict[str, Any]) -> None:
    """Whoever has one may do that one thing until it expires; a changed one is worth nothing."""
    for client in (s3, client_of(server, credential, signature_version="s3v4", s3={"addressing_style": "virtual"})):
        put = client.generate_presigned_url("put_object", {"Bucket": "files", "Key": "signed/ü x"}, ExpiresIn=60)
        assert httpx.put(put, content=b"text").status_code == 200
        get = client.generate_presigned_url("get_object", {"Bucket": "files", "Key": "signed/ü x"}, ExpiresIn=60)
        assert httpx.get(get).content == b"text"
        refused = httpx.get(get.replace("signed", "sighed"))
        assert refused.status_code == 403 and "<Code>SignatureDoesNotMatch</Code>" in refused.text


def test_a_client_of_us_east_1(server: Server, credential: dict[str, Any]) -> None:
    """It signs requests as any does, but presigns in a version that is not supported; the answer says what to set."""
    key = {"Bucket": "files", "Key": "eastern"}
    client = client_of(server, credential, region="us-east-1")
    client.put_object(**key, Body=b"text")
    refused = httpx.get(client.generate_presigned_url("get_object", key))
    assert refused.status_code == 400 and "<Code>InvalidRequest</Code>" in refused.text
    assert 'Config(signature_version="s3v4")' in refused.text
    assert code_of(lambda: read(client_of(server, credential, signature_version="s3"), "eastern")) == ("InvalidRequest", 400)
    told = client_of(server, credential, region="us-east-1", signature_version="s3v4")
    assert httpx.get(told.generate_presigned_url("get_object", key)).content == b"text"


def test_virtual_hosts(server: Server, credential: dict[str, Any]) -> None:
    """The bucket may be in the host's name."""
    client = client_of(server, credential, s3={"addressing_style": "virtual"})
    client.put_object(Bucket="files", Key="virtual/k", Body=b"text")
    assert read(client, "virtual/k") == b"text"
    assert keys_of(client.list_objects_v2(Bucket="files", Prefix="virtual/")) == ["virtual/k"]


@contextmanager
def signing_at(now: datetime.datetime | None) -> Iterator[None]:
    """Have botocore, in Python or native, sign as if it were another time."""

    def current(remove_tzinfo: bool = True) -> datetime.datetime | None:
        return now.replace(tzinfo=None) if now is not None and remove_tzinfo else now

    with pytest.MonkeyPatch.context() as patch:
        if now is not None:
            patch.setattr("botocore.auth.get_current_datetime", current)
            patch.setattr("botocore.crt.auth.get_current_datetime", current)
        yield


def send(
    server: Server,
    credential: dict[str, Any],
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    now: datetime.datetime | None = None,
    spoil: Callable[[AWSRequest], None] = lambda request: None,
) -> httpx.Response:
    """A request signed by botocore, at another time if one is given; `spoil` changes what was signed before it is sent."""
    url = f"http://s3.localhost:{server.port}{path}"
    request = AWSRequest(method, url, data=body, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD", **(headers or {})})
    with signing_at(now):
        SigV4Auth(Credentials(credential["access_key_id"], credential["secret_access_key"]), "s3", "auto").add_auth(request)
    spoil(request)
    return httpx.request(request.method, request.url, content=request.body, headers=dict(request.headers.items()), timeout=LIMIT_S)


def s3_code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.text.partition("<Code>")[2].partition("</Code>")[0]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/none/key", (404, "NoSuchBucket")),
        ("GET", "/none", (404, "NoSuchBucket")),
        ("GET", "/files/none", (404, "NoSuchKey")),
        ("PUT", "/files/" + "x" * 1025, (400, "KeyTooLongError")),
        ("PUT", "/files/a%00b", (400, "InvalidURI")),
        ("PUT", "/files/a%FFb", (400, "InvalidRequest")),
        ("GET", "/files?continuation-token=x", (200, "")),
        ("GET", "/files?list-type=2&continuation-token=x", (400, "InvalidArgument")),
        ("GET", "/files?list-type=2&max-keys=many", (400, "InvalidArgument")),
        ("GET", "/files?encoding-type=odd", (400, "InvalidArgument")),
        ("GET", "/files/k?retention", (501, "NotImplemented")),
        ("GET", "/files?policy", (501, "NotImplemented")),
        ("PUT", "/new-bucket", (501, "NotImplemented")),
        ("DELETE", "/files", (501, "NotImplemented")),
        ("POST", "/files/k", (405, "MethodNotAllowed")),
        ("PATCH", "/files/k", (405, "MethodNotAllowed")),
        ("PUT", "/files/k?partNumber=x&uploadId=y", (400, "InvalidArgument")),
        ("PUT", "/files/k?partNumber=1&uploadId=y", (404, "NoSuchUpload")),
        ("DELETE", "/files/k?uploadId=y", (404, "NoSuchUpload")),
        ("GET", "/_stead/ready", (404, "NoSuchBucket")),
    ],
)
def test_errors_have_the_right_codes(
    server: Server, credential: dict[str, Any], method: str, path: str, expected: tuple[int, str]
) -> None:
    """Bad input gets S3's own error, as XML with a request id."""
    answer = send(server, credential, method, path)
    assert s3_code(answer) == expected
    assert answer.headers["x-amz-request-id"] and (expected[0] < 400 or answer.headers["content-type"] == "application/xml")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"<Other/>",
        b"<Delete></Delete>",
        b'<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>',
        b"<a>" * 100_000,
    ],
)
def test_hostile_xml_is_refused(server: Server, credential: dict[str, Any], body: bytes) -> None:
    """What is not XML, not the right one, has entities, or has no bottom."""
    assert s3_code(send(server, credential, "POST", "/files?delete", body=body)) == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-md5": base64.b64encode(b"0" * 16).decode()}, "BadDigest"),
        ({"content-md5": "?"}, "InvalidDigest"),
        ({"x-amz-checksum-sha256": base64.b64encode(b"0" * 32).decode()}, "BadDigest"),
        ({"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        ({"x-amz-meta-large": "x" * 3000}, "MetadataTooLarge"),
        ({"x-amz-copy-source": "nowhere"}, "InvalidArgument"),
        ({"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "IncompleteBody"),
        ({"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "IncompleteBody"),
    ],
)
def test_bodies_that_are_not_what_was_said(server: Server, credential: dict[str, Any], headers: dict[str, str], code: str) -> None:
    """Are refused, and nothing is stored."""
    assert s3_code(send(server, credential, "PUT", "/files/refused", body=b"text", headers=headers))[1] == code
    assert s3_code(send(server, credential, "GET", "/files/refused")) == (404, "NoSuchKey")


def test_only_who_may(server: Server, credential: dict[str, Any]) -> None:
    """Wrong secrets, unknown keys, changed requests, other times, other buckets, writes of readers, and nobody at all."""
    path = "/files/guarded"
    assert send(server, credential, "PUT", path, body=b"text").status_code == 200
    wrong = {**credential, "secret_access_key": "wrong"}
    assert s3_code(send(server, wrong, "GET", path)) == (403, "SignatureDoesNotMatch")
    unknown = {**credential, "access_key_id": "STEADNOBODY"}
    assert s3_code(send(server, unknown, "GET", path)) == (403, "InvalidAccessKeyId")
    changes: list[Callable[[AWSRequest], None]] = [
        lambda request: setattr(request, "url", request.url + "2"),
        lambda request: setattr(request, "method", "DELETE"),
        lambda request: setattr(request, "url", request.url + "?versioning"),
        lambda request: request.headers.replace_header("X-Amz-Content-SHA256", "0" * 64),
    ]
    for change in changes:
        assert s3_code(send(server, credential, "GET", path, spoil=change)) == (403, "SignatureDoesNotMatch")
    added = send(server, credential, "GET", path, spoil=lambda request: request.headers.add_header("x-amz-copy-source", "files/k"))
    assert s3_code(added) == (403, "AccessDenied")
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - the server's clock is the machine's
    for minutes, expected in [(-16, 403), (-14, 200), (14, 200), (16, 403)]:
        answer = send(server, credential, "GET", path, now=now + datetime.timedelta(minutes=minutes))
        assert answer.status_code == expected
        assert expected == 200 or s3_code(answer)[1] == "RequestTimeTooSkewed"
    for authorization in ("AWS STEAD:xxx", "AWS4-HMAC-SHA256 nonsense", "Bearer x"):
        answer = httpx.get(f"http://s3.localhost:{server.port}{path}", headers={"authorization": authorization})
        assert answer.status_code == 400
    reader = create_credential(server, read_only=True, buckets=["files"])
    assert send(server, reader, "GET", path).text == "text"
    assert s3_code(send(server, reader, "PUT", path, body=b"x")) == (403, "AccessDenied")
    assert s3_code(send(server, reader, "GET", "/copies")) == (403, "AccessDenied")
    copying = send(
        server, create_credential(server, buckets=["copies"]), "PUT", "/copies/x", headers={"x-amz-copy-source": "files/guarded"}
    )
    assert s3_code(copying) == (403, "AccessDenied")
    assert "<Name>files</Name>" in (listed := send(server, reader, "GET", "/").text) and "copies" not in listed
    for nobody in (path, "/files", "/", "/none/x", "/open", "/open?versioning"):
        assert s3_code(httpx.get(f"http://s3.localhost:{server.port}{nobody}")) == (403, "AccessDenied")


def test_public_buckets_are_read_by_everybody(server: Server, s3: Any) -> None:
    """And written by those who may."""
    s3.put_object(Bucket="open", Key="page.html", Body=b"<p>", ContentType="text/html")
    for url in (f"http://s3.localhost:{server.port}/open/page.html", f"http://open.s3.localhost:{server.port}/page.html"):
        answer = httpx.get(url)
        assert (answer.text, answer.headers["content-type"]) == ("<p>", "text/html")
        assert httpx.head(url).headers["content-length"] == "3"
        assert s3_code(httpx.put(url, content=b"x")) == (403, "AccessDenied")
        assert httpx.get(url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_presigned_urls_expire(server: Server, credential: dict[str, Any], s3: Any) -> None:
    """At their second, and after a week at most."""
    s3.put_object(Bucket="files", Key="expiring", Body=b"x")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=100)  # noqa: TID251 - the server's clock is the machine's
    name = {"Bucket": "files", "Key": "expiring"}
    with signing_at(past):
        urls = [s3.generate_presigned_url("get_object", name, ExpiresIn=life_s) for life_s in (99, 200, 700_000)]
    assert s3_code(httpx.get(urls[0])) == (403, "AccessDenied")
    assert httpx.get(urls[1]).text == "x"
    assert s3_code(httpx.get(urls[2])) == (400, "AuthorizationQueryParametersError")


def test_streams_whose_signatures_are_in_the_body(server: Server, credential: dict[str, Any], s3: Any) -> None:
    """Chunks of a body without a known digest: with a checksum behind them, as boto3 sends to TLS, and each signed."""
    for key, kind in [("unsigned-trailer", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), ("signed", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]:
        for good in (True, False):
            answer = send_chunks(server, credential, f"/files/{key}-{good}", kind, good)
            assert answer.status_code == (200 if good else 400 if "UNSIGNED" in kind else 403), answer.text
            if good:
                assert read(s3, f"{key}-{good}") == b"a" * 70_000 + b"b" * 10
            else:
                assert code_of(lambda key=key: read(s3, f"{key}-False"))[0] == "NoSuchKey"  # type: ignore[misc]


def send_chunks(server: Server, credential: dict[str, Any], path: str, kind: str, is_good: bool) -> httpx.Response:
    """A body in two chunks, the last byte of which, or the checksum, is wrong unless it is good."""
    chunks = [b"a" * 70_000, b"b" * 10, b""]
    headers = {"x-amz-content-sha256": kind, "x-amz-decoded-content-length": "70010", "content-encoding": "aws-chunked"}
    is_signed = "UNSIGNED" not in kind
    if not is_signed:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    body = bytearray()

    def fill(request: AWSRequest) -> None:
        day, secret = request.headers["X-Amz-Date"][:8], credential["secret_access_key"]
        previous = request.headers["Authorization"].rpartition("Signature=")[2]
        for number, chunk in enumerate(chunks):
            signature = ""
            if is_signed:
                digests = [hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest()]
                scope = f"{day}/auto/s3/aws4_request"
                text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", request.headers["X-Amz-Date"], scope, previous, *digests])
                previous = hmac.new(signing_key(secret, scope), text.encode(), "sha256").hexdigest()
                signature = f";chunk-signature={previous}"
            sent = chunk[:-1] + b"?" if is_signed and not is_good and number == 1 else chunk
            body.extend(f"{len(chunk):x}{signature}\r\n".encode() + sent + (b"\r\n" if chunk or is_signed else b""))
        if not is_signed:
            crc = zlib.crc32(b"".join(chunks) + (b"" if is_good else b"?"))
            body.extend(b"x-amz-checksum-crc32:" + base64.b64encode(crc.to_bytes(4, "big")) + b"\r\n\r\n")
        request.data = bytes(body)
        request.headers["Content-Length"] = str(len(body))

    return send(server, credential, "PUT", path, headers=headers, spoil=fill)


def signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def test_events_arrive_once_for_each_operation(server: Server, s3: Any) -> None:
    """By their operations' names, for those that the observer's rule wants."""
    s3.put_object(Bucket="files", Key="watched/a", Body=b"12")
    s3.put_object(Bucket="files", Key="elsewhere", Body=b"x")
    s3.copy_object(Bucket="files", Key="watched/b", CopySource={"Bucket": "files", "Key": "elsewhere"})
    upload = s3.create_multipart_upload(Bucket="files", Key="watched/c")["UploadId"]
    name = {"Bucket": "files", "Key": "watched/c", "UploadId": upload}
    part = s3.upload_part(**name, PartNumber=1, Body=b"xyz")
    s3.complete_multipart_upload(**name, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    s3.delete_objects(Bucket="files", Delete={"Objects": [{"Key": "watched/a"}, {"Key": "watched/none"}]})
    wanted = ["CompleteMultipartUpload watched/c 3", "CopyObject watched/b 1", "DeleteObject watched/a 2", "PutObject watched/a 2"]
    until_s = time.monotonic() + LIMIT_S  # noqa: TID251 - a deadline for another process
    with server.client() as client:
        while (heard := client.get("/heard").json()) != wanted:
            assert time.monotonic() < until_s, heard  # noqa: TID251 - as above


def test_memory_stays_flat(server: Server, s3: Any) -> None:
    """What passes through is not kept: 256 MiB up and down cost the server less than 64 MiB."""
    chunk = b"x" * MIB

    peak_before = peak_kib(server)
    presigned = s3.generate_presigned_url("put_object", {"Bucket": "files", "Key": "flat"}, ExpiresIn=600)

    def pieces() -> Iterator[bytes]:
        for _ in range(256):
            yield chunk

    assert httpx.put(presigned, content=pieces(), headers={"content-length": str(256 * MIB)}, timeout=LIMIT_S).status_code == 200
    digest = hashlib.md5()
    for piece in s3.get_object(Bucket="files", Key="flat")["Body"].iter_chunks(MIB):
        digest.update(piece)
    assert digest.hexdigest() == s3.head_object(Bucket="files", Key="flat")["ETag"].strip('"')
    assert peak_kib(server) - peak_before < 64 * 1024


def peak_kib(server: Server) -> int:
    status = Path(f"/proc/{server.address.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
