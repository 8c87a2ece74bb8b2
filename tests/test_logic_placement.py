"""Which node is whose."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stead.logic.placement import ANYWHERE, SLICES, Candidate, Wish, moves, rank_of, rendezvous, slice_of

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


REGIONS = st.sampled_from(["", "eu", "us"])
WISHES = st.builds(Wish, region=REGIONS, is_strict=st.booleans())
CLUSTERS = st.lists(st.tuples(REGIONS, st.booleans()), min_size=1, max_size=6).map(
    lambda facts: [
        Candidate(number, f"n{number}", region, is_draining=is_draining) for number, (region, is_draining) in enumerate(facts)
    ]
)


@given(candidates=CLUSTERS, wish=WISHES, newcomers=st.sets(st.integers(0, 5)), data=st.data())
def test_what_moves_goes_home(candidates: list[Candidate], wish: Wish, newcomers: set[int], data: st.DataObject) -> None:
    """An actor moves to its home only, which is a newcomer or meets a wish that is not met here; the order is as given."""
    own = data.draw(st.sampled_from(candidates))
    mine = ACTORS[:60]
    chosen = moves([(actor, wish) for actor in mine], own, candidates, newcomers)
    assert [actor for actor, _ in chosen] == [actor for actor in mine if actor in dict(chosen)]
    for actor, target in chosen:
        node = candidates[target]
        assert node is not own
        assert not node.is_draining
        assert not own.is_draining
        assert rendezvous(actor, candidates, wish, Wish(own.region)) is node
        assert target in newcomers or (wish.is_met(node) and not wish.is_met(own))
        assert node.region == own.region or own.region == "" or wish.region == node.region or not wish.is_met(own)


@given(candidates=CLUSTERS, wish=WISHES, data=st.data())
def test_nothing_moves_twice(candidates: list[Candidate], wish: Wish, data: st.DataObject) -> None:
    """However the actors lie, whoever is new: each moves once at most, and then none does."""
    everybody = {node.incarnation for node in candidates}
    where = {actor: data.draw(st.sampled_from(candidates)).incarnation for actor in ACTORS[:20]}
    moved: set[str] = set()
    for _ in range(3):
        step = [
            move
            for node in candidates
            for move in moves([(actor, wish) for actor, at in where.items() if at == node.incarnation], node, candidates, everybody)
        ]
        assert not moved & {actor for actor, _ in step}
        moved |= {actor for actor, _ in step}
        where.update(step)
    assert step == []


@given(names=NAMES)
@settings(max_examples=15)
def test_a_newcomer_gets_its_share_and_nothing_else_moves(names: list[str]) -> None:
    """Where every actor is at home, what moves when a node joins is what the newcomer is the home of: about one in n."""
    before = [Candidate(number, name) for number, name in enumerate(names, 1)]
    after = [*before, Candidate(100, "the newcomer")]
    chosen = dict(
        move
        for node in before
        for move in moves([(actor, ANYWHERE) for actor in ACTORS if rendezvous(actor, before) is node], node, after, {100})
    )
    assert set(chosen.values()) <= {100}
    assert set(chosen) == {actor for actor in ACTORS if (home := rendezvous(actor, after)) is not None and home.incarnation == 100}
    share = len(ACTORS) / len(after)
    assert share * 0.7 < len(chosen) < share * 1.3


def test_what_was_moved_by_hand_stays_until_its_home_is_new() -> None:
    """Where there is no newcomer nothing moves, whatever its home is."""
    candidates = nodes("a", "b", "c")
    everything = [(actor, ANYWHERE) for actor in ACTORS]
    assert moves(everything, candidates[0], candidates, set()) == []
    assert {target for _, target in moves(everything, candidates[0], candidates, {2})} == {2}


def test_nothing_leaves_its_region_but_for_a_wish() -> None:
    """A newcomer elsewhere gets nothing, unless the manifest wishes the actor there; nor does a newcomer that drains."""
    eu, us, new_us = Candidate(1, "a", "eu"), Candidate(2, "b", "us"), Candidate(3, "c", "us")
    for actor in ACTORS[:50]:
        assert moves([(actor, ANYWHERE)], eu, [eu, us, new_us], {2, 3}) == []
        assert moves([(actor, Wish("us"))], eu, [eu, us, new_us], set()) != []
        assert moves([(actor, Wish("asia"))], eu, [eu, us, new_us], {3}) == []
        leaving = msgspec.structs.replace(new_us, is_draining=True)
        assert moves([(actor, ANYWHERE)], us, [eu, us, leaving], {3}) == []


def test_a_strict_wish_is_an_obstacle() -> None:
    """Where nobody meets it the actor has no home."""
    eu, us = Candidate(1, "a", "eu"), Candidate(2, "b", "us")
    strict = Wish("eu", is_strict=True)
    for actor in ACTORS[:20]:
        assert rendezvous(actor, [us], strict) is None
        assert rendezvous(actor, [eu, us], strict, Wish("us")) is eu
        assert rendezvous(actor, [us], Wish("eu"), Wish("us")) is us
