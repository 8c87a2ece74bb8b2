"""Data services, each an actor and a client written with the public API alone. See DESIGN.md."""

from stead.bindings.binding import Binding
from stead.bindings.bucket import (
    BLOBS,
    Blobs,
    Bucket,
    BucketEvent,
    BucketIndex,
    BucketObject,
    BucketPage,
    ByteRange,
    Conditions,
    EventRule,
    HttpMetadata,
    ObjectBody,
    Watch,
    index_class,
)
from stead.bindings.kv import KvCache, KvEntry, KvKey, KvPage, KvShard
from stead.bindings.observer import observer_service
from stead.bindings.queue import Leased, Queue, QueueSettings, QueueStatus, queue_class
from stead.bindings.rate_limit import Algorithm, RateLimit, RateLimiter, meter_class
from stead.bindings.task import Outcome, ScheduledTask, TaskRun, TaskSettings, TaskStatus, schedule_class, task_service

__all__ = [
    "BLOBS",
    "Algorithm",
    "Binding",
    "Blobs",
    "Bucket",
    "BucketEvent",
    "BucketIndex",
    "BucketObject",
    "BucketPage",
    "ByteRange",
    "Conditions",
    "EventRule",
    "HttpMetadata",
    "KvCache",
    "KvEntry",
    "KvKey",
    "KvPage",
    "KvShard",
    "Leased",
    "ObjectBody",
    "Outcome",
    "Queue",
    "QueueSettings",
    "QueueStatus",
    "RateLimit",
    "RateLimiter",
    "ScheduledTask",
    "TaskRun",
    "TaskSettings",
    "TaskStatus",
    "Watch",
    "index_class",
    "meter_class",
    "observer_service",
    "queue_class",
    "schedule_class",
    "task_service",
]
