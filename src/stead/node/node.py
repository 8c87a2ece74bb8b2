"""The assembler: it makes, starts and ends the runtime of an application and the gateway before it, and does nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.types import ASGIApp

from stead.api import RESPONSES, Env
from stead.bindings import BLOBS, Blobs, CacheStore, ResponseCache
from stead.clock import Clock
from stead.errors import Invalid, SteadError
from stead.events import Event
from stead.gateway import Directory, Edge, Gateway, OnRequest, Operations, Parties, Site, SocketLimits
from stead.gateway import Limits as RequestLimits
from stead.ids import ActorId, Chance, binding_name
from stead.logic.placement import Wish
from stead.manifest import Placement, Visibility
from stead.node.application import LoadedApplication
from stead.node.blobs import ObjectBlobs
from stead.node.s3 import s3_endpoint
from stead.node.settings import Settings
from stead.node.traces import LoadFailed, describe
from stead.node.variables import application_variables, service_variables
from stead.runtime import Limits, Runtime
from stead.storage.contract import Engine

if TYPE_CHECKING:
    from stead.cluster import ClusterPart  # which a node alone starts without


class UnitLine(msgspec.Struct, frozen=True):
    """A unit of the manifest, as operators are told of it."""

    kind: str
    name: str


@dataclass(frozen=True)
class Operating:
    """What who operates a node adds to it."""

    environ: Mapping[str, str] | None = None  # where the manifest's variables get their values; None: their defaults
    admin: Callable[[Node], ASGIApp] | None = None  # makes what answers below /_stead
    on_request: OnRequest | None = None
    is_development: bool = False
    cache: Path | None = None  # the file of cached responses; None: memory
    blobs: Blobs | None = None  # where the bodies of objects are; None: where the settings say
    cluster: ClusterPart | None = None  # None: the node is alone, and nobody else uses its engine


class Node:
    """A running application. Make it in a running loop, then `start`; `close` leaves the engine open.

    Raises `ManifestErrors` for a variable of the manifest that has no value, `LoadFailed` if a service cannot be made.
    """

    def __init__(
        self,
        application: LoadedApplication,
        engine: Engine,
        settings: Settings,
        clock: Clock,
        chance: Chance,
        operating: Operating = Operating(),
    ) -> None:
        environ = operating.environ or {}
        self._application = application
        self.cluster = operating.cluster
        self._grace_s = settings.shutdown_timeout_s
        self._is_ready = False
        self._cache = CacheStore(operating.cache, settings.cache_bytes_max)
        variables = application_variables(application.manifest, environ)
        try:
            self._runtime = Runtime(
                actors=application.every_actor,
                services=application.every_service,
                clients=application.clients,
                engine=engine,
                clock=clock,
                chance=chance,
                variables={**variables, RESPONSES: ResponseCache(self._cache, clock)},
                service_variables=service_variables(application.manifest, environ),
                limits=Limits(resident_bytes_max=settings.resident_bytes_max, stop_grace_s=settings.shutdown_timeout_s),
                elsewhere=None if operating.cluster is None else partial(operating.cluster.elsewhere, wishes(application)),
            )
        except SteadError:
            raise
        except Exception as exc:  # a service's own __init__ runs here
            raise LoadFailed("making the services", exc, application.directory) from exc
        if application.manifest.buckets or operating.blobs is not None:
            self._runtime.env.bind(BLOBS, operating.blobs or ObjectBlobs(settings.blobs or str(settings.data / "blobs")))
        has_buckets = bool(application.manifest.buckets)
        self.gateway = Gateway(
            self._runtime.deliver,
            directory(application, settings),
            RequestLimits(body_bytes_max=settings.body_bytes_max),
            Operations(
                is_ready=lambda: self._is_ready and (self.cluster is None or self.cluster.is_ready),
                admin=operating.admin(self) if operating.admin is not None else None,
                on_request=operating.on_request,
                describe=(lambda error: describe(error, application.directory)) if operating.is_development else None,
                clock=clock,
                chance=chance,
            ),
            Parties(self._runtime, public_actors(application)),
            s3_endpoint(application, self.env, settings, clock, chance) if has_buckets else None,
        )
        self.edge = Edge(self.gateway, _socket_limits(settings))

    @property
    def env(self) -> Env:
        """The bindings as an outsider sees them."""
        return self._runtime.env

    async def start(self) -> None:
        """Begin: from here on requests are answered and alarms run. What the start of a data service raises passes as it is.

        In a cluster the actors that such a start asks may be on another node: if that one fails they are asked again.
        """
        if self.cluster is not None:
            await self.cluster.start()
        for unit, binding in self._application.bindings.items():
            if binding.on_start is not None:
                begin = partial(binding.on_start, self._client(unit))
                if self.cluster is None:
                    await begin()
                elif binding.starts_beside:
                    self.cluster.start_beside(unit, begin)
                else:
                    await self.cluster.start_service(unit, begin)
        await self._runtime.start()
        self._is_ready = True

    async def close(self) -> None:
        """Finish turns, commit what they wrote, and stop; in a cluster the others get the actors. The engine stays open."""
        self._is_ready = False
        if self.cluster is not None:
            await self.cluster.drain(self._grace_s)
        await self._runtime.close()
        if self.cluster is not None:
            await self.cluster.close()
        self._cache.close()

    async def abandon(self) -> None:
        """Stop at once, as a crash would: what is not committed is lost."""
        self._is_ready = False
        if self.cluster is not None:
            self.cluster.cut_off()
        await self._runtime.abandon()
        if self.cluster is not None:
            await self.cluster.abandon()
        self._cache.close()

    def deliver(self, target: ActorId | str, event: Event) -> Awaitable[Any]:
        """The one door: hand an event to an actor, or to a service by name."""
        return self._runtime.deliver(target, event)

    def units(self) -> list[UnitLine]:
        """The units of the manifest, in its order. An observer of a bucket is a queue as well: the one it hears from."""
        manifest = self._application.manifest
        heard = [UnitLine("queue", observer.name) for observer in manifest.observers if observer.bucket is not None]
        return [*(UnitLine(unit.kind, unit.name) for unit in manifest.units), *heard]

    async def operate(self, unit: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """What an operation of a data service returns, as JSON carries it; it works before `start`, too.

        Raises `Invalid` for a unit, an operation or arguments that do not exist.
        """
        binding = self._application.bindings.get(unit)
        if binding is None or operation not in binding.operations:
            raise Invalid(f"there is no operation {operation!r} of a unit {unit!r}")
        method = getattr(self._client(unit), operation)
        try:
            bound = signature(method).bind(**arguments)
        except TypeError as exc:
            raise Invalid(f"the operation {operation!r} of {unit!r}: {exc}") from exc
        return msgspec.to_builtins(await method(*bound.args, **bound.kwargs), str_keys=True)

    def _client(self, unit: str) -> Any:
        return getattr(self.env, binding_name(unit))

    def evict(self, actor: ActorId) -> bool:
        """Drop an idle actor from memory. False if it is there still, because it is busy."""
        return self._runtime.evict(actor)

    def stats(self) -> dict[str, int]:
        """Counts since the start, and what is in memory now."""
        return self._runtime.stats()


def _socket_limits(settings: Settings) -> SocketLimits:
    return SocketLimits(
        settings.socket_message_bytes_max, settings.socket_buffer_bytes_max, settings.socket_ping_s, settings.socket_pong_s
    )


def public_actors(application: LoadedApplication) -> list[str]:
    """The actors that answer below /parties."""
    return [unit.name for unit in application.manifest.actors if unit.visibility is Visibility.PUBLIC]


def wishes(application: LoadedApplication) -> dict[str, Wish]:
    """Where the actors of units should be that name a place."""
    placed = {unit.name: unit.placement for unit in application.manifest.actors if unit.placement != Placement()}
    return {name: Wish(place.region, place.labels, place.strict) for name, place in placed.items()}


def directory(application: LoadedApplication, settings: Settings) -> Directory:
    """Which service answers at which host."""
    sites = [Site(unit.name, unit.visibility.value, unit.cname, unit.fqdn) for unit in application.manifest.services]
    return Directory(sites, () if settings.base_domain == "localhost" else (settings.base_domain,))
