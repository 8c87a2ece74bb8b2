"""HTTP values: Starlette's own, under the names that users import from `stead`."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

ResponseLike = Response | dict[str, Any] | list[Any] | str | bytes | None
"""What a handler may return: a response, or a value that becomes one (JSON, text, bytes, or 204 for None)."""

__all__ = [
    "HTMLResponse",
    "HTTPException",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Request",
    "Response",
    "ResponseLike",
    "StreamingResponse",
]
