"""The hot path in instructions, which neither a slow machine nor a busy one changes: a regression is seen before it is felt.

callgrind counts what the processor would execute, of all threads. A count means little by itself, so each is held against the same
driver's greeting from bare Starlette, in the same process: that evens out interpreters and compilers. Python 3.11 to 3.13, as
Debian builds it and as pyenv does, differ by 6 % at most; two runs with one interpreter by less than 1 %.

A change that makes the path shorter is pinned by writing what the failure, or `pytest -s`, prints into PINNED.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lacking import lack
from tests.process.hot_path import PHASES, STARLETTE

pytestmark = pytest.mark.process

PINNED = {  # instructions of a request over those of a greeting from bare Starlette
    "GET /": 0.80,
    "GET /kv": 1.98,
    "POST /kv": 2.45,
    "POST /kv, sqlite": 2.65,
    "POST /sql, sqlite": 3.48,
}
MARGIN = 1.10
HOT_PATH = Path(__file__).with_name("hot_path.py")
LIMIT_S = 300.0  # many times what it takes: a loaded machine is no failure
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def valgrind() -> str:
    """The path of valgrind. In CI its absence is a failure."""
    path = shutil.which("valgrind")
    if path is None:
        lack("valgrind is not installed")
    return path


def count(valgrind: str, directory: Path, *flags: str) -> dict[str, float]:
    """The instructions of each phase over those of the greeting."""
    output = directory / "counted"
    tool = [valgrind, "--tool=callgrind", f"--callgrind-out-file={output}", "--dump-before=getpgrp"]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    program = [sys.executable, str(HOT_PATH), str(directory / "data"), *flags]
    result = subprocess.run([*tool, *program], capture_output=True, text=True, timeout=LIMIT_S, env=environ, check=False)
    assert result.returncode == 0, result.stderr
    dumps = [output.with_name(f"{output.name}.{number + 2}") for number in range(len(PHASES))]  # the first is what came before
    totals = [int(_TOTALS.findall(dump.read_text())[0]) for dump in dumps]
    ratios = {phase.name: total / totals[0] for phase, total in zip(PHASES, totals, strict=True)}
    print(", ".join(f'"{name}": {ratio:.3f}' for name, ratio in ratios.items()))
    return ratios


@pytest.fixture(scope="module")
def measured(valgrind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The path as it is."""
    return count(valgrind, tmp_path_factory.mktemp("measured"))


def longer(ratios: Mapping[str, float], pinned: Mapping[str, float]) -> list[str]:
    """The phases that are over their pin."""
    return [name for name, pin in pinned.items() if ratios[name] > pin * MARGIN]


def test_the_hot_path_is_as_short_as_it_was(measured: dict[str, float]) -> None:
    """A request costs no more instructions, in greetings from bare Starlette, than what is pinned here and a margin of 10 %."""
    assert [phase.name for phase in PHASES] == [STARLETTE, *PINNED]
    assert longer(measured, PINNED) == [], f"measured {measured}, pinned {PINNED}"


def test_a_longer_path_is_found(valgrind: str, measured: dict[str, float], tmp_path: Path) -> None:
    """The planted slow-down: with one more JSON document for each request no phase is within the margin."""
    slowed = count(valgrind, tmp_path, "slow")
    assert longer(slowed, {name: measured[name] for name in PINNED}) == list(PINNED)
