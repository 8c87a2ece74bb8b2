"""The page that shows a report: `docs/performance.md` keeps a place for it between two marks."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Report
from benchmarks.table import markdown

BEGIN = "<!-- figures: python -m benchmarks --from JSON --page PAGE -->"
END = "<!-- end of figures -->"


class PageUnmarked(Exception):
    """The page has no place for figures."""


def fill(page: Path, report: Report) -> None:
    """Replace what is between the marks. Raises `PageUnmarked` if they are not there."""
    page.write_text(filled(page.read_text(), markdown(report)))


def filled(text: str, figures: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageUnmarked(f"the page needs the lines {BEGIN} and {END}, and the figures go between them")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"
