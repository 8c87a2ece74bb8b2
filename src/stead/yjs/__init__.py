"""Yjs documents as actors: `YRoom` is one document that many clients edit at once, with who is where in it.

Needs the extra `stead[yjs]` (pycrdt). The clients of `y-websocket`, `y-partykit` and `y-partyserver` work with it unchanged.
"""

from stead.yjs.protocol import Malformed
from stead.yjs.room import YRoom

__all__ = ["Malformed", "YRoom"]
