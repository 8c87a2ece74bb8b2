"""What users import and subclass. No machinery: the runtime fills the protocols in."""

from stead.api.actor import Actor
from stead.api.alarm import alarm_handlers, on_alarm
from stead.api.context import ActorContext
from stead.api.durable import DurableField, durable, durable_fields, reads
from stead.api.env import CURRENT_ENV, ActorEntry, ActorPage, Env, Namespace, current_env
from stead.api.http import (
    HTMLResponse,
    HTTPException,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    ResponseLike,
    StreamingResponse,
)
from stead.api.observer import Batch, Message, Observer, Task, Tick
from stead.api.service import RESPONSES, Cache, Idempotent, Route, Service, route
from stead.api.socket import Sendable, Socket
from stead.api.storage import Alarm, AlarmInfo, Alarms, Sql, SqlValue, Storage

__all__ = [
    "CURRENT_ENV",
    "RESPONSES",
    "Actor",
    "ActorContext",
    "ActorEntry",
    "ActorPage",
    "Alarm",
    "AlarmInfo",
    "Alarms",
    "Batch",
    "Cache",
    "DurableField",
    "Env",
    "HTMLResponse",
    "HTTPException",
    "Idempotent",
    "JSONResponse",
    "Message",
    "Namespace",
    "Observer",
    "PlainTextResponse",
    "RedirectResponse",
    "Request",
    "Response",
    "ResponseLike",
    "Route",
    "Sendable",
    "Service",
    "Socket",
    "Sql",
    "SqlValue",
    "Storage",
    "StreamingResponse",
    "Task",
    "Tick",
    "alarm_handlers",
    "current_env",
    "durable",
    "durable_fields",
    "on_alarm",
    "reads",
    "route",
]
