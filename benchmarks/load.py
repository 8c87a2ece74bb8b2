"""Steady load by wrk: one thread on the clients' core, a fixed time, every answer counted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cores import CLIENT_CORE

SCRIPT = Path(__file__).with_name("load.lua")
ANSWER_TIMEOUT_S = 30  # a stalled server is an error of the run, not an outlier
_FIGURES = re.compile(r"^figures requests=(\d+) microseconds=(\d+) p50=(\d+) p99=(\d+) refused=(\d+) broken=(\d+)$", re.MULTILINE)


class LoadFailed(Exception):
    """The load could not be generated, or the server did not answer it."""


@dataclass(frozen=True)
class Load:
    """What to ask for: `method` on `prefix` followed by a number below `ids`, or on `prefix` itself where `ids` is 0."""

    method: str
    prefix: str
    ids: int
    connections: int

    def times(self, factor: int) -> Load:
        """The same by so many times the connections."""
        return replace(self, connections=self.connections * factor)

    def paths(self) -> list[str]:
        return [f"{self.prefix}{number}" for number in range(self.ids)] if self.ids else [self.prefix]


@dataclass(frozen=True)
class Sample:
    """What came of it."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    fault: str = ""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def missing_load() -> str:
    """What has to be installed before anything can be loaded, "" if nothing."""
    return "" if shutil.which("wrk") else "wrk is not installed: on Debian and Ubuntu, apt-get install wrk"


def run_load(port: int, load: Load, seconds: int) -> Sample:
    return run_loads([port], load, seconds)[0]


def run_loads(ports: Sequence[int], load: Load, seconds: int) -> list[Sample]:
    """The load's connections in equal parts on each port, at the same time."""
    running = [
        subprocess.Popen(_command(ports, part, load, seconds), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in range(len(ports))
    ]
    said = [process.communicate() for process in running]
    for process, (output, errors) in zip(running, said, strict=True):
        if process.returncode:
            raise LoadFailed(f"wrk failed: {(errors or output).strip()}")
    return [parse_figures(output) for output, _ in said]


def _command(ports: Sequence[int], part: int, load: Load, seconds: int) -> list[str]:
    command = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{load.connections // len(ports)}", f"-d{seconds}s"]
    command += [f"--timeout={ANSWER_TIMEOUT_S}s", "-s", str(SCRIPT), f"http://127.0.0.1:{ports[part]}"]
    start = load.ids * part // len(ports)  # else all parts would ask for the same actor at the same moment
    return [*command, "--", load.method, load.prefix, str(load.ids), str(start)]


def parse_figures(output: str) -> Sample:
    """The sample in the last line of `load.lua`. Raises `LoadFailed` if there is none."""
    match = _FIGURES.search(output)
    if match is None:
        raise LoadFailed(f"wrk printed no figures: {output[-200:]!r}")
    requests, microseconds, p50, p99, refused, broken = (int(group) for group in match.groups())
    fault = f"{refused} answers were errors, {broken} never came" if refused or broken else ""
    return Sample(requests, microseconds / 1e6, p50 / 1000, p99 / 1000, fault)
