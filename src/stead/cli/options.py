"""The flags that several commands share. Each is also a `STEAD_…` variable of the environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from stead.node import MIB, ClusterSettings, Settings, manifest_path

Place = Annotated[Path, typer.Argument(metavar="DIR", help="The application's directory, or its manifest.", show_default=False)]
Engine = Annotated[
    str,
    typer.Option(envvar="STEAD_ENGINE", help="Where actors are durable: sqlite (in the data directory), or postgres://…"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DEFAULTS = Settings()
_ALONE = ClusterSettings()


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command of an application's place and a node's settings, with a flag for every setting beside those it has."""

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
        **more: Any,
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
        command(place, settings, **more)

    return _shown_as(run, command)


def with_cluster(command: Callable[[Path, Settings, ClusterSettings], None]) -> Callable[..., None]:
    """A command that also takes how its node joins others, with a flag for every setting of that."""

    def run(
        place: Path,
        settings: Settings,
        engine: Annotated[
            str,
            typer.Option(
                envvar="STEAD_ENGINE",
                help="Where actors are durable: sqlite (in the data directory), or postgres://… for many nodes.",
            ),
        ] = _ALONE.engine,
        workers: Annotated[
            int, typer.Option(envvar="STEAD_WORKERS", help="Nodes on this machine behind the one port; each uses one core.")
        ] = _ALONE.workers,
        node_name: Annotated[
            str, typer.Option(envvar="STEAD_NODE_NAME", help="This node's name among the others.", show_default="the machine's")
        ] = _ALONE.node_name,
        cluster_listen: Annotated[
            str, typer.Option(envvar="STEAD_CLUSTER_LISTEN", metavar="HOST:PORT", help="Where other nodes reach this one.")
        ] = _ALONE.listen,
        cluster_address: Annotated[
            str,
            typer.Option(
                envvar="STEAD_CLUSTER_ADDRESS",
                metavar="HOST:PORT",
                help="What other nodes are told to dial.",
                show_default="where it listens",
            ),
        ] = _ALONE.address,
        cluster_key_file: Annotated[
            Path | None,
            typer.Option(envvar="STEAD_CLUSTER_KEY_FILE", help="The key that nodes share; STEAD_CLUSTER_KEY has it directly."),
        ] = _ALONE.key_file,
        cluster_cert: Annotated[
            Path | None, typer.Option(envvar="STEAD_CLUSTER_CERT", help="This node's certificate, for mutual TLS between nodes.")
        ] = _ALONE.cert,
        cluster_cert_key: Annotated[
            Path | None, typer.Option(envvar="STEAD_CLUSTER_CERT_KEY", help="The key of that certificate.")
        ] = _ALONE.cert_key,
        cluster_ca: Annotated[
            Path | None, typer.Option(envvar="STEAD_CLUSTER_CA", help="The certificate of who signed every node's.")
        ] = _ALONE.ca,
        region: Annotated[str, typer.Option(envvar="STEAD_REGION", help="Where this node is.")] = _ALONE.region,
        labels: Annotated[
            str, typer.Option(envvar="STEAD_LABELS", metavar="K=V,…", help="What else is told of this node.")
        ] = _ALONE.labels,
        lease_s: Annotated[
            float, typer.Option(envvar="STEAD_LEASE_S", help="Seconds after which a silent node's actors go to others.")
        ] = _ALONE.lease_s,
    ) -> None:
        cluster = ClusterSettings(
            engine=engine,
            node_name=node_name,
            listen=cluster_listen,
            address=cluster_address,
            key_file=cluster_key_file,
            cert=cluster_cert,
            cert_key=cluster_cert_key,
            ca=cluster_ca,
            region=region,
            labels=labels,
            lease_s=lease_s,
            workers=workers,
        )
        command(place, settings, cluster)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _shown_as(run: Callable[..., None], command: Callable[..., None]) -> Callable[..., None]:
    """`run` with the name and text of `command`, and the flags of both."""
    hints = get_type_hints(command, include_extras=True) | get_type_hints(run, include_extras=True)
    own = list(inspect.signature(run).parameters.values())[:-1]  # the last one is `**more`
    others = list(inspect.signature(command).parameters.values())[2:]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = hints
    run.__signature__ = inspect.Signature([parameter.replace(annotation=hints[parameter.name]) for parameter in (*own, *others)])  # type: ignore[attr-defined]
    return run
