"""`stead serve`: an application, served until a signal."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from stead.cli.listening import listen
from stead.cli.logs import log_to_console
from stead.cli.options import with_settings
from stead.cli.server import Serving
from stead.cli.values import values_of
from stead.node import Settings, load_application


@with_settings
def serve(place: Path, settings: Settings) -> None:
    """Serve an application; the line `ready http://HOST:PORT` says from when on."""
    values = values_of(place, settings.data)
    application = load_application(place)
    log_to_console(application.directory)
    with listen(settings.host, settings.port) as listener:
        uvloop.run(Serving(application, settings, values).run(listener, _announce))


def _announce(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
