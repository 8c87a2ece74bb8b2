"""Which binding serves each data unit of a manifest, with its settings and the application's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from stead.api import Observer, Task
from stead.bindings import (
    Algorithm,
    Binding,
    Bucket,
    Credentials,
    CredentialStore,
    Database,
    DatabaseActor,
    EventRule,
    KvCache,
    KvShard,
    Migration,
    Queue,
    QueueSettings,
    RateLimit,
    RateLimiter,
    ScheduledTask,
    TaskSettings,
    Watch,
    index_class,
    meter_class,
    observer_service,
    queue_class,
    schedule_class,
    task_service,
)
from stead.manifest import MEM, S3_CREDENTIALS, Application, schema

_QUEUE_OPERATIONS = frozenset({"status", "look", "pull", "settle", "send_batch", "pause", "resume", "purge", "replay_dead"})


def data_services(
    manifest: Application,
    observers: Mapping[str, type[Observer]],
    tasks: Mapping[str, type[Task]],
    migrations: Mapping[str, Sequence[Migration]],
) -> dict[str, Binding]:
    """The bindings of an application's data units, by the unit's name.

    `observers` and `tasks` are the application's classes, `migrations` the files of its databases.
    """
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
    if manifest.buckets:
        found[S3_CREDENTIALS.lower()] = Binding(CredentialStore, Credentials, operations=frozenset({"create", "all", "delete"}))
    for bucket in manifest.buckets:
        watching = [observer for observer in manifest.observers if observer.bucket == bucket.name]
        found[bucket.name] = Binding(index_class([_watch(observer) for observer in watching]), Bucket)
        found.update({observer.name: _events_queue(observer, observers) for observer in watching})
    for database in manifest.sql_databases:
        client = partial(Database, unit=database.name, migrations=migrations[database.name])
        operations = frozenset({"execute", "migrate", "migrations"})
        found[database.name] = Binding(DatabaseActor, client, on_start=Database.start, operations=operations)
    return found


def _queue(queue: schema.Queue, observer: schema.Observer | None, observers: Mapping[str, type[Observer]]) -> Binding:
    said = {name: value for name in QueueSettings.__struct_fields__ if (value := getattr(queue, name, None)) is not None}
    settings = QueueSettings(**said)
    if observer is None:
        return Binding(queue_class(settings), partial(Queue, shards=queue.shards), operations=_QUEUE_OPERATIONS)
    return _observed(settings, observer, observers, queue.name, queue.shards)


def _events_queue(observer: schema.Observer, observers: Mapping[str, type[Observer]]) -> Binding:
    """The queue from which an observer hears of a bucket; it has the observer's name."""
    assert observer.bucket is not None
    return _observed(QueueSettings(name=observer.name, max_batch_timeout_s=0.0), observer, observers, observer.bucket)


def _observed(
    settings: QueueSettings, observer: schema.Observer, observers: Mapping[str, type[Observer]], source: str, shards: int = 1
) -> Binding:
    consumer = f"{observer.name}.observer"
    settings = msgspec.structs.replace(settings, consumer=consumer)
    if observer.max_concurrency is not None:
        settings = msgspec.structs.replace(settings, max_concurrency=observer.max_concurrency)
    service = observer_service(observers[observer.name], source)
    return Binding(queue_class(settings), partial(Queue, shards=shards), {consumer: service}, operations=_QUEUE_OPERATIONS)


def _watch(observer: schema.Observer) -> Watch:
    return Watch(observer.name, tuple(EventRule(rule.actions, rule.prefix, rule.suffix) for rule in observer.rules))


def _task(task: schema.Task, cls: type[Task]) -> Binding:
    settings = TaskSettings(task.cron, task.timezone, f"{task.name}.task")
    return Binding(
        schedule_class(settings),
        partial(ScheduledTask, settings=settings),
        {settings.service: task_service(task.name, cls)},
        on_start=ScheduledTask.start,
        starts_beside=True,  # it waits for a run that is under way, wherever
        operations=frozenset({"run", "status", "history"}),
    )
