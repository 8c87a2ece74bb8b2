"""Which binding serves each data unit of a manifest, with its settings and the application's code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec

from stead.api import Observer, Task
from stead.bindings import (
    Algorithm,
    Binding,
    KvCache,
    KvShard,
    Queue,
    QueueSettings,
    RateLimit,
    RateLimiter,
    ScheduledTask,
    TaskSettings,
    meter_class,
    observer_service,
    queue_class,
    schedule_class,
    task_service,
)
from stead.manifest import MEM, Application, schema


def data_services(
    manifest: Application, observers: Mapping[str, type[Observer]], tasks: Mapping[str, type[Task]]
) -> dict[str, Binding]:
    """The bindings of an application's data units, by the unit's name. `observers` and `tasks` are the application's classes."""
    found = {MEM.lower(): Binding(KvShard, KvCache)}
    for limit in manifest.rate_limits:
        settings = RateLimit(limit.limit, limit.period_s, Algorithm(limit.algorithm))
        found[limit.name] = Binding(meter_class(settings), RateLimiter)
    for cache in manifest.kv_caches:
        found[cache.name] = Binding(KvShard, partial(KvCache, cache_ttl_s=cache.cache_ttl_s))
    of_queue = {observer.queue: observer for observer in manifest.observers if observer.queue is not None}
    for queue in manifest.queues:
        found[queue.name] = _queue(queue, of_queue.get(queue.name), observers)
    for task in manifest.tasks:
        found[task.name] = _task(task, tasks[task.name])
    return found


def _queue(queue: schema.Queue, observer: schema.Observer | None, observers: Mapping[str, type[Observer]]) -> Binding:
    said = {name: value for name in QueueSettings.__struct_fields__ if (value := getattr(queue, name, None)) is not None}
    settings = QueueSettings(**said)
    if observer is None:
        return Binding(queue_class(settings), partial(Queue, shards=queue.shards))
    consumer = f"{observer.name}.observer"
    settings = msgspec.structs.replace(settings, consumer=consumer)
    if observer.max_concurrency is not None:
        settings = msgspec.structs.replace(settings, max_concurrency=observer.max_concurrency)
    service = observer_service(observers[observer.name], queue.name)
    return Binding(queue_class(settings), partial(Queue, shards=queue.shards), {consumer: service})


def _task(task: schema.Task, cls: type[Task]) -> Binding:
    settings = TaskSettings(task.cron, task.timezone, f"{task.name}.task")
    return Binding(
        schedule_class(settings),
        partial(ScheduledTask, settings=settings),
        {settings.service: task_service(task.name, cls)},
        on_start=ScheduledTask.start,
        operations=frozenset({"run", "status", "history"}),
    )
