"""A request that was let in, as the operations get it, and their answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stead.bindings import Bucket
from stead.gateway.s3 import xml
from stead.gateway.s3.payload import Payload
from stead.gateway.s3.request import S3Request


@dataclass(frozen=True)
class Call:
    """`bucket` is the one that the request names; `open_bucket` gives another that the caller may read, or raises."""

    request: S3Request
    bucket: Bucket
    payload: Payload
    open_bucket: Callable[[str], Bucket]

    @property
    def key(self) -> str:
        return self.request.key


def xml_answer(name: str, tree: xml.Tree, headers: Mapping[str, str] | None = None) -> Response:
    return Response(xml.write(name, tree), 200, dict(headers or {}), "application/xml")


class BodyResponse(Response):
    """An answer whose body streams; its length is in the headers."""

    def __init__(self, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
        self.status_code = status
        self.background = None
        self._body = body
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
