"""How a server's node joins others: the engine that they share, the channel on which they reach it, and what it says of itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from stead.admin import ClusterNodes, NodesHere, Workers
from stead.cli.console import CommandFailed
from stead.cli.engines import open_shared
from stead.cli.waiting import wait_set
from stead.clock import Clock
from stead.cluster import ClusterPart, Keys, Membership, Peers, TlsFiles, WebSocketNetwork, read_keys, split_address
from stead.ids import Chance
from stead.node import ClusterSettings, LoadedApplication
from stead.storage.membership import EngineAway, NodeInfo, SharedEngine
from stead.storage.sqlite import WorkerEngine

SOURCES = (".manifest", ".py", ".sql")  # what makes one version of an application
_ELSEWHERE = frozenset({"node_modules", "__pycache__"})  # and whatever is hidden
_EVERYWHERE = frozenset({"0.0.0.0", "::"})
AGAIN_S = 1.0  # before an engine that was away is asked for again
_DIGEST_BYTES = 8

log = logging.getLogger("stead")


@dataclass(frozen=True)
class Joining:
    """A node of a cluster to be: `worker` is its number among those on one data directory."""

    settings: ClusterSettings
    keys: Keys
    worker: int = 0

    async def open_engine(self, data: Path, clock: Clock, chance: Chance, ends: asyncio.Event) -> SharedEngine | None:
        """Waits for one that is away: after a power cut nobody says which machine is there first. None if `ends` is set before.

        Raises `EngineFailed` if it cannot be used.
        """
        if not self.settings.is_shared:
            return WorkerEngine.open_worker(data, self.worker, clock, chance)
        told = ""
        while not ends.is_set():
            try:
                return await open_shared(self.settings.engine, clock, chance)
            except EngineAway as exc:
                if str(exc) != told:
                    log.warning("%s", exc)
                    told = str(exc)
            await wait_set(ends, AGAIN_S)
        return None

    async def take_part(
        self, engine: SharedEngine, application: LoadedApplication, url: str, clock: Clock, chance: Chance
    ) -> ClusterPart:
        """Listen for the others. Raises `CommandFailed` or `Invalid` where that cannot be."""
        settings = self.settings
        tls = None
        if settings.cert is not None:
            tls = TlsFiles(str(settings.cert), str(settings.cert_key), str(settings.ca))
        peers = Peers(WebSocketNetwork(self.keys, tls), self.keys, chance)
        try:
            address = await peers.listen(self._own(settings.listen))
        except OSError as exc:
            raise CommandFailed(
                f"cannot listen on {self._own(settings.listen)} for other nodes: {exc.strerror or exc}",
                "give an address of this machine with --cluster-listen; port 0 takes a free one",
            ) from exc
        if not settings.address and split_address(address)[0] in _EVERYWHERE:
            await peers.close()
            raise CommandFailed(
                f"{settings.listen} is no address that another node could dial",
                "say with --cluster-address how they reach this one",
            )
        info = NodeInfo(
            name=self.name,
            address=self._own(settings.address) or address,
            url=url,
            region=settings.region,
            labels=dict(settings.label_map()),
            application=digest(application.directory),
        )
        return ClusterPart(engine, peers, Membership(engine, info, clock, settings.lease_s))

    def nodes(self, engine: SharedEngine, part: ClusterPart) -> NodesHere:
        """The nodes as this one shows them to operators."""
        return ClusterNodes(engine, part) if self.settings.is_shared else Workers(engine, part)

    def _own(self, address: str) -> str:
        """This worker's part of an address that is given for all: the ports from there on are theirs."""
        if not address:
            return address
        host, _, port = address.rpartition(":")
        return f"{host}:{int(port) + self.worker}" if int(port) else address

    @property
    def name(self) -> str:
        """The node's; of several workers each has its own."""
        name = self.settings.node_name or socket.gethostname()
        return f"{name}-{self.worker}" if self.settings.workers > 1 else name


def joining_of(settings: ClusterSettings, environ: Mapping[str, str]) -> Joining:
    """With the keys of its file or of `environ`. Raises `Invalid` where one protects nothing."""
    return Joining(settings, read_keys(environ, None if settings.key_file is None else str(settings.key_file)))


def digest(directory: Path) -> str:
    """Tells one version of an application from another: hexadecimal, over the names and contents of its sources."""
    found = blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(_sources(directory)):
        for part in (str(path.relative_to(directory)).encode(), path.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def _sources(directory: Path) -> list[Path]:
    found = []
    for path in directory.iterdir():
        if path.name.startswith(".") or path.name in _ELSEWHERE:
            continue
        if path.is_dir():
            found += _sources(path)
        elif path.suffix in SOURCES:
            found.append(path)
    return found
