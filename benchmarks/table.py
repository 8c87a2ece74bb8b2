"""A report as tables: in the terminal by rich, in a page by Markdown. Both show the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks import databases, distances, price, scaling
from benchmarks.figures import Summary, flushes_per_request, summaries
from benchmarks.goals import STEAD, Verdict, judge, ratio_of
from benchmarks.report import Report
from benchmarks.workloads import TITLES

COLUMNS = ("", "requests/s", "spread", "p50 ms", "p99 ms", "CPU", "µs/req", "peak MiB", "bytes/req", "flushes/req", "Stead is")
VERDICT_COLUMNS = ("", "ahead means", "measured", "ahead")
MEMORY_COLUMNS = ("", "item", "count", "bytes each", "Stead takes")
MEMORY_TITLE = "W6: memory"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Section:
    """The rows of one workload, each as long as COLUMNS."""

    title: str
    rows: list[Sequence[str]]


def sections(report: Report) -> list[Section]:
    """One for each workload and variant that was run; the points of a growth are rows of one."""
    made: dict[tuple[str, str], Section] = {}
    found = summaries(report)
    for (workload, variant, contender), summary in found.items():
        part, _, point = variant.partition(": ")
        title = f"{workload}: {part}" if part else f"{workload}: {TITLES.get(workload, '')}"
        section = made.setdefault((workload, part), Section(title, []))
        stead = found.get((workload, variant, STEAD)) if contender != STEAD else None
        flushes = None if variant else flushes_per_request(report, workload, contender)
        section.rows.append(_row(point or contender, summary, stead, flushes))
    return list(made.values())


def _row(contender: str, summary: Summary | None, stead: Summary | None, flushes: float | None) -> Sequence[str]:
    if summary is None:
        return (contender, "does not count", *("",) * (len(COLUMNS) - 2))
    return (
        contender,
        f"{summary.rate:,.0f}" if summary.rate >= 100 else f"{summary.rate:.1f}",
        f"± {summary.spread_percent:.0f} %",
        f"{summary.p50_ms:.2f}" if summary.p50_ms else "",
        f"{summary.p99_ms:.2f}" if summary.p99_ms else "",
        f"{summary.cpu_percent:.0f} %" if summary.cpu_percent else "",
        _micros(summary.cpu_us_per_request),
        f"{summary.memory_peak_bytes / MIB:,.0f}" if summary.memory_peak_bytes else "",
        f"{summary.bytes_per_request:,.0f}" if summary.memory_peak_bytes else "",
        "" if flushes is None else f"{flushes:.3f}",
        "" if stead is None else f"{ratio_of(stead, summary):.2f} ×",
    )


def _micros(value: float) -> str:
    return "" if not value else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def verdicts(report: Report) -> list[Verdict]:
    """Of the workloads that were run."""
    ran = {run.workload for run in report.runs}
    return [verdict for verdict in judge(report) if verdict.workload in ran]


def verdict_row(verdict: Verdict) -> Sequence[str]:
    name = f"{verdict.workload} {verdict.variant}".strip()
    shown = {True: "yes", False: "NO", None: "–"}[verdict.is_reached]
    return (name, verdict.aim, verdict.measured, shown)


def memory_rows(report: Report) -> list[Sequence[str]]:
    """What an item costs in memory, and how many times a peer's that is for Stead. Each as long as MEMORY_COLUMNS."""
    own = {footprint.item: footprint.bytes_each for footprint in report.footprints if footprint.contender == STEAD}
    rows: list[Sequence[str]] = []
    for one in sorted(report.footprints, key=lambda footprint: footprint.item):
        ratio = f"{own[one.item] / one.bytes_each:.2f} ×" if one.contender != STEAD and one.item in own else ""
        rows.append((one.contender, one.item, f"{one.count:,}", f"{one.bytes_each:,.0f}", ratio))
    return rows


def small_tables(report: Report) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Title, columns and rows of what is no workload's rate, where there is anything to show."""
    for title, columns, rows in (
        (MEMORY_TITLE, MEMORY_COLUMNS, memory_rows(report)),
        (databases.TITLE, databases.COLUMNS, databases.database_rows(report)),
        (scaling.COSTS_TITLE, scaling.COSTS_COLUMNS, scaling.costs_rows(report)),
        (scaling.TITLE, scaling.COLUMNS, scaling.cluster_rows(report)),
        (distances.TITLE, distances.COLUMNS, distances.distance_rows(report)),
        (price.TITLE, price.COLUMNS, price.price_rows(report)),
    ):
        if rows:
            yield title, columns, rows


def limit_lines(report: Report) -> list[str]:
    """The physical limits, a sentence each."""
    limits = report.limits
    if limits is None:
        return []
    flushes = f"{limits.appends:,.0f} to a file that grows, {limits.rewrites:,.0f} to a log used again"
    lines = [f"The disk, in flushes of 4 KiB a second: {flushes}."]
    if limits.wrk is not None and limits.client is not None:
        lines.append(
            f"The load: wrk takes {limits.wrk:,.0f} answers a second from the smallest server, W5's client {limits.client:,.0f}."
        )
    if limits.sockets is not None:
        lines.append(f"The sockets: W6's client hears {limits.sockets:,.0f} deliveries a second from the smallest room.")
    return lines


def remark_lines(report: Report) -> list[str]:
    """What was skipped, what failed, and every fault that made a run not count."""
    faults = [f"{run.workload} {run.variant} {run.contender}, repeat {run.repeat}: {run.fault}" for run in report.runs if run.fault]
    faults += [f"{proof.workload} {proof.contender}, flushes and kill: {proof.fault}" for proof in report.proofs if proof.fault]
    return [*report.notes, *faults]


def render(report: Report) -> RenderableType:
    """The whole report for a terminal."""
    parts: list[RenderableType] = [_section_table(section) for section in sections(report)]
    parts.extend(_small_table(*table) for table in small_tables(report))
    ahead = Table(*VERDICT_COLUMNS, title="Is Stead ahead?", title_justify="left")
    for verdict in verdicts(report):
        style = {True: "green", False: "bold red", None: "dim"}[verdict.is_reached]
        ahead.add_row(*verdict_row(verdict), style=style)
    parts.append(ahead)
    parts.extend(Text(line) for line in (*limit_lines(report), *remark_lines(report)))
    return Group(*parts)


def _small_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _section_table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in section.rows:
        table.add_row(*row, style="bold" if row[0] == STEAD else "")
    return table


def markdown(report: Report) -> str:
    """The whole report for a page."""
    lines = [f"{', '.join(f'{key} {value}' for key, value in report.machine.items())}; {report.made_at}; "]
    lines[0] += ", ".join(f"{key} {value}" for key, value in report.options.items())
    lines += ["", *_markdown_table(VERDICT_COLUMNS, [verdict_row(verdict) for verdict in verdicts(report)]), ""]
    for section in sections(report):
        lines += [f"**{section.title}**", "", *_markdown_table(COLUMNS, section.rows), ""]
    for title, columns, rows in small_tables(report):
        lines += [f"**{title}**", "", *_markdown_table(columns, rows), ""]
    lines += [*(f"* {line}" for line in (*limit_lines(report), *remark_lines(report))), ""]
    lines += [f"* {contender}: {version}" for contender, version in report.versions.items()]
    return "\n".join(lines)


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    ruler = ["---", *("--:" for _ in columns[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (columns, ruler, *rows)]
