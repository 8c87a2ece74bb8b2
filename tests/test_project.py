"""The repository keeps what it says of itself: pins, pages, promises."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("DESIGN.md")])
SOURCE = ROOT / "src" / "stead"
DESIGNS = sorted(SOURCE.rglob("DESIGN.md"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned() -> None:
    """constraints.txt holds exact versions only, no place of this machine, and one for each dependency of pyproject.toml."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+", line)] == []
    pinned = {normal(line.partition("==")[0]) for line in lines}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = [match.group() for match in (re.match(r"[A-Za-z0-9_.-]+", want) for want in wanted) if match]
    assert len(names) == len(wanted)
    assert {normal(name) for name in names} - pinned == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link from one page to a file of the repository finds it."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    dead = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert dead == []


def test_decisions_are_numbered() -> None:
    """Decision records are numbered from 0001 without gaps, and say what was decided, why, and what it costs."""
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    for page in DECISIONS:
        headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert headings == ["Decision", "Why", "What it costs"], page.name


@pytest.mark.parametrize("page", DESIGNS, ids=lambda page: page.parent.name)
def test_a_design_names_each_file_of_its_package(page: Path) -> None:
    """Whoever opens a package for the first time finds every file in its page, and no file that is not there."""
    text = page.read_text()
    named = {part for path in re.findall(r"`([a-z0-9_*/]+?)(?:\.py|/)?`", text) for part in path.split("/")}
    parts = [path.stem for path in page.parent.glob("*.py") if path.stem != "__init__"]
    parts += [path.parent.name for path in page.parent.glob("*/__init__.py")]
    assert [part for part in parts if not any(fnmatch(part, name) for name in named)] == []
    for name in re.findall(r"`([a-z0-9_/]+\.py)`", text):
        assert any(page.parent.rglob(name)) or (SOURCE / name).exists() or (ROOT / name).exists(), name


def test_every_promise_has_its_property() -> None:
    """docs/promises.md names a property test for each promise that is not marked as planned, and every property test is named."""
    rows = re.findall(r"^\| (P\d+) \|.*\| ([^|]+) \|$", (ROOT / "docs" / "promises.md").read_text(), re.MULTILINE)
    assert [number for number, _ in rows] == [f"P{number}" for number in range(1, len(rows) + 1)]
    kept = {number.lower() for number, test in rows if "planned" not in test}
    tested = {path.name.split("_")[1] for path in (ROOT / "tests" / "properties").glob("test_p*.py")}
    assert tested == kept
