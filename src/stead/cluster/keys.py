"""The key that all nodes of a cluster share, and where a node may listen without one.

There are several while a new key takes the place of an old one: nodes that have one in common trust each other.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from stead.errors import Invalid

KEY_VARIABLE = "STEAD_CLUSTER_KEY"
KEY_BYTES_MIN = 32
KEYS_MAX = 4  # an old one and a new one, and room for a change that was not finished
HOW_TO_KEY = f"set {KEY_VARIABLE}, or a key file, to the same {KEY_BYTES_MIN} or more random characters on every node"

Keys = tuple[bytes, ...]
"""Each is one that others may have as well; none: whoever reaches the address may come in."""


def read_keys(environment: Mapping[str, str], file: str | None = None) -> Keys:
    """The shared keys: of `file` if there is one, else of STEAD_CLUSTER_KEY, else none. Commas or white space stand between them.

    Raises `Invalid` if one is too short, or if there are too many.
    """
    if file is not None:
        text, where = _read_private(Path(file)), file
    else:
        text, where = environment.get(KEY_VARIABLE, ""), KEY_VARIABLE
    keys = tuple(key.encode() for key in re.split(r"[,\s]+", text) if key)
    shortest = min(map(len, keys), default=0)
    if (file is not None or KEY_VARIABLE in environment) and shortest < KEY_BYTES_MIN:
        which = (
            f"one of the {len(keys)} keys in {where}, which commas or white space divide,"
            if len(keys) > 1
            else f"the cluster's key in {where}"
        )
        raise Invalid(f"{which} has {shortest} bytes; {HOW_TO_KEY}")
    if len(keys) > KEYS_MAX:
        raise Invalid(f"there are {len(keys)} keys in {where}, and {KEYS_MAX} at most are taken: leave out those that no node has")
    return keys


def _read_private(path: Path) -> str:
    try:
        with path.open() as opened:
            if os.name == "posix" and stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise Invalid(f"others can read the cluster's key in {path}: chmod 600 {path}")
            return opened.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"the cluster's key cannot be read from {path}: {exc}") from exc


def check_exposure(address: str, keys: Keys, has_tls: bool) -> None:
    """Raise `Invalid` if anyone could join: `address` is not loopback's, and neither a key nor certificates are asked for."""
    if not (keys or has_tls or is_loopback(split_address(address)[0])):
        raise Invalid(
            f"channels would listen on {address}, which others can reach, and let anyone in: {HOW_TO_KEY}; or give certificates "
            "for mutual TLS; or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Other names than localhost may lead anywhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises `Invalid`."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise Invalid(f"{address!r} is no address; one reads host:port, [::1]:7400 for instance")
    return host.removeprefix("[").removesuffix("]"), int(port)
