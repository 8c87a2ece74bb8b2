"""The kill loop for a few rounds, and the planted bugs that it must find. With `--rounds 20` it is the whole of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.scripts import run_script

pytestmark = pytest.mark.process

LIMIT_S = 240.0  # what hangs is named before: the loop gives up the first thing that does not come in 60 s, and stops there


def kill_loop(*options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the outcomes of the script."""
    return run_script("tests.crash.kill_loop", *options, limit_s=LIMIT_S)


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


@pytest.mark.parametrize("workload", ["queues", "signals"])
def test_messages_take_effect_once_after_kill_9(workload: str) -> None:
    """Messages and signals, of requests and of turns: all in effect once, none waiting, poison among the dead letters alone."""
    code, outcomes = kill_loop("--rounds", "3", "--clients", "8", "--only", workload)
    assert [outcome["faults"] for outcome in outcomes] == [[]] * 3 and code == 0
    assert all(outcome["acknowledged"] > 0 for outcome in outcomes)


@pytest.mark.parametrize(
    ("bug", "workload", "said"),
    [
        ("early", "carts", "is lost"),
        ("early", "counters", "went back"),
        ("torn", "ledgers", "is torn|was answered with 503"),
        ("twice", "carts", "times"),
        ("messages_deleted_when_taken", "queues", "is lost"),
        ("nobody_looks_after_a_crash", "queues", "messages, and no alarm"),
        ("poison_dropped", "queues", "is not in letters"),
        ("results_not_kept", "queues", "2 times in tallies"),
        ("signals_in_memory_only", "signals", "is lost"),
        ("signals_of_an_earlier_life_forgotten", "signals", "signals, and no alarm"),
        ("signals_settled_when_sent", "signals", "is lost"),
        ("signals_without_receipt", "signals", "was taken 2 times"),
    ],
)
def test_a_planted_bug_is_found(bug: str, workload: str, said: str) -> None:
    """Answers before the commit, batches in parts, events delivered twice, work that only memory knows: all is seen."""
    code, outcomes = kill_loop("--rounds", "12", "--bug", bug, "--only", workload, "--seed", "3")
    assert code == 1
    assert any(re.search(said, fault) for outcome in outcomes for fault in outcome["faults"])
