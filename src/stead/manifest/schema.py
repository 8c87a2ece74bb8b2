"""What a manifest declares, as frozen values: the application and its units.

Positions do not take part in equality: a unit that only moved in its file is the same unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from stead.ids import binding_name
from stead.manifest.tree import Position

LOGGER, MEM = "LOGGER", "MEM"  # bindings that every unit has; no name of the manifest may take them
S3_LABEL = "s3"  # the first label of the host where S3 clients find the buckets
S3_CREDENTIALS = "S3_CREDENTIALS"  # and one that every application with a bucket has


class Visibility(StrEnum):
    """Who may reach a unit from outside."""

    PUBLIC = "public"
    PROTECTED = "protected"
    PRIVATE = "private"  # only others of the application, through their bindings


class Action(StrEnum):
    """What happened to an object of a bucket."""

    PUT = "PutObject"
    COPY = "CopyObject"
    COMPLETE_MULTIPART = "CompleteMultipartUpload"
    DELETE = "DeleteObject"
    LIFECYCLE_DELETION = "LifecycleDeletion"


@dataclass(frozen=True, kw_only=True)
class EnvVariable:
    """A setting that units see as text. A secret has no default."""

    name: str
    secret: bool = False
    default: str | None = None
    position: Position = field(default=Position(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One named thing of the application, with the place of its block."""

    kind: ClassVar[str]

    name: str
    position: Position = field(default=Position(), compare=False)

    @property
    def binding(self) -> str:
        return binding_name(self.name)


@dataclass(frozen=True, kw_only=True)
class Reachable(Unit):
    """A unit that may have an address: `cname`, the first label of a host, or `fqdn`, a whole host, in lower case."""

    visibility: Visibility = Visibility.PRIVATE
    cname: str | None = None
    fqdn: str | None = None
    handler: str | None = None  # "module:Class"; None: found by the unit's name

    @property
    def domain(self) -> str | None:
        return self.fqdn or self.cname


@dataclass(frozen=True, kw_only=True)
class Service(Reachable):
    kind = "service"

    env: tuple[EnvVariable, ...] = ()  # seen by this service only; wins over the application's


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which nodes of a cluster should have the actors of a unit: those of the region and with all of the labels."""

    region: str = ""  # "": any
    labels: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False  # no other node may have them, even if there is none of these


@dataclass(frozen=True, kw_only=True)
class Actor(Reachable):
    kind = "actor"

    placement: Placement = field(default=Placement(), hash=False)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which events of a bucket an observer is told of."""

    actions: tuple[Action, ...] = tuple(Action)
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class Observer(Unit):
    """Receives from either a bucket or a queue, by name. Without rules it is told of every event of its bucket."""

    kind = "observer"

    bucket: str | None = None
    queue: str | None = None
    rules: tuple[Rule, ...] = ()  # one that matches is enough
    handler: str | None = None
    max_concurrency: int | None = None  # batches at a time, of each shard of the queue


@dataclass(frozen=True, kw_only=True)
class Queue(Unit):
    """Settings that are None are left to the queue."""

    kind = "queue"

    max_batch_size: int | None = None
    max_batch_timeout_s: float | None = None
    max_retries: int | None = None
    retry_delay_s: float | None = None
    dead_letter_queue: str | None = None  # a queue's name
    retention_s: float | None = None
    shards: int = 1  # actors among which the messages are spread


@dataclass(frozen=True, kw_only=True)
class Bucket(Unit):
    kind = "bucket"

    visibility: Visibility = Visibility.PRIVATE


@dataclass(frozen=True, kw_only=True)
class Task(Unit):
    kind = "task"

    cron: str  # five fields, or an alias such as @daily, as written
    timezone: str = "UTC"
    handler: str | None = None


@dataclass(frozen=True, kw_only=True)
class RateLimit(Unit):
    """At most `limit` for each key in `period_s` seconds."""

    kind = "rate_limit"

    limit: int
    period_s: float
    algorithm: str = "token_bucket"  # or "sliding_window"


@dataclass(frozen=True, kw_only=True)
class KvCache(Unit):
    kind = "kv_cache"

    cache_ttl_s: float = 0.0  # how long a node may answer from what it read; 0: every read asks


@dataclass(frozen=True, kw_only=True)
class SqlDatabase(Unit):
    kind = "sql_database"


@dataclass(frozen=True, kw_only=True)
class Application:
    """A whole manifest. Units of a kind are in the order of the file."""

    name: str
    module: str = "app"  # where classes are looked for
    services: tuple[Service, ...] = ()
    actors: tuple[Actor, ...] = ()
    observers: tuple[Observer, ...] = ()
    queues: tuple[Queue, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    tasks: tuple[Task, ...] = ()
    kv_caches: tuple[KvCache, ...] = ()
    sql_databases: tuple[SqlDatabase, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    env: tuple[EnvVariable, ...] = ()
    position: Position = field(default=Position(), compare=False)

    @property
    def units(self) -> tuple[Unit, ...]:
        """Every unit, in the order of the file."""
        units: list[Unit] = [*self.services, *self.actors, *self.observers, *self.queues, *self.buckets, *self.tasks]
        return tuple(sorted([*units, *self.kv_caches, *self.sql_databases, *self.rate_limits], key=lambda unit: unit.position))
