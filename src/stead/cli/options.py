"""The flags that several commands share. Each is also a `STEAD_…` variable of the environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stead.node import MIB, Settings, manifest_path

Place = Annotated[Path, typer.Argument(metavar="DIR", help="The application's directory, or its manifest.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DEFAULTS = Settings()


def with_settings(command: Callable[[Path, Settings], None]) -> Callable[..., None]:
    """A command of an application's place and a node's settings, with a flag for every setting."""

    def run(
        place: Place = Path(),
        host: Annotated[str, typer.Option(envvar="STEAD_HOST", help="The address to listen on.")] = _DEFAULTS.host,
        port: Annotated[int, typer.Option(envvar="STEAD_PORT", help="The port; 0 takes a free one.")] = _DEFAULTS.port,
        data: Annotated[
            Path | None, typer.Option(envvar="STEAD_DATA", help="The data directory.", show_default="DIR/.stead")
        ] = None,
        blobs: Annotated[
            str,
            typer.Option(
                envvar="STEAD_BLOBS",
                help="Where objects' bodies are: a directory, s3://…, gs://… or az://….",
                show_default="DATA/blobs",
            ),
        ] = _DEFAULTS.blobs,
        base_domain: Annotated[
            str, typer.Option(envvar="STEAD_BASE_DOMAIN", help="Services with a cname answer below this domain.")
        ] = _DEFAULTS.base_domain,
        body_max_mib: Annotated[
            int, typer.Option(envvar="STEAD_BODY_MAX_MIB", help="MiB that the body of a request may have.")
        ] = _DEFAULTS.body_bytes_max // MIB,
        memory_max_mib: Annotated[
            int, typer.Option(envvar="STEAD_MEMORY_MAX_MIB", help="MiB of actors to hold in memory.")
        ] = _DEFAULTS.resident_bytes_max // MIB,
        cache_max_mib: Annotated[
            int, typer.Option(envvar="STEAD_CACHE_MAX_MIB", help="MiB of responses to keep on disk for services' `self.cache`.")
        ] = _DEFAULTS.cache_bytes_max // MIB,
        socket_message_max_mib: Annotated[
            int, typer.Option(envvar="STEAD_SOCKET_MESSAGE_MAX_MIB", help="MiB that a message from a WebSocket may have.")
        ] = _DEFAULTS.socket_message_bytes_max // MIB,
        socket_buffer_max_mib: Annotated[
            int, typer.Option(envvar="STEAD_SOCKET_BUFFER_MAX_MIB", help="MiB that may wait for a WebSocket's client to read.")
        ] = _DEFAULTS.socket_buffer_bytes_max // MIB,
        socket_ping_s: Annotated[
            float, typer.Option(envvar="STEAD_SOCKET_PING_S", help="Seconds of silence after which a client is pinged.")
        ] = _DEFAULTS.socket_ping_s,
        socket_pong_s: Annotated[
            float, typer.Option(envvar="STEAD_SOCKET_PONG_S", help="Seconds it has to answer before it is dropped.")
        ] = _DEFAULTS.socket_pong_s,
        shutdown_timeout_s: Annotated[
            int, typer.Option(envvar="STEAD_SHUTDOWN_TIMEOUT_S", help="Seconds for what is under way at the end.")
        ] = _DEFAULTS.shutdown_timeout_s,
        admin_from_anywhere: Annotated[
            bool,
            typer.Option("--admin-from-anywhere", envvar="STEAD_ADMIN_FROM_ANYWHERE", help="Answer operators elsewhere, too."),
        ] = _DEFAULTS.admin_from_anywhere,
    ) -> None:
        settings = Settings(
            host=host,
            port=port,
            data=data if data is not None else manifest_path(place).parent / _DEFAULTS.data,
            blobs=blobs,
            base_domain=base_domain,
            body_bytes_max=body_max_mib * MIB,
            resident_bytes_max=memory_max_mib * MIB,
            cache_bytes_max=cache_max_mib * MIB,
            socket_message_bytes_max=socket_message_max_mib * MIB,
            socket_buffer_bytes_max=socket_buffer_max_mib * MIB,
            socket_ping_s=socket_ping_s,
            socket_pong_s=socket_pong_s,
            shutdown_timeout_s=shutdown_timeout_s,
            admin_from_anywhere=admin_from_anywhere,
        )
        command(place, settings)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
