"""Whether calls wait for each other in a circle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stead.logic.waiting import find_circle


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
        self.waits: list[Thing] = []


graphs = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20), st.integers(0, n - 1)
    )
)


@given(graphs)
def test_a_path_is_found_exactly_when_there_is_one(graph: tuple[int, list[tuple[int, int]], int]) -> None:
    """The answer is a real path from the start to the end, and None means there is none."""
    count, edges, goal = graph
    things = [Thing(number) for number in range(count)]
    reachable = {0}
    for source, target in edges:
        things[source].waits.append(things[target])
    for _ in range(count):
        reachable |= {target for source, target in edges if source in reachable}
    path = find_circle([things[0]], lambda thing: thing.number == goal, lambda thing: thing.waits)
    assert (path is not None) is (goal in reachable)
    if path is not None:
        assert path[0] is things[0] and path[-1] is things[goal]
        assert all(after in before.waits for before, after in zip(path, path[1:], strict=False))
