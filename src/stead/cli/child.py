"""The server that `stead dev` runs: a process that serves the application as it is now, and is replaced on every save.

It inherits the listening socket, so no connection is refused while it is replaced, and one end of a pipe, its lifeline: when the
other end closes, it stops as at SIGTERM. So it never outlives its parent, however that ends.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.markup import escape
from rich.table import Table

from stead.cli.check import class_label, room_path, source_label
from stead.cli.console import err, new_table, out, print_failure, print_table
from stead.cli.logs import log_to_console
from stead.cli.server import Serving
from stead.cli.values import values_of
from stead.errors import Invalid, ManifestError, SteadError
from stead.node import LoadedApplication, LoadFailed, Settings, directory, load_application
from stead.redaction import redacted

EXIT_FAILED, EXIT_BROKEN = 1, 3  # the server cannot run; the application cannot, until it is saved again
_SLOW_S = 1.0  # a request that takes longer is worth a look


class Job(msgspec.Struct, frozen=True):
    """What a child is to do, on its command line as JSON."""

    place: Path
    settings: dict[str, Any]
    listener: int  # file descriptors
    lifeline: int
    is_again: bool  # the application has been shown before

    def encode(self) -> str:
        return msgspec.json.encode(self, enc_hook=str).decode()


def decode_job(text: str) -> Job:
    return msgspec.json.decode(text, type=Job, dec_hook=lambda type_, value: type_(value))


def main() -> None:
    """Serve as the first argument says, then leave with an EXIT_ code or 0."""
    job = decode_job(sys.argv[1])
    settings = Settings(**{**job.settings, "data": Path(job.settings["data"])})
    try:
        values = values_of(job.place, settings.data, is_development=True)
        serve_job(job, settings, load_application(job.place), values)
    except (ManifestError, LoadFailed, Invalid) as exc:
        print_failure(exc)
        sys.exit(EXIT_BROKEN)
    except SteadError as exc:
        print_failure(exc)
        sys.exit(EXIT_FAILED)


def serve_job(job: Job, settings: Settings, application: LoadedApplication, values: Mapping[str, str]) -> None:
    log_to_console(application.directory)

    def announce(url: str) -> None:
        if job.is_again:
            out.print("[green]reloaded[/]")
        else:
            print_table(addresses_table(application, settings, url))
            out.print(f"\nready {url}, data in {escape(str(settings.data))}; every save reloads, Ctrl-C ends\n", style="green")

    def report(method: str, host: str, path: str, status: int, duration_s: float, error: Exception | None) -> None:
        if path.startswith("/_stead/"):
            return
        style = "red" if status >= 500 else "yellow" if status >= 400 else "green"
        slow = "[yellow]" if duration_s > _SLOW_S else "[dim]"
        out.print(f"[{style}]{status}[/] {method} {escape(path)} {slow}{duration_s * 1000:.1f} ms[/]")
        if error is not None and status != 500:  # what nobody expected is in the log already, with its traceback
            err.print(f"  {escape(redacted(str(error)))}", style="dim")

    serving = Serving(application, settings, values, on_request=report, is_development=True)
    with socket.socket(fileno=job.listener) as listener:
        uvloop.run(serving.run(listener, announce, job.lifeline))


def addresses_table(application: LoadedApplication, settings: Settings, url: str) -> Table:
    """Every unit with its class, and for one that is public its addresses; of queues and buckets who observes them."""
    sites = directory(application, settings)
    port = url.rpartition(":")[2]
    table = new_table("kind", "unit", "class", "address", title=f"application {application.manifest.name}")
    for unit in application.manifest.units:
        hosts = [
            f"http://{host}:{port}" for host, service in sites.hosts.items() if service == unit.name and unit.kind == "service"
        ]
        if unit.kind == "service" and sites.only == unit.name:
            hosts.insert(0, url)
        if room_path(unit, application):
            hosts = [url + room_path(unit, application)]
        unreached = "through bindings only" if unit.kind == "service" else source_label(unit, application)
        address = "\n".join(hosts) or unreached
        table.add_row(unit.kind, unit.name, class_label(unit, application), address)
    return table
