"""Which node is whose."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stead.logic.placement import SLACK, SLICES, Candidate, Wish, moves, rank_of, rendezvous, slice_of

ACTORS = [f"cart/{number}" for number in range(2000)]
NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


def nodes(*names: str) -> list[Candidate]:
    return [Candidate(number, name) for number, name in enumerate(names, 1)]


def homes(candidates: list[Candidate]) -> dict[str, str]:
    return {actor: found.name for actor in ACTORS if (found := rendezvous(actor, candidates)) is not None}


@given(names=NAMES, data=st.data())
def test_everybody_computes_the_same_home(names: list[str], data: st.DataObject) -> None:
    """A home depends on neither the order of the nodes nor on their incarnations."""
    candidates = nodes(*names)
    others = [msgspec.structs.replace(c, incarnation=100 - c.incarnation) for c in data.draw(st.permutations(candidates))]
    for actor in ACTORS[:20]:
        a, b = rendezvous(actor, candidates), rendezvous(actor, others)
        assert a is not None
        assert b is not None
        assert a.name == b.name


def test_no_node_no_home() -> None:
    """Where nobody is there is no home."""
    assert rendezvous("cart/a", []) is None


@given(names=NAMES)
def test_only_a_leavers_actors_move(names: list[str]) -> None:
    """When a node goes, the homes of all other actors stay; when it comes back it has the same ones."""
    candidates = nodes(*names, "one more!")
    before, after = homes(candidates), homes(candidates[:-1])
    assert {actor for actor in ACTORS if before[actor] != after[actor]} == {a for a in ACTORS if before[a] == "one more!"}


def test_shares_are_even_and_go_by_weight() -> None:
    """Nodes have like shares; one of twice the weight has twice as many."""
    counts = Counter(homes(nodes("a", "b", "c", "d")).values())
    assert all(400 < count < 600 for count in counts.values())
    heavy = [*nodes("a", "b"), Candidate(3, "c", weight=2.0)]
    counts = Counter(homes(heavy).values())
    assert 900 < counts["c"] < 1100


def test_names_that_differ_little_share_evenly() -> None:
    """Numbered nodes, as supervisors name them, do not follow each other in what they get."""
    counts = Counter(homes(nodes(*(f"stead-{number}" for number in range(10)))).values())
    assert min(counts.values()) > 140
    assert max(counts.values()) < 260


def test_wishes() -> None:
    """Region and labels choose among the nodes; a wish nobody meets is no obstacle; who drains comes last of all."""
    eu, us = Candidate(1, "eu", "eu", {"disk": "fast"}), Candidate(2, "us", "us")
    drained = Candidate(3, "eu2", "eu", is_draining=True)
    for actor in ACTORS[:50]:
        assert rendezvous(actor, [eu, us, drained], Wish("eu")) is eu
        assert rendezvous(actor, [eu, us, drained], Wish("us")) is us
        assert rendezvous(actor, [eu, us, drained], Wish(labels={"disk": "fast"})) is eu
        assert rendezvous(actor, [us, drained], Wish("eu")) is us
        assert rendezvous(actor, [us, drained], Wish("asia", {"disk": "slow"})) is us
        assert rendezvous(actor, [drained]) is drained


def test_slices_are_shared_out() -> None:
    """Every slice has one rank among the nodes there are, and no node is without slices."""
    for count in (1, 2, 3, 7):
        ranks = Counter(rank_of(number, count) for number in range(SLICES))
        assert set(ranks) == set(range(count))
        assert max(ranks.values()) - min(ranks.values()) <= 1
    assert {slice_of(actor) for actor in ACTORS} <= set(range(SLICES))
    assert slice_of("cart/a") == 914, "it is stored: it must never change"


OWNED = st.lists(st.integers(0, 300), min_size=1, max_size=5)


@given(counts=OWNED, moves_max=st.integers(0, 50), drains=st.lists(st.booleans(), min_size=5, max_size=5))
def test_moves_are_bounded_and_go_where_there_is_room(counts: list[int], moves_max: int, drains: list[bool]) -> None:
    """At most so many as asked, the hottest first, to others that do not drain; nobody gets above its share by it."""
    candidates = [Candidate(number, f"n{number}", is_draining=drains[number]) for number in range(len(counts))]
    owned = dict(enumerate(counts))
    mine = ACTORS[: counts[0]]
    chosen = moves(mine, 0, candidates, owned, moves_max)
    assert len(chosen) <= moves_max
    assert [actor for actor, _ in chosen] == [actor for actor in mine if actor in dict(chosen)]
    assert len(dict(chosen)) == len(chosen)
    assert not any(target == 0 or drains[target] for _, target in chosen)
    if drains[0]:
        assert len(chosen) == min(moves_max, len(mine)) * any(not drains[n] for n in range(1, len(counts)))
        return
    staying = [number for number in range(len(counts)) if number == 0 or not drains[number]]
    fair = -(-sum(counts[number] for number in staying) // len(staying))
    got = Counter(target for _, target in chosen)
    assert all(owned[target] + number <= fair for target, number in got.items())
    if counts[0] <= fair:
        assert chosen == []


@given(sizes=st.lists(st.integers(100, 400), min_size=2, max_size=4))
def test_several_nodes_fill_a_new_one_together(sizes: list[int]) -> None:
    """Nodes that all have too much do not overfill one that joined, though none asks the others."""
    candidates = [Candidate(number, f"n{number}") for number in range(len(sizes) + 1)]
    owned = {**dict(enumerate(sizes)), len(sizes): 0}
    fair = -(-sum(sizes) // len(candidates))
    arriving = 0
    for number, size in enumerate(sizes):
        actors = [f"{number}/{actor}" for actor in range(size)]
        arriving += sum(target == len(sizes) for _, target in moves(actors, number, candidates, owned, 1000))
    assert arriving <= fair


def test_moving_comes_to_rest() -> None:
    """A node that joins gets about its share in rounds of a few, and then nothing moves any more."""
    candidates = nodes("a", "b", "c")
    where = {actor: next(c.incarnation for c in candidates[:2] if c.name == name) for actor, name in homes(candidates[:2]).items()}
    for _ in range(200):
        owned = {c.incarnation: sum(node == c.incarnation for node in where.values()) for c in candidates}
        round_moves = [
            move
            for c in candidates
            for move in moves([a for a, n in where.items() if n == c.incarnation], c.incarnation, candidates, owned, 10)
        ]
        where.update(round_moves)
        if not round_moves:
            break
    else:
        raise AssertionError("it never comes to rest")
    counts = Counter(where.values())
    assert all(abs(counts[c.incarnation] - len(ACTORS) / 3) < len(ACTORS) / 3 * (SLACK + 0.1) for c in candidates)
