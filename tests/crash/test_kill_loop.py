"""The kill loop for a few rounds, and the planted bugs that it must find. `kill_loop.py --rounds 20` is the whole of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

LIMIT_S = 120.0  # many times what it takes: a loaded machine is no failure


def kill_loop(*options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the outcomes of the script."""
    command = [sys.executable, str(Path(__file__).with_name("kill_loop.py")), *options, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_what_was_acknowledged_survives_kill_9() -> None:
    """Items, counters, keys, SQL, attributes and alarms: all that was answered is there after every kill, whole and once."""
    code, outcomes = kill_loop("--rounds", "3", "--clients", "32", "--only", "carts", "--only", "counters", "--only", "ledgers")
    assert [outcome["faults"] for outcome in outcomes] == [[]] * 9 and code == 0
    assert all(outcome["acknowledged"] > 0 for outcome in outcomes)


def test_orders_end_after_kill_9() -> None:
    """Requests repeated with their keys, steps over four actors: money, stock and carts add up after every kill."""
    code, outcomes = kill_loop("--rounds", "2", "--clients", "8", "--only", "orders")
    assert [outcome["faults"] for outcome in outcomes] == [[], []] and code == 0
    assert all(outcome["acknowledged"] > 0 for outcome in outcomes)


@pytest.mark.parametrize(
    ("bug", "workload", "said"),
    [
        ("early", "carts", "is lost"),
        ("early", "counters", "went back"),
        ("torn", "ledgers", "is torn|was answered with 503"),
        ("twice", "carts", "times"),
    ],
)
def test_a_planted_bug_is_found(bug: str, workload: str, said: str) -> None:
    """Answers before the commit, batches in parts and events delivered twice do not get past the same checks."""
    code, outcomes = kill_loop("--rounds", "3", "--bug", bug, "--only", workload, "--seed", "3")
    assert code == 1
    assert any(re.search(said, fault) for outcome in outcomes for fault in outcome["faults"])
