"""The systemd unit, read by systemd itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lacking import lack

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "stead@.service"
LIMIT_S = 60


@pytest.fixture
def analyze() -> str:
    """The path of systemd-analyze. In CI its absence is a failure."""
    path = shutil.which("systemd-analyze")
    if path is None:
        lack("systemd is not installed")
    return path


def complaints(analyze: str, place: Path, text: str) -> str:
    """What systemd says of a unit whose program and user exist."""
    unit = place / "stead@shop.service"
    unit.write_text(text.replace("/srv/%i/.venv/bin/stead", "/bin/true").replace("=stead\n", "=root\n"))
    command = [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return "\n".join(line for line in result.stderr.splitlines() if unit.name in line or str(unit) in line)


def test_systemd_has_no_complaint(analyze: str, tmp_path: Path) -> None:
    """Every line is one that systemd knows, with a value that it can read."""
    assert complaints(analyze, tmp_path, UNIT.read_text()) == ""


def test_a_wrong_line_is_found(analyze: str, tmp_path: Path) -> None:
    """The check can fail."""
    assert "TimeoutStopSecs" in complaints(analyze, tmp_path, UNIT.read_text().replace("TimeoutStopSec=", "TimeoutStopSecs="))
