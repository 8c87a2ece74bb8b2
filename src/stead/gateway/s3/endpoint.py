"""The endpoint: what S3's clients speak to, at a host of its own.

A request is admitted (host, sizes), read (bucket and key), let in (signature, credential, or a public bucket), and handed to its
operation. Everything it needs of the application are the buckets' own clients, so an object is the same from both sides.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from stead.bindings import Bucket
from stead.bindings.bucket import Credential
from stead.clock import Clock
from stead.errors import SteadError
from stead.gateway.admission import Limits, admit
from stead.gateway.s3 import listing, objects, uploads, xml
from stead.gateway.s3.call import Call
from stead.gateway.s3.errors import S3Error, of_ours
from stead.gateway.s3.metadata import iso_date
from stead.gateway.s3.payload import BODY_BYTES_MAX, Payload
from stead.gateway.s3.request import S3Request, read_request
from stead.gateway.s3.signing import UNSIGNED, Signer, check_signature, read_signature
from stead.ids import Chance

FRAMING_BYTES_MAX = BODY_BYTES_MAX // 1000  # of chunks and their signatures around a body
_LIMITS = Limits(body_bytes_max=BODY_BYTES_MAX + FRAMING_BYTES_MAX)
_READS = {"GET", "HEAD"}
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)  # of buckets: they are declared, so nobody knows when
_log = logging.getLogger("stead.gateway")

Operation = Callable[[Call], Awaitable[Response]]

# By the method and by the parameter that makes it another operation ("" for none): those of a bucket, then those of an object.
_OF_BUCKET: dict[tuple[str, str], Operation] = {
    ("GET", ""): listing.list_objects_v1,
    ("GET", "list-type"): listing.list_objects_v2,
    ("GET", "location"): listing.get_location,
    ("GET", "versioning"): listing.get_versioning,
    ("GET", "uploads"): uploads.list_uploads,
    ("HEAD", ""): listing.head_bucket,
    ("POST", "delete"): objects.delete_objects,
}
_OF_OBJECT: dict[tuple[str, str], Operation] = {
    ("GET", ""): objects.get_object,
    ("GET", "tagging"): objects.get_tags,
    ("GET", "uploadId"): uploads.list_parts,
    ("HEAD", ""): objects.head_object,
    ("PUT", ""): objects.put_object,
    ("PUT", "copy"): objects.copy_object,
    ("PUT", "uploadId"): uploads.upload_part,
    ("PUT", "uploadId copy"): uploads.upload_part_copy,
    ("POST", "uploads"): uploads.create_upload,
    ("POST", "uploadId"): uploads.complete_upload,
    ("DELETE", ""): objects.delete_object,
    ("DELETE", "uploadId"): uploads.abort_upload,
}
_PUBLIC: set[Operation] = {objects.get_object, objects.head_object}  # of buckets with visibility = "public", to everybody
_PLAIN = {  # parameters that go with an operation; any other one asks for something that is not here
    "prefix", "delimiter", "marker", "max-keys", "encoding-type", "continuation-token", "start-after", "fetch-owner", "partNumber",
    "key-marker", "upload-id-marker", "max-uploads", "max-parts", "part-number-marker", "x-id",
}  # fmt: skip


class Keyring(Protocol):
    """The credentials, as far as the endpoint uses them."""

    def find(self, access_key_id: str, /) -> Awaitable[Credential | None]: ...


@dataclass(frozen=True)
class Caller:
    """Who asks: nobody in particular, or who has a credential."""

    credential: Credential | None = None
    signer: Signer | None = None
    payload: str = UNSIGNED

    def check_may(self, method: str, bucket: str) -> None:
        if self.credential is None or not self.credential.allows(bucket) or (self.credential.read_only and method not in _READS):
            raise S3Error("AccessDenied")


class S3Endpoint:
    """An ASGI application at `hosts`, and for each bucket below them. `public` are the buckets that anybody may read."""

    def __init__(
        self,
        hosts: Sequence[str],
        buckets: Mapping[str, Bucket],
        public: Sequence[str],
        keyring: Keyring,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._hosts = [host.encode() for host in hosts]
        self._buckets = buckets
        self._public = frozenset(public)
        self._keyring = keyring
        self._clock = clock
        self._request_prefix = chance.hex(5)
        self._request_number = 0

    def is_at(self, scope: Scope) -> bool:
        """Whether a request is for the endpoint, by its host."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").partition(b":")[0].lower().rstrip(b".")
        return any(host == own or host.endswith(b"." + own) for own in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._request_number += 1
        request_id = f"{self._request_prefix}-{self._request_number}"
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"].append((b"x-amz-request-id", request_id.encode()))
            await send(message)

        try:
            response = await self._answer(scope, receive)
            await response(scope, receive, sending)
        except ClientDisconnect:
            raise
        except Exception as exc:
            if began:
                raise
            await self._refusal(exc, scope, request_id)(scope, receive, sending)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        host, fetch = admit(scope, receive, _LIMITS)
        request = read_request(fetch, host, self._hosts)
        caller = await self._caller(request)
        if not request.bucket:
            return self._all_buckets(request, caller)
        operation = _operation(request)
        if not (operation in _PUBLIC and request.bucket in self._public and caller.credential is None):
            caller.check_may(request.method, request.bucket)

        def open_bucket(name: str) -> Bucket:
            caller.check_may("GET", name)
            return self._bucket(name)

        payload = Payload(request.body, request.headers, caller.payload, caller.signer)
        call = Call(request, self._bucket(request.bucket), payload, open_bucket)
        return await operation(call)

    async def _caller(self, request: S3Request) -> Caller:
        signature = read_signature(request)
        if signature is None:
            return Caller()
        credential = await self._keyring.find(signature.access_key_id)
        if credential is None or credential.secret_access_key is None:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=signature.access_key_id[:128])
        signer = check_signature(signature, credential.secret_access_key, request, self._now())
        return Caller(credential, signer, signature.payload)

    def _all_buckets(self, request: S3Request, caller: Caller) -> Response:
        if caller.credential is None:
            raise S3Error("AccessDenied")
        if request.method != "GET":
            raise S3Error("MethodNotAllowed")
        return listing.list_buckets([name for name in self._buckets if caller.credential.allows(name)], iso_date(_CREATED))

    def _bucket(self, name: str) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            raise S3Error("NoSuchBucket", BucketName=name)
        return bucket

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def _refusal(self, error: Exception, scope: Scope, request_id: str) -> Response:
        found = _as_s3(error)
        if found.code == "InternalError":
            _log.error("request %s failed: %s %s", request_id, scope["method"], scope["path"], exc_info=error)
        tree: xml.Tree = {"Code": found.code, "Message": found.message, **found.fields}
        tree |= {"Resource": scope["path"], "RequestId": request_id}
        headers = {"connection": "close"} if scope["http_version"].startswith("1") and scope["method"] in {"PUT", "POST"} else {}
        body = b"" if found.status == 304 or scope["method"] == "HEAD" else xml.write("Error", tree, namespace=None)
        return Response(body, found.status, headers, "application/xml")


