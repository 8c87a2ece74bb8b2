"""P4 over several nodes: no reply, call, signal or HTTP answer is seen on any node before the writes before it are durable."""

from __future__ import annotations

from functools import partial

import pytest

from stead.testing import CLUSTER_TURN_SABOTAGES, check, find, sabotaged
from tests.properties import test_p4_gate
from tests.properties.stage import CLUSTER_SEEDS, Stage

scenario = partial(test_p4_gate.scenario, on=Stage)


def test_nothing_is_seen_before_it_is_durable() -> None:
    """Whoever sees a token, on whatever node and by whatever way, finds it in the database at that moment."""
    check(scenario, CLUSTER_SEEDS)


@pytest.mark.parametrize("name", [name for name, plant in CLUSTER_TURN_SABOTAGES.items() if plant.promise == "P4"])
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug makes the property fail."""
    with sabotaged(CLUSTER_TURN_SABOTAGES[name]):
        find(scenario)
