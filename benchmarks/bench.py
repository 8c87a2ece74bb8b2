"""What every session of a benchmark works with, and how what it counted becomes a run of the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Sample
from benchmarks.measures import Usage
from benchmarks.report import Report, Run, Shared


@dataclass(frozen=True)
class Bench:
    """`data` is on the disk under test, `on_step` is told what comes next."""

    seconds: int  # of a run
    repeats: int
    report: Report
    data: Path
    on_step: Callable[[str], None]

    @contextmanager
    def fresh(self, name: str) -> Iterator[Path]:
        """An empty directory on the disk under test, gone afterwards."""
        directory = self.data / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


@dataclass(frozen=True)
class Trial:
    """One contender under one workload, once: what the fields of `Run` with these names say."""

    workload: str
    variant: str
    contender: str
    repeat: int

    def run(self, sample: Sample, used: Usage, shared: Shared | None = None) -> Run:
        """What came of the load, and what the server used for it."""
        return Run(
            self.workload,
            self.variant,
            self.contender,
            self.repeat,
            sample.requests,
            sample.seconds,
            sample.p50_ms,
            sample.p99_ms,
            used.cpu_s,
            used.memory_peak_bytes,
            used.written_bytes,
            sample.fault,
            shared,
        )

    def failed(self, fault: str) -> Run:
        """Nothing came of it."""
        return Run(self.workload, self.variant, self.contender, self.repeat, 0, 0.0, 0.0, 0.0, fault=fault)
