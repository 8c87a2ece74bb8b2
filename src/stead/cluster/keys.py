"""What makes a node one of the cluster: a key that all share, certificates that one authority signed, or both."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import msgspec

from stead.errors import Invalid

KEY_VARIABLE = "STEAD_CLUSTER_KEY"
KEY_BYTES_MIN = 32
HOW_TO_KEY = f"set {KEY_VARIABLE}, or a key file, to the same {KEY_BYTES_MIN} or more random characters on every node"


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files: this node's certificate and key, and the certificates of who signs nodes."""

    certificate: str
    key: str
    authority: str


def read_key(environment: Mapping[str, str], file: str | None = None) -> bytes:
    """The shared key: of `file` if there is one, else of STEAD_CLUSTER_KEY, else empty. Raises `Invalid` if it is too short."""
    if file is not None:
        text, where = _read_private(Path(file)), file
    else:
        text, where = environment.get(KEY_VARIABLE, ""), KEY_VARIABLE
    key = text.strip().encode()
    if (file is not None or KEY_VARIABLE in environment) and len(key) < KEY_BYTES_MIN:
        raise Invalid(f"the cluster's key in {where} has {len(key)} bytes; {HOW_TO_KEY}")
    return key


def _read_private(path: Path) -> str:
    try:
        with path.open() as opened:
            if os.name == "posix" and stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise Invalid(f"others can read the cluster's key in {path}: chmod 600 {path}")
            return opened.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"the cluster's key cannot be read from {path}: {exc}") from exc


def check_exposure(address: str, key: bytes, tls: TlsFiles | None) -> None:
    """Raise `Invalid` if anyone could join: `address` is not loopback's, and neither a key nor certificates are asked for."""
    if not (key or tls or is_loopback(split_address(address)[0])):
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


def server_tls(files: TlsFiles) -> ssl.SSLContext:
    """For who is dialled: the dialler must have a certificate of the authority. Raises `Invalid`."""
    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_tls(files: TlsFiles) -> ssl.SSLContext:
    """For who dials. The authority signs nodes only, so its signature says enough; names of hosts are not looked at."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(side: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except OSError as exc:
        raise Invalid(
            f"the certificates for channels cannot be used ({files.certificate}, {files.key}, {files.authority}): {exc}"
        ) from exc
    return context
