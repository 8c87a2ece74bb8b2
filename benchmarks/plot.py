"""A report as pictures: bars in the terminal, and a PNG where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table

from benchmarks.figures import Summary, summaries
from benchmarks.goals import STEAD
from benchmarks.report import Report

try:
    from matplotlib.figure import Figure as Figure
except ImportError:
    Figure = None

BAR_COLUMNS = 60
PANEL_COLUMNS = 2
PANEL_INCHES = (6.4, 2.4)
STEAD_COLOUR, PEER_COLOUR = "#1f6f54", "#b9b4a7"

Panels = dict[str, list[tuple[str, Summary]]]


def panels(report: Report) -> Panels:
    """The summaries under the title of their workload; all points of one growth share a panel."""
    grouped: Panels = {}
    for (workload, variant, contender), summary in summaries(report).items():
        if summary is not None:
            growth, _, point = variant.partition(": ")
            title = f"{workload} {growth}".strip()
            grouped.setdefault(title, []).append((point or contender, summary))
    return grouped


def render_bars(report: Report) -> RenderableType:
    """Requests a second, each workload on its own scale."""
    parts: list[RenderableType] = []
    for title, bars in panels(report).items():
        longest = max(summary.rate for _, summary in bars)
        table = Table(title=f"{title}, requests/s", title_justify="left", box=None, show_header=False)
        for name, summary in bars:
            colour = "green" if _is_stead(title, name) else "white"
            table.add_row(name, Bar(longest, 0, summary.rate, width=BAR_COLUMNS, color=colour), f"{summary.rate:,.0f}")
        parts.append(table)
    return Group(*parts)


def save_png(report: Report, path: Path) -> bool:
    """Write the picture: medians as bars, the spread as a line on each. False if matplotlib is not installed."""
    if Figure is None:
        return False
    grouped = panels(report)
    rows = max(1, -(-len(grouped) // PANEL_COLUMNS))
    figure = Figure(figsize=(PANEL_COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(rows, PANEL_COLUMNS, squeeze=False).ravel()
    for axis, (title, bars) in zip(axes, grouped.items(), strict=False):
        names = [name for name, _ in bars]
        rates = [summary.rate for _, summary in bars]
        spread = [[summary.rate - summary.low for _, summary in bars], [summary.high - summary.rate for _, summary in bars]]
        colours = [STEAD_COLOUR if _is_stead(title, name) else PEER_COLOUR for name in names]
        axis.barh(names, rates, xerr=spread, color=colours, error_kw={"linewidth": 1})
        axis.invert_yaxis()
        axis.set_title(f"{title}, requests/s", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(grouped) :]:
        axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return True


def _is_stead(title: str, name: str) -> bool:
    return name == STEAD or title.startswith("W7")
