"""`stead serve`: an application, served until a signal; by this process, or by several workers that it starts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stead.admin import TOKEN_BYTES, ServerAddress, remove_address, write_address
from stead.cli.console import CommandFailed, err
from stead.cli.job import WorkerJob
from stead.cli.listening import address_of, listen, reserve
from stead.cli.logs import log_to_console
from stead.cli.options import with_cluster, with_settings
from stead.cli.server import Serving, own_host
from stead.cli.supervisor import Supervisor
from stead.cli.values import values_of
from stead.ids import Chance
from stead.manifest import load_manifest
from stead.node import ClusterSettings, Settings, load_application, manifest_path
from stead.storage.sqlite import DirectoryLock, divide, shares_of

if TYPE_CHECKING:
    from stead.cli.joining import Joining

KEY_BYTES = 32  # of one that workers are given where nobody has set one


@with_settings
@with_cluster
def serve(place: Path, settings: Settings, cluster: ClusterSettings) -> None:
    """Serve an application; the line `ready http://HOST:PORT` says from when on."""
    joining = None if cluster.is_alone else _joining(cluster)
    values = values_of(place, settings.data)
    if cluster.is_shared:
        _check_blobs(place, settings)
    else:
        _divide(settings.data, cluster.workers)
    if joining is not None and cluster.workers > 1:
        raise typer.Exit(_supervise(place, settings, joining))
    application = load_application(place)
    log_to_console(application.directory)
    with _held(settings.data, is_needed=cluster.is_shared), listen(settings.host, settings.port) as listener:
        uvloop.run(Serving(application, settings, values, joining=joining).run(listener, _announce))


def _joining(cluster: ClusterSettings) -> Joining:
    """How the node joins others: what that needs takes a quarter of a start, and a node alone goes without."""
    joining: Joining = import_module("stead.cli.joining").joining_of(cluster, os.environ)
    return joining


def _supervise(place: Path, settings: Settings, joining: Joining) -> int:
    """Have the workers run until a signal. Returns the exit code."""
    chance, cluster = Chance(), joining.settings
    token, keys = chance.hex(TOKEN_BYTES), [key.decode() for key in joining.keys] or [chance.hex(KEY_BYTES)]
    with _held(settings.data, is_needed=True), reserve(settings.host, settings.port) as reserved:
        port = reserved.getsockname()[1]
        jobs = [WorkerJob(place, asdict(settings), asdict(cluster), index, port, token, keys) for index in range(cluster.workers)]

        def ready() -> None:
            own = address_of(reserved, own_host(settings.host))
            write_address(settings.data, ServerAddress(os.getpid(), own, token))
            _announce(address_of(reserved, settings.host))

        try:
            return asyncio.run(Supervisor(jobs, settings.shutdown_timeout_s, ready).run())
        finally:
            remove_address(settings.data)


@contextmanager
def _held(data: Path, *, is_needed: bool) -> Iterator[None]:
    """The data directory for this server alone, where its engine does not see to that."""
    if not is_needed:
        yield
        return
    data.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock(data)
    try:
        yield
    finally:
        lock.release()


def _divide(data: Path, workers: int) -> None:
    """Have the data in as many shares as there are workers."""
    before = shares_of(data)
    if before == workers == 1:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("actors"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(f"dividing {data} among {workers} instead of {before}", total=None)
        divide(data, workers, lambda done, total: progress.update(task, completed=done, total=total))
        actors = progress.tasks[task].total
    if actors:
        err.print(f"divided {data} among {workers} instead of {before}: {actors:,.0f} actors", markup=False)


def _check_blobs(place: Path, settings: Settings) -> None:
    """Raise `CommandFailed` where each machine would have bodies of its own."""
    if not settings.blobs and load_manifest(manifest_path(place)).buckets:
        raise CommandFailed(
            "nodes that share a database need one place for what is in buckets",
            "give it with --blobs: s3://…, gs://…, az://…, or a directory that every node has",
        )


def _announce(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
