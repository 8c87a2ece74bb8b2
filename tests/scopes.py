"""What a server says of a request, as ASGI has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def http_scope(
    path: str = "/", method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"localhost"),), **more: Any
) -> dict[str, Any]:
    """A request from this machine; `more` are further entries, or others in place of these."""
    plain = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    return {**plain, **more}