def _operation(request: S3Request) -> Operation:
    asked = request.parameters
    table = _OF_OBJECT if request.key else _OF_BUCKET
    variant = next((name for method, name in table if name and name in asked and method == request.method), "")
    known = {*_PLAIN, variant}
    unknown = [name for name in asked if name not in known and not name.lower().startswith(("x-amz-", "response-"))]
    if unknown:
        problem = f"{request.method:.10} with the parameter {unknown[0]!r:.40} asks for what is not supported here."
        raise S3Error("NotImplemented", problem)
    if request.method == "PUT" and "x-amz-copy-source" in request.headers:
        variant = f"{variant} copy".strip()
    operation = table.get((request.method, variant))
    if operation is not None:
        return operation
    if request.method in {"PUT", "DELETE"} and not request.key:
        raise S3Error("NotImplemented", "Buckets are made and removed in the application's manifest.")
    raise S3Error("MethodNotAllowed")


def _as_s3(error: Exception) -> S3Error:
    if isinstance(error, S3Error):
        return error
    if isinstance(error, HTTPException):  # of admission
        return S3Error("EntityTooLarge" if error.status_code == 413 else "InvalidRequest", error.detail)
    ours = of_ours(error) if isinstance(error, SteadError) else None
    return ours or S3Error("InternalError")
