"""Yjs documents as actors: `YRoom` is one document that many clients edit at once, with who is where in it.

Needs the extra `stead[yjs]` (pycrdt). The clients of `y-websocket`, `y-partykit` and `y-partyserver` work with it unchanged.
"""

from stead.yjs.protocol import Malformed

try:
    from stead.yjs.room import YRoom
except ModuleNotFoundError as exc:
    if exc.name != "pycrdt":
        raise
    raise ModuleNotFoundError("stead.yjs needs pycrdt: pip install 'stead[yjs]'", name=exc.name) from exc

__all__ = ["Malformed", "YRoom"]
