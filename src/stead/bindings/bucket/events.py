"""What observers of a bucket are told, and which of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Action(StrEnum):
    """What happened to an object."""

    PUT = "PutObject"
    COPY = "CopyObject"
    COMPLETE_MULTIPART = "CompleteMultipartUpload"
    DELETE = "DeleteObject"


class Cause(msgspec.Struct, frozen=True):
    """Why an object is stored: by which operation, and of what it is a copy, as `bucket/key`."""

    action: Action = Action.PUT
    copy_source: str | None = None


class EventObject(msgspec.Struct, frozen=True):
    """The object that an event is about."""

    key: str
    size: int
    etag: str


class BucketEvent(msgspec.Struct, frozen=True):
    """The body of a message to an observer of a bucket, as a dict with these keys."""

    action: Action
    bucket: str
    object: EventObject
    event_time: datetime
    copy_source: str | None = None


class EventRule(msgspec.Struct, frozen=True):
    """Which events an observer hears of; no actions are all of them."""

    actions: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""

    def fits(self, event: BucketEvent) -> bool:
        key = event.object.key
        return (not self.actions or event.action in self.actions) and key.startswith(self.prefix) and key.endswith(self.suffix)


class Watch(msgspec.Struct, frozen=True):
    """An observer: the name of the queue from which it hears, and its rules. One that fits is enough; without rules all do."""

    queue: str
    rules: tuple[EventRule, ...] = ()

    def wants(self, event: BucketEvent) -> bool:
        return not self.rules or any(rule.fits(event) for rule in self.rules)
