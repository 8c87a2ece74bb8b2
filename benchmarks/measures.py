"""What a server costs: processor time, memory and bytes written from /proc, over all its processes; flushes from strace."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
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


def usage_of(pids: Iterable[int]) -> Usage:
    """The sum over the processes and their descendants."""
    family = [member for pid in pids for member in descent(pid)]
    return Usage(
        sum(cpu_s((PROC / str(pid) / "stat").read_text()) for pid in family),
        sum(field((PROC / str(pid) / "io").read_text(), "write_bytes") for pid in family),
        sum(1024 * field((PROC / str(pid) / "status").read_text(), "VmHWM") for pid in family),
        sum(1024 * field((PROC / str(pid) / "status").read_text(), "VmRSS") for pid in family),
    )


def descent(pid: int) -> list[int]:
    """The process and all below it."""
    children = [int(child) for task in (PROC / str(pid) / "task").iterdir() for child in (task / "children").read_text().split()]
    return [pid, *(member for child in children for member in descent(child))]


def cpu_s(stat: str) -> float:
    """User and system time in the text of /proc/PID/stat; the command in it may hold spaces and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


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
