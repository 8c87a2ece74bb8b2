"""This machine, and the data directory on it."""

from __future__ import annotations

import os
import re
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from stead.admin.address import find_server
from stead.admin.doctor.finding import Finding, failed, note, ok, warning
from stead.clock import Clock

FREE_BYTES_MIN = 256 * 1024 * 1024  # below it a commit, or the copying back of a log, may fail any moment
FREE_BYTES_WANTED = 2 * 1024 * 1024 * 1024
FLUSH_S_SLOW = 0.05  # every commit waits for one
FILES_MIN = 1024  # a WebSocket is one, and so is a connection
FILES_WANTED = 8192
MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "ceph",
    "lustre",
    "afs",
    "glusterfs",
    "virtiofs",
)
_LIMITS = re.compile(r"^Max open files +(\d+|unlimited) +(\d+|unlimited)", re.MULTILINE)
_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Place:
    """A data directory. `holds_actors`: its files are the engine."""

    data: Path
    holds_actors: bool


def machine_findings(place: Place, clock: Clock, mounts: Path = MOUNTS) -> list[Finding]:
    """The data directory, its disk, and the limit of open files: the server's, if one runs here, else this process's own."""
    return [*_directory(place, clock), *_disk(place, mounts), open_files(*_files_limits(place.data))]


def _directory(place: Place, clock: Clock) -> list[Finding]:
    subject, data = "data directory", place.data
    if not data.exists():
        nearest = _nearest(data)
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            return [failed(subject, f"{data} cannot be made: {nearest} is not ours to write", "name another one with --data")]
        return [note(subject, f"{data} is not there yet; the first start makes it")]
    if not data.is_dir():
        return [failed(subject, f"{data} is a file", "name a directory with --data")]
    try:
        flush_s = _flush_s(data, clock)
    except OSError as exc:
        remedy = "free space, or correct owner and permissions: the server's user must be able to write there"
        return [failed(subject, f"{data} cannot be written: {exc.strerror or exc}", remedy)]
    server = find_server(data)
    served = "" if server is None else f", served by process {server.pid} at {server.url}"
    return [ok(subject, f"{data} can be written{served}"), _flush(place, flush_s)]


def _flush_s(data: Path, clock: Clock) -> float:
    """How long the disk takes to make a page durable."""
    with TemporaryFile(dir=data) as file:
        file.write(bytes(4096))
        file.flush()
        began_s = clock.elapsed_s()
        os.fsync(file.fileno())
        return clock.elapsed_s() - began_s


def _flush(place: Place, flush_s: float) -> Finding:
    found = f"{flush_s * 1000:.1f} ms to make a page durable"
    if place.holds_actors and flush_s > FLUSH_S_SLOW:
        return warning("disk flush", found, "every commit waits as long: use a local SSD")
    return ok("disk flush", found)


def _disk(place: Place, mounts: Path) -> list[Finding]:
    nearest = _nearest(place.data)
    usage = shutil.disk_usage(nearest)
    return [free_space(usage.free, usage.total), file_system(place, _file_system_of(nearest, mounts))]


def free_space(free_bytes: int, total_bytes: int) -> Finding:
    """Whether the disk has room."""
    found = f"{free_bytes / 1024**3:,.1f} GiB of {total_bytes / 1024**3:,.1f} GiB are free"
    if free_bytes < FREE_BYTES_MIN:
        return failed("disk space", found, "make room: commits fail when it is used up, and go on when there is some")
    if free_bytes < FREE_BYTES_WANTED:
        return warning("disk space", found, "make room before it is used up")
    return ok("disk space", found)


def file_system(place: Place, kind: str) -> Finding:
    """Whether what is stored there is safe."""
    subject, found = "file system", f"{place.data} is on {kind}"
    if kind.startswith(_NETWORK):
        if place.holds_actors:
            remedy = "use a local disk, or --engine postgres://…: SQLite's log and locks do not work over a network"
            return failed(subject, f"{found}, which is on a network", remedy)
        return note(subject, f"{found}, which is on a network: give each node a directory of its own")
    if kind in _MEMORY:
        return warning(subject, f"{found}, which is memory", "use a disk: all of it is gone with the machine's next start")
    return ok(subject, found)


def open_files(soft: int, hard: int) -> Finding:
    """Whether the process may have as many files and connections as it will want."""
    found = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} at a time"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        return ok("open files", found)
    possible = "" if hard == resource.RLIM_INFINITY or hard > soft else " (as root: the hard limit is as low)"
    remedy = f"every connection is one: LimitNOFILE=65536 in the systemd unit, or `ulimit -n 65536`{possible}"
    return (failed if soft < FILES_MIN else warning)("open files", found, remedy)


def _files_limits(data: Path) -> tuple[int, int]:
    """The soft and the hard one."""
    server = find_server(data) if data.is_dir() else None
    if server is not None:
        try:
            found = _LIMITS.search(Path(f"/proc/{server.pid}/limits").read_text())
        except OSError:
            found = None  # it has just ended, is another user's, or this is not Linux
        if found is not None:
            soft, hard = (resource.RLIM_INFINITY if limit == "unlimited" else int(limit) for limit in found.groups())
            return soft, hard
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _nearest(path: Path) -> Path:
    """The directory itself, or what there is of the way to it."""
    path = path.resolve()
    return path if path.exists() else _nearest(path.parent)


def _file_system_of(path: Path, mounts: Path) -> str:
    """The kind of the file system that `path` is on; the last mount over the longest prefix counts."""
    best, kind = "", "unknown"
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return kind  # not a Linux machine
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode("latin-1", "backslashreplace").decode("unicode_escape")  # a space is \\040
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind
