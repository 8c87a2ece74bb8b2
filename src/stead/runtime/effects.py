"""What a turn does to sockets: messages, closings, and the values kept with a connection.

They are part of the turn like its writes. While it runs they collect here, and whoever asks within the turn sees them; a seal hands
them to the gate behind its commit. If the turn is rolled back they are dropped. What was sealed is seen by the turns that follow,
which depend on the same commit; if that is lost, each socket has its last durable values again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from stead.errors import Invalid
from stead.runtime.gate import Held

EFFECTS_MAX = 100_000  # of one turn: ten messages to each of many sockets
EFFECTS_BYTES_MAX = 64 * 1024 * 1024  # of messages that one turn may send: they wait in memory for its commit


class Kept(NamedTuple):
    """What turns change about a connection. `state` and `attachment` are encoded."""

    state: bytes | None = None
    attachment: bytes | None = None
    is_closing: bool = False


class Keeper(Protocol):
    """A socket: its values as the last turn left them, and as they are known to be durable."""

    sealed: Kept

    @property
    def durable(self) -> Kept: ...
    def settle(self, name: str, value: Any) -> None:
        """A value is durable."""
        ...


class Effects:
    """Those of one turn since its last seal. It waits at the gate as one."""

    __slots__ = ("_bytes", "_changes", "_held", "_marks")

    def __init__(self, depth: int) -> None:
        self._held: list[Held] = []
        self._bytes = 0
        self._changes: dict[tuple[Keeper, str], Any] = {}
        self._marks: list[tuple[int, dict[tuple[Keeper, str], Any]]] = [(0, {})] * depth  # one for each open transaction()

    @property
    def held(self) -> Sequence[Held]:
        """What leaves with the turn's next commit."""
        return self._held

    @property
    def has_changes(self) -> bool:
        return bool(self._changes)

    def add(self, held: Held, size_bytes: int = 0) -> None:
        """Let `held` leave with the turn's next commit. Raises `Invalid` if the turn has done too much already."""
        self._bytes += size_bytes
        if len(self._held) >= EFFECTS_MAX or self._bytes > EFFECTS_BYTES_MAX:
            raise Invalid(
                f"a turn may send {EFFECTS_MAX:,} messages with {EFFECTS_BYTES_MAX:,} bytes; send the rest in another turn"
            )
        self._held.append(held)

    def change(self, keeper: Keeper, name: str, value: Any) -> None:
        self._changes[keeper, name] = value

    def changed(self, keeper: Keeper, name: str, default: Any) -> Any:
        return self._changes.get((keeper, name), default)

    def begin(self) -> None:
        """A transaction was opened."""
        self._marks.append((len(self._held), dict(self._changes)))

    def end(self, *, keep: bool) -> None:
        """The innermost transaction was closed; forget what happened in it unless it is kept."""
        length, changes = self._marks.pop()
        if not keep:
            del self._held[length:]
            self._changes = changes

    def seal(self) -> None:
        """Show the changes to the turns that follow."""
        for (keeper, name), value in self._changes.items():
            keeper.sealed = keeper.sealed._replace(**{name: value})

    def release(self, value: Any, error: BaseException | None) -> None:
        for (keeper, name), changed in self._changes.items():
            if error is None:
                keeper.settle(name, changed)
            else:
                keeper.sealed = keeper.durable
        if error is None:
            for held in self._held:
                held.release(None, None)
