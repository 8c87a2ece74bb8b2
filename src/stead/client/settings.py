"""How a room's socket behaves: when it tries again, what it keeps meanwhile, how it connects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stead.client.connection import Connector, HandshakeRefused, connect_tcp
from stead.client.events import SocketEvent
from stead.errors import Invalid
from stead.ids import Chance

_PASSING = {408, 425, 429}  # refusals that may end by themselves, besides those from 500 up


def is_passing(refusal: HandshakeRefused) -> bool:
    """Whether another try may fare better: the server is at fault, or asks to come back later."""
    return refusal.status_code >= 500 or refusal.status_code in _PASSING


@dataclass(frozen=True)
class Backoff:
    """How long to wait before another try: `first_s`, and `growth` times as long each time, up to `most_s`.

    A connection that has lasted `stable_s` begins anew. Without `first_s` each socket draws one between 1 and 5 seconds, so that
    the clients of a server that went down do not come back at one moment.
    """

    first_s: float | None = None
    growth: float = 1.3
    most_s: float = 10.0
    stable_s: float = 5.0

    def drawn(self, chance: Chance) -> Backoff:
        """This with a `first_s`."""
        if self.first_s is not None:
            return self
        return Backoff(1.0 + 4.0 * chance.fraction(), self.growth, self.most_s, self.stable_s)

    def wait_s(self, failures: int) -> float:
        """The wait after so many failures in a row, from 1."""
        assert self.first_s is not None
        return min(self.most_s, self.first_s * self.growth ** min(failures - 1, 100))


@dataclass(frozen=True)
class Settings:
    """What most programs leave as it is."""

    prefix: str = "parties"  # what the address begins with
    backoff: Backoff = Backoff()
    connect_s: float = 4.0  # for a connection and its handshake
    unsent_messages_max: int = 1000  # kept while there is no connection
    unsent_bytes_max: int = 8 * 1024 * 1024  # as much as a server keeps for a client
    unread_messages_max: int = 64  # that wait for `receive`; then the server has to wait
    reconnects: Callable[[int, str], bool] = lambda code, reason: True
    """Whether to come back after a close with this code and reason."""
    retries: Callable[[HandshakeRefused], bool] = is_passing
    """Whether to try again after a refusal. By default a 4xx is final, but for 408, 425 and 429."""
    listener: Callable[[SocketEvent], None] = lambda event: None
    """Is told of what happens to the connection."""
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocols: Sequence[str] = ()
    connector: Connector = connect_tcp
    chance: Chance = Chance()

    def __post_init__(self) -> None:
        for name in ("connect_s", "unsent_messages_max", "unsent_bytes_max", "unread_messages_max"):
            if getattr(self, name) <= 0:
                raise Invalid(f"{name} must be more than 0, not {getattr(self, name)}")
