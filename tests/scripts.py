"""The scripts of this folder that take minutes, run for some seconds by tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_script(module: str, *options: str, limit_s: float) -> tuple[int, Any]:
    """The exit code of `python -m module options --json`, and what it said."""
    command = [sys.executable, "-m", module, *options, "--json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)
