"""The walls of the house stand, and bite: for each, a planted breach is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import grimp
import pytest

import stead
from stead.cli.commands import COMMANDS, module_of
from stead.cli.job import WORKER

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stead"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FACADES = {  # what users import
    *("stead", "stead.client", "stead.rooms", "stead.yjs"),
    *("stead.testing", "stead.testing.conformance", "stead.testing.conformance_shared"),
    "stead.storage.postgres",  # imported by name, when a node is told to use it
}


def contracts_of(source: Path) -> tuple[bool, str]:
    """Whether the package in `source` keeps the import contracts, and what the linter says."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=source.parent,
        env={"PYTHONPATH": str(source.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr


def ruff_says(code: str, path: str = "src/stead/planted.py") -> str:
    """What the linter says of `code`, were it at `path`."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", f"--stdin-filename={path}", "-"],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package to plant a breach in."""
    return Path(shutil.copytree(SOURCE, tmp_path / "stead", ignore=shutil.ignore_patterns("__pycache__")))


def test_contracts_are_kept() -> None:
    """Imports point down, and decisions are pure."""
    kept, said = contracts_of(SOURCE)
    assert kept, said


@pytest.mark.parametrize(
    ("module", "breach", "said"),
    [
        ("errors.py", "import stead.ids", "stead.errors is not allowed to import stead.ids"),
        ("api/planted.py", "from stead import runtime", "stead.api is not allowed to import stead.runtime"),
        ("storage/planted.py", "import stead.manifest", "stead.storage is not allowed to import stead.manifest"),
        ("gateway/planted.py", "import stead.node", "stead.gateway is not allowed to import stead.node"),
        ("runtime/planted.py", "def late():\n    import stead.cli", "stead.runtime is not allowed to import stead.cli"),
        ("logic/planted.py", "import asyncio", "stead.logic is not allowed to import asyncio"),
        ("logic/planted.py", "from time import monotonic", "stead.logic is not allowed to import time"),
        ("utils.py", "", "stead.utils"),  # a new package has to say where in the layers it stands
    ],
)
def test_contracts_bite(copy: Path, module: str, breach: str, said: str) -> None:
    """A planted import against the layers, and a package outside them, is found and named."""
    with (copy / module).open("a") as file:
        file.write(f"\n{breach}\n")
    kept, text = contracts_of(copy)
    assert not kept
    assert said in text


@pytest.mark.parametrize(
    ("code", "rule", "advice"),
    [
        ("import time\ntime.time()\n", "banned-api", "Ask the Clock"),
        ("from time import monotonic\nmonotonic()\n", "banned-api", "Ask the Clock"),
        ("from datetime import datetime\ndatetime.now()\n", "banned-api", "Ask the Clock"),
        ("import asyncio\nasyncio.sleep(1)\n", "banned-api", "Clock.sleep"),
        ("import asyncio\ntask = asyncio.create_task(main())\n", "banned-api", "TaskGroup"),
        ("from random import Random\nRandom()\n", "banned-api", "ids.Chance"),
        ("import uuid\nuuid.uuid4()\n", "banned-api", "ids.Chance"),
        ("import pickle\npickle.loads(b'')\n", "banned-api", "stead.codec"),
        ("from unittest.mock import Mock\nMock()\n", "banned-api", "stead.testing"),
        ("def late():\n    import os\n    os.getcwd()\n", "import-outside-top-level", ""),
        ("try:\n    print()\nexcept Exception:\n    print()\n", "blind-except", ""),
        ("try:\n    print()\nexcept Exception:\n    pass\n", "try-except-pass", ""),
    ],
)
def test_bans_bite(code: str, rule: str, advice: str) -> None:
    """What decays unseen is refused with the sentence that names its replacement."""
    said = ruff_says(code)
    assert re.search(rf"{rule}|{CODES[rule]}", said), said
    assert re.search(advice, said), said


CODES = {  # newer releases of ruff print a rule's name, older ones its code
    "banned-api": "TID251",
    "import-outside-top-level": "PLC0415",
    "blind-except": "BLE001",
    "try-except-pass": "S110",
}


def entry_points() -> set[str]:
    project = PYPROJECT["project"]
    groups: Iterable[dict[str, str]] = [project["scripts"], *project["entry-points"].values()]
    commands = {module_of(command) for command in COMMANDS}  # imported by name, when asked for
    return commands | {WORKER} | {target.partition(":")[0] for group in groups for target in group.values()}


def unreached(package: Path, roots: set[str]) -> set[str]:
    """Modules that no chain of imports from `roots` reaches. Importing `a.b.c` runs `a` and `a.b` as well."""
    modules = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__") for path in package.rglob("*.py")
    }
    modules = {module for module in modules if ".templates" not in module}  # what `stead new` writes is data here
    graph = grimp.build_graph("stead", cache_dir=None)
    assert modules <= graph.modules, "grimp looks at another copy of the package"
    reached: set[str] = set()
    todo = list(roots & modules)
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            parent = module.rpartition(".")[0]
            todo += [*graph.find_modules_directly_imported_by(module), *([parent] if parent else [])]
    return modules - reached


def test_every_module_is_imported() -> None:
    """No module is dead: each is reached from an entry point or from what users import. Tests do not count."""
    assert not unreached(SOURCE, FACADES | entry_points())


def test_a_module_nobody_imports_is_found() -> None:
    """The planted breach: seen from `stead.clock` alone, all but it, what it imports and its parent is dead."""
    dead = unreached(SOURCE, {"stead.clock"})
    assert "stead.codec" in dead
    assert not dead & {"stead", "stead.clock", "stead.errors"}


def undocumented(names: Iterable[str], pages: Iterable[str]) -> set[str]:
    text = "\n".join(pages)
    return {name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)}


def test_public_means_documented_exported_and_typed() -> None:
    """Each name of `stead.__all__` exists and has its place in docs/, no public name is missing from it, and the types ship."""
    exported: list[str] = list(getattr(stead, "__all__", ()))
    assert len(set(exported)) == len(exported)
    assert {name for name in exported if not hasattr(stead, name)} == set()
    public = {name for name, value in vars(stead).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert public - set(exported) - {"annotations"} == set()
    assert undocumented(exported, (page.read_text() for page in (ROOT / "docs").rglob("*.md"))) == set()
    assert (SOURCE / "py.typed").exists()


def test_an_undocumented_name_is_found() -> None:
    """The planted breach: a name that only part of another word mentions is not documented."""
    assert undocumented(["Actor", "Act"], ["An `Actor` remembers."]) == {"Act"}
