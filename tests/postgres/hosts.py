"""Hosts of one's own: network namespaces, each with a wire to the others and one to the database, which can be cut.

A wire that is down drops what is sent over it without a word, as a cable that is pulled does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.lacking import lack

NETWORK = f"10.{200 + os.getpid() % 50}"  # several test runs of one machine have networks of their own
PREFIX = f"st{os.getpid() % 100_000}"


class Host:
    """One of them; `number` counts from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.space = f"{PREFIX}h{number}"
        self.address = f"{NETWORK}.0.{number}"  # for the others, and for clients
        self.near = f"{NETWORK}.{number}.2"  # for clients when the others are out of reach
        self.database = f"{NETWORK}.{number}.1"  # where this host finds the database

    @property
    def tracer(self) -> tuple[str, ...]:
        """What begins a command that runs on it."""
        return ("ip", "netns", "exec", self.space)

    def cut(self, wire: str, *, is_up: bool = False) -> None:
        """Take down the wire to "peers" or to the "database"."""
        ip(f"link set {PREFIX}{wire[0]}{self.number} {'up' if is_up else 'down'}")

    def mend(self) -> None:
        for wire in ("peers", "database"):
            self.cut(wire, is_up=True)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts. Skips the test where none can be made."""
    if shutil.which("ip") is None:
        lack("ip (iproute2) is not installed")
    if subprocess.run(["ip", "netns", "add", f"{PREFIX}probe"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here: it takes root and the right to administer the network")
    ip(f"netns delete {PREFIX}probe")
    bridge = f"{PREFIX}b"
    with ExitStack() as stack:
        ip(f"link add {bridge} type bridge")
        stack.callback(ip, f"link delete {bridge}")
        ip(f"address add {NETWORK}.0.254/24 dev {bridge}")
        ip(f"link set {bridge} up")
        made = [Host(number) for number in range(1, count + 1)]
        for host in made:
            ip(f"netns add {host.space}")
            stack.callback(ip, f"netns delete {host.space}")
            ip(f"-n {host.space} link set lo up")
            _wire(host, "p", f"{host.address}/24")
            ip(f"link set {PREFIX}p{host.number} master {bridge}")
            _wire(host, "d", f"{host.near}/24")
            ip(f"address add {host.database}/24 dev {PREFIX}d{host.number}")
        yield made


def _wire(host: Host, kind: str, address: str) -> None:
    outside, inside = f"{PREFIX}{kind}{host.number}", f"in{kind}"
    ip(f"link add {outside} type veth peer name {inside} netns {host.space}")
    ip(f"link set {outside} up")
    ip(f"-n {host.space} address add {address} dev {inside}")
    ip(f"-n {host.space} link set {inside} up")


def ip(arguments: str) -> None:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"
