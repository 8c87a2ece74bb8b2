"""One of the workers of `stead serve --workers N`: a node of the application in a process of its own. See `supervisor.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvloop

from stead.cli.console import print_failure
from stead.cli.job import EXIT_FAILED, decode_job
from stead.cli.joining import Joining
from stead.cli.listening import listen
from stead.cli.logs import log_to_console
from stead.cli.server import Serving
from stead.cli.values import values_of
from stead.errors import SteadError
from stead.node import ClusterSettings, LoadFailed, Settings, load_application

_PATHS = ("key_file", "cert", "cert_key", "ca")


def main() -> None:
    """Serve as the first line of the standard input says, until that ends. The argument is where to say that it is ready."""
    says_ready = int(sys.argv[1])
    job = decode_job(sys.stdin.buffer.readline())
    settings = Settings(**{**job.settings, "data": Path(job.settings["data"])})
    cluster = ClusterSettings(**{**job.cluster, **{name: Path(job.cluster[name]) for name in _PATHS if job.cluster[name]}})
    try:
        application = load_application(job.place)
        log_to_console(application.directory)
        serving = Serving(
            application,
            settings,
            values_of(job.place, settings.data),
            joining=Joining(cluster, tuple(key.encode() for key in job.keys), job.index),
            token=job.token,
        )
        with listen(settings.host, job.port, is_shared=True) as listener:
            uvloop.run(serving.run(listener, lambda url: _say(says_ready), sys.stdin.fileno()))
    except (SteadError, LoadFailed) as exc:
        print_failure(exc)
        sys.exit(EXIT_FAILED)


def _say(descriptor: int) -> None:
    os.write(descriptor, b"r")
    os.close(descriptor)
