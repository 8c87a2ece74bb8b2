"""The torture for some seconds, and the planted bugs that it must find. `make torture` is the whole of it, and runs those."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.scripts import run_script

pytestmark = pytest.mark.process

LIMIT_S = 240.0  # many times what it takes: a loaded machine is no failure


def torture(*options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the outcome."""
    return run_script("tests.torture", *options, limit_s=LIMIT_S)


def test_a_cluster_under_attack_keeps_its_promises() -> None:
    """Nodes are killed and frozen: what was acknowledged is there, once and in order, and all comes back."""
    code, outcome = torture("--seconds", "6", "--every", "1.5", "--rounds", "0", "--clients", "12", "--slack-s", "10")
    assert outcome["faults"] == [] and code == 0
    assert outcome["acknowledged"] > 100 and sum(outcome["struck"].values()) >= 2


@pytest.mark.skipif("STEAD_TORTURE" not in os.environ, reason="minutes of real time: `make torture` runs it")
@pytest.mark.parametrize(
    ("bug", "fault", "said"), [("early", "kill -9", "was given 2 times|was seen"), ("stale", "freeze", "was seen|can come next")]
)
def test_a_planted_bug_is_found(bug: str, fault: str, said: str) -> None:
    """Answers before the commit, and answers of an owner that is none any more."""
    code, outcome = torture("--seconds", "10", "--rounds", "0", "--clients", "24", "--only", fault, "--bug", bug)
    assert code == 1
    assert any(re.search(said, found) for found in outcome["faults"])
