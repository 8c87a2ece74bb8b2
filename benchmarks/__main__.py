"""`python -m benchmarks`: choose, run, show."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS, HERE, Contender
from benchmarks.cores import ARE_SHARED, pin_driver
from benchmarks.limits import measure_limits
from benchmarks.load import LoadFailed, missing_load
from benchmarks.page import fill
from benchmarks.plot import render_bars, save_png
from benchmarks.report import Report
from benchmarks.scaling import save_picture
from benchmarks.session import Plan, Session
from benchmarks.table import render
from benchmarks.workloads import WORKLOADS, Workload
from stead.clock import SystemClock

RESULTS = HERE / "results"
WIDTH = 132  # of the output where there is no terminal to ask
SECONDS, REPEATS, FIRSTS = 4, 3, 2000
QUICK_SECONDS, QUICK_REPEATS, QUICK_FIRSTS = 1, 1, 200
FILES_MAX = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
RESIDENTS, IDLE_SOCKETS = min(10_000, FILES_MAX // 4), 2000  # workerd keeps three files open for an actor
QUICK_RESIDENTS, QUICK_IDLE_SOCKETS = 500, 500
STORED = (1, 100, 10_000)
STORED_FULL = 1_000_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Stead's speed beside what people would use instead.")
    names = ",".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--only", metavar="NAMES", type=_workloads, default=WORKLOADS, help=f"some of {names}")
    contenders = ",".join(dict.fromkeys(contender.name for contender in CONTENDERS))
    parser.add_argument("--contenders", metavar="NAMES", type=_contenders, default=CONTENDERS, help=f"some of {contenders}")
    parser.add_argument("--seconds", type=int, help=f"of each measurement (default {SECONDS})")
    parser.add_argument("--repeats", type=int, help=f"of each measurement (default {REPEATS})")
    parser.add_argument("--quick", action="store_true", help="one short repeat of everything: shows that it works, not how fast")
    parser.add_argument("--full", action="store_true", help=f"W7 up to {STORED_FULL:,} stored actors")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="where to keep every run")
    parser.add_argument("--png", type=Path, default=RESULTS / "latest.png", help="where to put the plot")
    parser.add_argument("--data", type=Path, default=RESULTS / "data", help="where servers keep data: on the disk to be measured")
    parser.add_argument("--from", dest="source", metavar="JSON", type=Path, help="show an earlier report instead of running")
    parser.add_argument("--model", metavar="PICTURE", type=Path, help="draw what WPn says of many nodes (.svg or .png)")
    parser.add_argument("--page", type=Path, help="write the figures into this Markdown page")
    return parser.parse_args()


def _workloads(text: str) -> list[Workload]:
    return [workload for workload in WORKLOADS if workload.name in _known(text, {workload.name for workload in WORKLOADS})]


def _contenders(text: str) -> list[Contender]:
    return [contender for contender in CONTENDERS if contender.name in _known(text, {contender.name for contender in CONTENDERS})]


def _known(text: str, known: set[str]) -> set[str]:
    names = set(text.split(","))
    if names - known:
        raise argparse.ArgumentTypeError(f"no such name: {', '.join(sorted(names - known))}; there are {', '.join(sorted(known))}")
    return names


def plan_of(options: argparse.Namespace) -> Plan:
    """What was asked for, of the contenders that are installed."""
    return Plan(
        workloads=options.only,
        contenders=[contender for contender in options.contenders if not contender.missing()],
        seconds=options.seconds or (QUICK_SECONDS if options.quick else SECONDS),
        repeats=options.repeats or (QUICK_REPEATS if options.quick else REPEATS),
        firsts=QUICK_FIRSTS if options.quick else FIRSTS,
        stored=(*STORED, STORED_FULL) if options.full else STORED,
        residents=QUICK_RESIDENTS if options.quick else RESIDENTS,
        idle_sockets=QUICK_IDLE_SOCKETS if options.quick else IDLE_SOCKETS,
    )


def begin_report(plan: Plan, asked: Sequence[Contender], can_trace: bool) -> Report:
    """A report that says where and with what it was made, and what it has to do without."""
    machine = {
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
    report = Report(
        datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).isoformat(timespec="seconds"),
        machine,
        {"seconds": plan.seconds, "repeats": plan.repeats, "first requests": plan.firsts},
        {contender.name: contender.version() for contender in plan.contenders},
    )
    report.notes.extend(f"{contender.name} skipped: {missing}" for contender in asked if (missing := contender.missing()))
    if ARE_SHARED:
        report.notes.append("one core for servers and load: the figures measure both")
    if not can_trace:
        report.notes.append("flushes not counted: on Debian and Ubuntu, apt-get install strace")
    return report


def benchmark(options: argparse.Namespace, console: Console) -> Report:
    """Run it, and keep the report even of a benchmark that is broken off."""
    plan, can_trace = plan_of(options), shutil.which("strace") is not None
    report = begin_report(plan, options.contenders, can_trace)
    for note in report.notes:
        console.print(note, style="yellow")
    pin_driver()
    allow_files()
    options.data.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        TemporaryDirectory(prefix="bench-", dir=options.data) as data,
        Progress(*columns, console=console, refresh_per_second=1) as progress,  # seldom: it runs beside the load
    ):
        Path(data).chmod(0o755)  # PostgreSQL does not run as root, and its own user has to get there
        task = progress.add_task("the machine's limits", total=1 + plan.steps())
        try:
            report.limits = measure_limits(Path(data), plan.seconds)
            bench = Bench(
                plan.seconds, plan.repeats, report, Path(data), lambda text: progress.update(task, description=text, advance=1)
            )
            Session(plan, bench, can_trace).run()
            progress.update(task, description="done", advance=1)
        finally:
            report.save(options.json)
    return report


def allow_files() -> None:
    """Let us and the servers open as many files as may be: each socket is one."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if options.source is None:
        missing = missing_load()
        if missing:
            console.print(missing, style="red")
            return 1
        signal.signal(signal.SIGTERM, _interrupt)  # unwinds, so that every server is stopped
        try:
            report = benchmark(options, console)
        except LoadFailed as exc:
            console.print(str(exc), style="red")
            return 1
        console.print(f"every run: {options.json}")
    else:
        report = Report.load(options.source)
    console.print(render_bars(report))
    console.print(render(report))
    if save_png(report, options.png):
        console.print(f"plot: {options.png}")
    else:
        console.print("no PNG: make bench, or pip install -e '.[bench]' -c constraints.txt brings matplotlib", style="yellow")
    if options.model is not None and not save_picture(report, options.model):
        console.print("no picture of the model: it needs WPn, and matplotlib", style="yellow")
    if options.page is not None:
        fill(options.page, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
