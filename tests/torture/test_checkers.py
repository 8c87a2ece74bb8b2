"""What the torture's checkers must find in histories that are wrong, and not say of those that are right: no process, no clock."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torture.accounts import Statement, Transfer, account_faults, on_their_way
from tests.torture.availability import DRAIN, FREEZE, KILL, RESTART, Attempt, Fault, outages
from tests.torture.counters import Count, counter_faults
from tests.torture.registers import Access, Undecided, register_faults


def increment(begin_s: float, end_s: float, value: int) -> Count:
    return Count(begin_s, value, end_s)


def read(begin_s: float, end_s: float, value: int) -> Count:
    return Count(begin_s, value, end_s, is_read=True)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        pytest.param([increment(0, 1, 1), increment(2, 3, 1)], "1 was given 2 times", id="lost update"),
        pytest.param(
            [increment(0, 1, 1), increment(2, 3, 3)], "reached 3 by 2 answered increments and 0 in doubt", id="counted twice"
        ),
        pytest.param([increment(0, 1, 2), increment(2, 3, 1)], "2 was seen 1.000 s before the request for 1", id="two owners"),
        pytest.param([increment(0, 1, 1), read(2, 3, 0)], "1 was seen", id="lost after it was acknowledged"),
        pytest.param([increment(0, 1, 1), increment(2, 3, 2), read(4, 5, 1)], "2 was seen", id="a stale owner answers a read"),
        pytest.param([read(0, 1, 1), increment(2, 3, 1)], "1 was seen", id="seen before it was asked for"),
        pytest.param([increment(0, 1, 2), Count(2, None)], "nobody had asked for 1 yet", id="in doubt, but sent too late"),
        pytest.param([read(0, 1, 1), Count(0, None), read(2, 3, 3), Count(2, None)], "reached 3", id="more than was in doubt"),
    ],
)
def test_a_counter_that_lies_is_found(history: list[Count], said: str) -> None:
    """Numbers given twice or never, and an order of numbers that contradicts time."""
    assert any(said in fault for fault in counter_faults(history))


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="nothing"),
        pytest.param([increment(0, 9, 2), increment(1, 2, 1), read(0, 3, 0)], id="at the same time"),
        pytest.param([increment(2, 3, 2), Count(0, None)], id="in doubt, and done"),
        pytest.param([increment(2, 3, 1), Count(0, None)], id="in doubt, and not done"),
        pytest.param([read(1, 2, 1), Count(0, None), Count(5, None), read(6, 7, 2)], id="known by reads alone"),
    ],
)
def test_a_counter_that_could_be_one_passes(history: list[Count]) -> None:
    """Requests that overlap take effect in either order; one in doubt took effect or not."""
    assert counter_faults(history) == []


def wrote(begin_s: float, end_s: float, value: str) -> Access:
    return Access(begin_s, value, end_s=end_s, is_blind=True)


def saw(begin_s: float, end_s: float, value: str | None) -> Access:
    return Access(begin_s, value, value, end_s)


def swapped(begin_s: float, end_s: float, old: str | None, new: str) -> Access:
    return Access(begin_s, new, old, end_s)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([wrote(0, 1, "a"), wrote(2, 3, "b"), saw(4, 5, "a")], id="a write is lost"),
        pytest.param([wrote(0, 1, "a"), saw(2, 3, None)], id="an acknowledged write is not there"),
        pytest.param([wrote(0, 9, "a"), saw(1, 2, "a"), saw(3, 4, None)], id="it goes back"),
        pytest.param([wrote(0, 9, "a"), wrote(0, 9, "b"), saw(1, 2, "a"), saw(3, 4, "b"), saw(5, 6, "a")], id="two owners"),
        pytest.param([swapped(0, 1, None, "a"), swapped(0, 1, None, "b")], id="two swaps of one value"),
        pytest.param([saw(0, 1, "a")], id="nobody wrote it"),
        pytest.param([saw(0, 1, "a"), Access(2, "a", is_blind=True)], id="in doubt, and seen before it was sent"),
        pytest.param(
            [wrote(0, 1, "a"), Access(2, "c", "b"), wrote(3, 4, "b"), saw(5, 6, "c"), saw(7, 8, "b")], id="back past a swap"
        ),
    ],
)
def test_a_register_that_lies_is_found(history: list[Access]) -> None:
    """Lost and stale values, and orders that no single register could have shown."""
    assert len(register_faults(history)) == 1


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([wrote(0, 9, "a"), saw(1, 2, None), saw(1, 8, "a"), wrote(0, 9, "b"), saw(3, 4, "b")], id="at the same time"),
        pytest.param([Access(0, "a", is_blind=True), saw(1, 2, None), saw(3, 4, "a")], id="in doubt, and done later"),
        pytest.param([Access(0, "a", is_blind=True), Access(0, "b", "a"), saw(1, 2, "b")], id="in doubt, known by what came of it"),
        pytest.param([Access(0, "b", "a"), wrote(1, 2, "c"), saw(3, 4, "c")], id="in doubt, and not done"),
    ],
)
def test_a_register_that_could_be_one_passes(history: list[Access]) -> None:
    """Some order explains it, whatever became of what is in doubt."""
    assert register_faults(history) == []


def test_a_search_that_takes_too_long_says_so() -> None:
    """It is no verdict: neither right nor wrong."""
    with pytest.raises(Undecided):
        register_faults([*(wrote(0, 9, str(number)) for number in range(20)), saw(10, 11, None)], steps_max=100)


spans = st.tuples(st.integers(0, 12), st.integers(0, 6)).map(lambda span: (float(span[0]), float(sum(span))))


def access(kind: str, span: tuple[float, float], value: str, found: str | None) -> Access:
    if kind == "write":
        return wrote(*span, value)
    return saw(*span, found) if kind == "read" else swapped(*span, found, value)


def explained(accesses: list[Access]) -> bool:
    """Whether any order of all of them is one of time and of one value. All have ended."""
    for order in permutations(accesses):
        value: str | None = None
        latest_s = 0.0
        for access in order:
            latest_s = max(latest_s, access.begin_s)
            if access.end_s < latest_s or not access.fits(value):
                break
            value = access.left
        else:
            return True
    return False


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(spans, st.sampled_from(["write", "read", "swap"]), st.sampled_from([None, "0", "1", "2", "3", "4"])), max_size=5
    )
)
def test_the_search_agrees_with_trying_every_order(requests: list[tuple[tuple[float, float], str, str | None]]) -> None:
    """Small histories of every kind: right exactly where some order of them is."""
    history = [access(kind, span, str(number), found) for number, (span, kind, found) in enumerate(requests)]
    assert (register_faults(history) == []) == explained(history)


def counted(counts: list[Count]) -> bool:
    """Whether any order of increments and reads is one of time and of one counter. All have ended."""
    for order in permutations(counts):
        value, latest_s = 0, 0.0
        for count in order:
            value += not count.is_read
            latest_s = max(latest_s, count.begin_s)
            if count.end_s < latest_s or (count.value is not None and count.value != value):
                break
        else:
            return True
    return False


@settings(max_examples=300)
@given(st.lists(st.tuples(spans, st.booleans(), st.integers(0, 4)), max_size=5), st.lists(st.integers(0, 12), max_size=2))
def test_the_order_of_numbers_agrees_with_trying_every_order(
    requests: list[tuple[tuple[float, float], bool, int]], in_doubt: list[int]
) -> None:
    """Small histories, with every choice of what in doubt was done: right exactly where some order of some choice is."""
    known = [Count(begin_s, value, end_s, is_read) for (begin_s, end_s), is_read, value in requests]
    unknown = [Count(float(begin_s), None) for begin_s in in_doubt]
    choices = [[count for at, count in enumerate(unknown) if chosen >> at & 1] for chosen in range(1 << len(unknown))]
    assert (counter_faults([*known, *unknown]) == []) == any(counted([*known, *choice]) for choice in choices)


def statements(**changed: Statement) -> dict[str, Statement]:
    """Those of a, b and c after a has paid b 3."""
    return {"a": Statement(97, {"t": 1}, {}), "b": Statement(103, {}, {"t": 1}), "c": Statement(100, {}, {})} | changed


DONE = Transfer("t", "a", "b", 3, is_done=True)
NOTHING = Statement(100, {}, {})


@pytest.mark.parametrize(
    ("transfers", "said", "fault_text"),
    [
        pytest.param([DONE], statements(a=NOTHING, b=NOTHING), "was done: it left 0 times and arrived 0 times", id="lost"),
        pytest.param([DONE], statements(b=NOTHING), "it left 1 times and arrived 0 times", id="lost on its way"),
        pytest.param([DONE], statements(b=Statement(106, {}, {"t": 2})), "it left 1 times and arrived 2 times", id="arrived twice"),
        pytest.param(
            [Transfer("t", "a", "b", 3, is_done=False)], statements(), "was refused: it left 1 times", id="refused, and done"
        ),
        pytest.param([Transfer("t", "a", "b", 3, is_done=None)], statements(b=NOTHING), "was in doubt: it left 1", id="half done"),
        pytest.param([], statements(), "account a knows of t, for which nobody asked", id="out of nowhere"),
        pytest.param([DONE], statements(a=Statement(98, {"t": 1}, {})), "account a has 98, and 97 by its own list", id="torn"),
        pytest.param([DONE], statements(c=Statement(101, {}, {})), "there are 301, and there were 300", id="made"),
    ],
)
def test_money_that_is_lost_or_made_is_found(transfers: list[Transfer], said: dict[str, Statement], fault_text: str) -> None:
    """A transfer half done, done twice, or done though it was refused; a balance that its account's list does not explain."""
    assert any(fault_text in fault for fault in account_faults(transfers, said, 100))


