"""What a server costs: processor time, memory and bytes written from /proc, over all its processes; flushes from strace."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
FLUSH_CALLS = ("fsync", "fdatasync", "syncfs", "sync_file_range", "msync")
_FLUSH = re.compile(rf"^\d+ +(?:{'|'.join(FLUSH_CALLS)})\(", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """Since the processes began."""

    cpu_s: float
    written_bytes: int
    memory_peak_bytes: int
    memory_bytes: int  # resident now

    def since(self, before: Usage) -> Usage:
        """What was used after `before`; the peak and what is resident are as they are now."""
        return Usage(
            self.cpu_s - before.cpu_s, self.written_bytes - before.written_bytes, self.memory_peak_bytes, self.memory_bytes
        )


def usage_of(pids: Iterable[int]) -> Usage:
    """The sum over the processes and their descendants."""
    family = [usage for pid in pids for member in descent(pid) if (usage := _usage(member)) is not None]
    return Usage(
        sum(usage.cpu_s for usage in family),
        sum(usage.written_bytes for usage in family),
        sum(usage.memory_peak_bytes for usage in family),
        sum(usage.memory_bytes for usage in family),
    )


def descent(pid: int) -> list[int]:
    """The process and all below it."""
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended has none
        for task in (PROC / str(pid) / "task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [pid, *(member for child in children for member in descent(child))]


def cpu_s(stat: str) -> float:
    """User and system time in the text of /proc/PID/stat, that of children which have ended included.

    The command in it may hold spaces and parentheses.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def _usage(pid: int) -> Usage | None:
    """None of a process that has just ended: what it used is then its parent's."""
    place = PROC / str(pid)
    try:
        status = (place / "status").read_text()
        return Usage(
            cpu_s((place / "stat").read_text()),
            field((place / "io").read_text(), "write_bytes"),
            1024 * field(status, "VmHWM"),
            1024 * field(status, "VmRSS"),
        )
    except (FileNotFoundError, ProcessLookupError):
        return None


def field(text: str, name: str) -> int:
    """The number after `name:`, 0 where the kernel does not tell."""
    match = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def trace_prefix(output: Path) -> list[str]:
    """What to put before a command to have its flushes written to `output`, one a line, the other system calls undisturbed."""
    return ["strace", "-D", "-f", "-qq", "--seccomp-bpf", f"--trace={','.join(FLUSH_CALLS)}", "-o", str(output)]


def count_flushes(trace: str) -> int:
    """Flushes in the output of strace. A call that another thread interrupts has two lines and counts once."""
    return len(_FLUSH.findall(trace))
