"""Which service answers at which host.

Only public services are in the directory, so nothing that a client writes into `Host` reaches another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from stead.errors import Invalid

Visibility = Literal["public", "protected", "private"]


class Site(msgspec.Struct, frozen=True):
    """A service and one address of it: `cname` is a first label, `fqdn` a whole host. With neither it answers at its own name."""

    service: str
    visibility: Visibility = "public"
    cname: str | None = None
    fqdn: str | None = None


class Directory:
    """The public services by host, without port and in lower case. Raises `Invalid` when two services claim one host.

    A first label answers below `localhost` and below each of `base_domains`. If there is one public service only, it also answers
    at every host that nobody claims.
    """

    def __init__(self, sites: Iterable[Site], base_domains: Sequence[str] = ()) -> None:
        self.hosts: dict[str, str] = {}
        self._by_host: dict[bytes, str] = {}
        services = set()
        for site in sites:
            if site.visibility == "public":
                services.add(site.service)
                for host in _hosts(site, base_domains):
                    self._claim(host.lower(), site.service)
        self.only = services.pop() if len(services) == 1 else None

    def _claim(self, host: str, service: str) -> None:
        other = self.hosts.setdefault(host, service)
        if other != service:
            raise Invalid(f"services {other!r} and {service!r} both answer at {host}; give one of them another domain")
        self._by_host[host.encode()] = service

    def find(self, host: bytes) -> str | None:
        """The service at a host, which is in lower case and without port."""
        return self._by_host.get(host, self.only)


def _hosts(site: Site, base_domains: Sequence[str]) -> list[str]:
    hosts = [site.fqdn] if site.fqdn else []
    label = site.cname or (None if site.fqdn else site.service)
    if label:
        hosts += [f"{label}.{base}" for base in ("localhost", *base_domains)]
    return hosts
