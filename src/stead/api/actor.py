"""`Actor`: the class that users subclass for state with a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stead.api.context import ActorContext
from stead.api.http import Request, ResponseLike
from stead.api.storage import AlarmInfo, Alarms, Sql, Storage
from stead.errors import Invalid
from stead.ids import ActorId

if TYPE_CHECKING:
    from stead.api.env import Env


class Actor:
    """One of many named things, each with its own durable state.

    Subclass it, name it in the manifest, and every public async method is callable from other units. Events of one actor run one at
    a time, and each is a transaction: what an event wrote is durable before anyone hears of it, and an event that raises leaves no
    trace.
    """

    hibernate_after_s: ClassVar[float] = 10.0
    """Seconds without an event after which the instance is dropped from memory."""
    turn_limit_s: ClassVar[float] = 30.0
    """Seconds that one event may take before it is cancelled and rolled back."""
    mailbox_events_max: ClassVar[int] = 1000
    """Events that may wait; the next one is refused with `Overloaded`."""

    storage: Storage
    sql: Sql
    alarms: Alarms
    env: Env
    id: ActorId
    ctx: ActorContext

    async def on_start(self) -> None:
        """Override to prepare a new instance, before its first event. If it raises, that event fails with its error."""

    async def fetch(self, request: Request) -> ResponseLike:
        """Override to answer HTTP requests."""
        raise Invalid(f"{type(self).__name__} has no fetch()")

    async def alarm(self, alarm: AlarmInfo) -> None:
        """Override to be called when an alarm is due. If it raises it runs again, up to six times, then the alarm is dead."""