def test_money_that_is_there_passes() -> None:
    """Done, refused, and in doubt either way; what is on its way is known."""
    assert account_faults([DONE], statements(), 100) == []
    assert account_faults([Transfer("t", "a", "b", 3, is_done=None)], statements(), 100) == []
    untouched = [Transfer("t", "a", "b", 3, is_done=is_done) for is_done in (None, False)]
    assert all(account_faults([transfer], statements(a=NOTHING, b=NOTHING), 100) == [] for transfer in untouched)
    assert on_their_way(statements(b=NOTHING)) == {"t"} and on_their_way(statements()) == set()


def lengths(attempts: list[Attempt], *faults: Fault) -> list[tuple[str, float, int]]:
    return [(outage.cause, round(outage.length_s, 3), outage.hits) for outage in outages(attempts, faults)]


def test_an_outage_lasts_from_the_first_failure_to_the_next_answer() -> None:
    """Or from a request that took long; its cause is what hit the node that had answered last, if anything did."""
    before, after = Attempt("x", "n0", 0.9, 1.0, "n1"), Attempt("x", "n0", 4.0, 5.0, "n2")
    kill = Fault(KILL, "n1", 2.0, 3.0)
    assert lengths([before, Attempt("x", "n0", 2.5, 3.5), after], kill) == [(KILL, 2.5, 1)]
    assert lengths([before, Attempt("x", "n0", 0.5, 3.5), after], kill) == [(KILL, 4.0, 1)]
    assert lengths([before, after], Fault(KILL, "n2", 4.5, 6.0)) == [(KILL, 1.0, 1)]
    assert lengths([before, Attempt("x", "n0", 4.9, 5.0, "n2")], kill) == []
    assert lengths([before, after]) == [("", 1.0, 0)]
    faults = Fault(DRAIN, "n0", 2.0, 4.0), Fault(FREEZE, "n1", 4.5, 6.0), Fault(KILL, "n2", 4.6, 6.0)
    assert lengths([before, after], *faults) == [(FREEZE, 1.0, 2)]


def test_a_node_that_is_hit_says_nothing_of_an_actor() -> None:
    """What is sent to a dead or frozen node waits for that node. One that drains answers, and its failures count."""
    before, after = Attempt("x", "n1", 0.9, 1.0, "n1"), Attempt("x", "n1", 9.0, 9.1, "n1")
    late = Attempt("x", "n0", 2.0, 8.0)
    for kind, found in ((KILL, []), (FREEZE, []), (RESTART, []), (DRAIN, [(DRAIN, 7.1, 0)])):
        assert lengths([before, late, after], Fault(kind, "n0", 1.5, 3.0)) == found
