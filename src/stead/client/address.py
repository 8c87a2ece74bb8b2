"""Where a room is: the rules of `partysocket`, so that one configuration serves browsers and programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from stead.errors import Invalid

_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_split = re.compile(r"(?:([a-z]+)://)?([^/?#\s]+)/?", re.IGNORECASE).fullmatch
_is_local = re.compile(
    r"localhost|.*\.localhost|127\.0\.0\.1|192\.168\..*|10\..*|172\.(1[6-9]|2[0-9]|3[01])\..*|\[::1\]|\[::ffff:7f00:1\]"
).fullmatch
"""Hosts of this machine and of private networks: nobody has a certificate for them."""


@dataclass(frozen=True)
class RoomAddress:
    """A room of a party at a host, such as `example.com`, `localhost:8700` or `wss://example.com`. Raises `Invalid`.

    Without a scheme it is `ws` for this machine and private networks, and `wss` for all others. `path` is what follows the room.
    """

    host: str
    room: str
    party: str = "main"
    path: str = ""
    prefix: str = "parties"

    def __post_init__(self) -> None:
        match = _split(self.host)
        if match is None or (match[1] or "ws").lower() not in _SCHEMES:
            raise Invalid(f"{self.host!r} is no host; give a name and perhaps a port, as in localhost:8700 or wss://example.com")
        for what, name in (("room", self.room), ("party", self.party)):
            if not name:
                raise Invalid(f"a {what} has a name; this one is empty")
        if self.path.startswith("/"):
            raise Invalid(f"path {self.path!r} begins with a slash; it follows the room's own")

    def url(self, query: Mapping[str, str | None]) -> str:
        """The address with a query; None leaves a parameter out."""
        match = _split(self.host)
        assert match is not None
        scheme, host = match[1], match[2]
        name = re.sub(r":[0-9]*\Z", "", host).lower()
        secure = "ws" if _is_local(name) else "wss"
        parts = [self.prefix.strip("/"), _segment(self.party), _segment(self.room)]
        path = "/".join([*parts, quote(self.path)] if self.path else parts)
        parameters = urlencode({key: value for key, value in query.items() if value is not None})
        return f"{_SCHEMES[scheme.lower()] if scheme else secure}://{host}/{path}?{parameters}"


def _segment(name: str) -> str:
    return quote(name, safe="")
