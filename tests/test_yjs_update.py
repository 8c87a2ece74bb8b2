"""Updates are read before pycrdt sees them: all that it or Yjs writes passes, and nothing does that would end the process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.ids import Chance
from stead.yjs import Malformed
from stead.yjs.document import TYPES_DEPTH_MAX, TYPES_UNSEEN_MAX, Document
from stead.yjs.protocol import varuint
from stead.yjs.update import CLOCK_MAX, PARTS_MAX, VALUE_DEPTH_MAX, depth, read_update

OVERFLOW = 100_000  # deep enough for any stack
TEXT = "ab€😀"


def struct(content: bytes, place: bytes = b"\x01\x01m") -> bytes:
    """An update of one struct, in the root `m`: `content` begins with its kind."""
    return b"\x01\x01\x01\x00" + content[:1] + place + content[1:] + b"\x00"


def values(data: bytes) -> bytes:
    return struct(b"\x08\x01" + data)


def nested(levels: int) -> bytes:
    """Maps inside each other, and the outermost deleted."""
    inside = b"".join(b"\x27\x00\x01" + varuint(level) + b"\x01k\x01" for level in range(levels - 1))
    return b"\x01" + varuint(levels) + b"\x01\x00" + b"\x27\x01\x01m\x01k\x01" + inside + b"\x01\x01\x01\x00\x01"


def level(number: int) -> bytes:
    """One map inside the one before."""
    place = b"\x27\x01\x01m" if number == 0 else b"\x27\x00\x01" + varuint(number - 1)
    return b"\x01\x01\x01" + varuint(number) + place + b"\x01k\x01\x00"


def sibling(number: int) -> bytes:
    """One map beside the one before."""
    place = b"\x07\x01\x01m" if number == 0 else b"\x87\x01" + varuint(number - 1)
    return b"\x01\x01\x01" + varuint(number) + place + b"\x01\x00"


def document() -> Document:
    return Document((), lambda: None)


# -- what passes -----------------------------------------------------------------------------------------------------------------


def some_value(chance: Chance, deeper: int = 3) -> Any:
    scalars = (None, True, False, 0, -1, 63, -64, 2**40, -(2**53) + 1, 0.5, 1e300, float("inf"), "", TEXT, b"\x00\xff")
    match chance.below(6) if deeper else 0:
        case 1:
            return [some_value(chance, deeper - 1) for _ in range(chance.below(4))]
        case 2:
            return {f"{TEXT}{key}": some_value(chance, deeper - 1) for key in range(chance.below(4))}
        case _:
            return scalars[chance.below(len(scalars))]


def some_type(chance: Chance, deeper: int = 3) -> tuple[Any, int]:
    """A type, or a value, and how many types are inside each other in it."""
    match chance.below(5) if deeper else 0:
        case 1:
            parts = [some_type(chance, deeper - 1) for _ in range(chance.below(3))]
            return pycrdt.Array([part for part, _ in parts]), 1 + max((below for _, below in parts), default=0)
        case 2:
            parts = [some_type(chance, deeper - 1) for _ in range(chance.below(3))]
            return pycrdt.Map({str(key): part for key, (part, _) in enumerate(parts)}), 1 + max((d for _, d in parts), default=0)
        case 3:
            return pycrdt.Text(TEXT), 1
        case _:
            return some_value(chance), 0


def edit(chance: Chance, doc: pycrdt.Doc[Any]) -> int:
    """Change something. Returns how many types are inside each other in what was made."""
    text, notes = doc.get("text", type=pycrdt.Text), doc.get("notes", type=pycrdt.Map)
    items, page = doc.get("items", type=pycrdt.Array), doc.get("page", type=pycrdt.XmlFragment)
    match chance.below(10):
        case 0 if len(text):
            del text[chance.below(len(text))]
        case 1 if len(text):
            text.format(0, len(text), {"bold": True, "link": {"to": [1]}})
        case 2:
            text.insert_embed(0, some_value(chance))
        case 3:
            part, levels = some_type(chance)
            notes[str(chance.below(3))] = part
            return levels
        case 4 if len(items):
            del items[chance.below(len(items))]
        case 5:
            part, levels = some_type(chance)
            items.insert(chance.below(len(items) + 1), part)
            return levels
        case 6:
            page.children.append(pycrdt.XmlElement("p", {"class": TEXT}, [pycrdt.XmlText("hello")]))
            return 2
        case 7 if len(page.children):
            del page.children[0]
        case 8:
            notes["doc"] = pycrdt.Doc()
        case _:
            text.insert(chance.below(len(text) + 1), "hello")
    return 0


def test_what_pycrdt_writes_passes() -> None:
    """Every update and snapshot of documents with all kinds of content, edited apart and merged; each is as deep as it was made."""
    for seed in range(100):
        chance = Chance(seed)
        docs: list[pycrdt.Doc[Any]] = [pycrdt.Doc(), pycrdt.Doc()]
        updates: list[bytes] = []
        for doc in docs:
            doc.observe(lambda event, updates=updates: updates.append(event.update))
        deepest = 0
        for _ in range(40):
            doc, other = docs[:: 1 - 2 * chance.below(2)]
            deepest = max(deepest, edit(chance, doc))
            if not chance.below(4):
                other.apply_update(doc.get_update(other.get_state()))
        whole = pycrdt.merge_updates(*updates)
        for update in (*updates, whole, *(doc.get_update() for doc in docs)):
            read_update(update)
        assert max(map(depth, updates)) == deepest, seed
        assert depth(whole) <= deepest, seed  # what was deleted meanwhile may be empty there
        document().apply(whole)


def test_what_yjs_writes_passes() -> None:
    """Contents that pycrdt does not make (by the npm package): undefined, a bigint, a fragment, a document with options, a gap."""
    array, before = b"\x01\x01\x01\x00\x08\x01\x01a", b"\x01\x01\x01\x00\x07\x01\x01a"
    for update in (
        array + b"\x02\x7f\x7a\x00\x00\x00\x02\x54\x0b\xe4\x00\x00",
        before + b"\x04\x00",
        b"\x01\x01\x01\x00\x09\x01\x01a\x01g\x76\x01\x04meta\x76\x00\x00",
        b"\x01\x02\x01\x00\x0a\x05\x04\x01\x01a\x01x\x00",
        b"\x01\x01\x01\x00\x02\x01\x01a\x02\x09undefined\x011\x00",
    ):
        assert read_update(update) == (update.startswith(before))


# -- what does not ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        (b"", "ends inside"),
        (b"\x02\x00", "2 clients in 1 bytes"),
        (b"\x01\x05\x01\x00", "5 structs in 2 bytes"),
        (values(b"\x75\x01" * OVERFLOW + b"\x7e"), f"more than {VALUE_DEPTH_MAX} deep"),
        (values(b"\x76\x01\x01k" * OVERFLOW + b"\x7e"), f"more than {VALUE_DEPTH_MAX} deep"),
        (struct(b"\x09\x01g" + b"\x75\x01" * OVERFLOW + b"\x7e"), f"more than {VALUE_DEPTH_MAX} deep"),
        (values(b"\x75" + varuint(2**40)), "1,099,511,627,776 values in 1 bytes"),
        (values(b"\x76" + varuint(2**40)), "1,099,511,627,776 values in 1 bytes"),
        (values(b"\x75\x03\x7e"), "3 values in 2 bytes"),
        (values(b"\x74\x05ab"), "a length of 5"),
        (values(b"\x7b\x00"), "a length of 8"),
        (values(b"\x7d" + b"\x80" * 20), "more than 10 bytes"),
        (values(b"\x20"), "no value 32"),
        (values(b"\x77\x02\xff\xfe"), "UTF-8"),
        (struct(b"\x08" + varuint(2**31)), "2,147,483,648 values"),
        (struct(b"\x02" + varuint(2**31)), "2,147,483,648 values"),
        (struct(b"\x04\x02\xff\xfe"), "UTF-8"),
        (struct(b"\x04\x01a", place=b"\x01\x02\xff\xfe"), "UTF-8"),
        (struct(b"\x04\x09a"), "a length of 9"),
        (struct(b"\x07\x05\x01a"), "no type 5"),
        (struct(b"\x07\x07\x00\x01\x00"), "no type 7"),
        (struct(b"\x0b\x00\x01\x00"), "no content 11"),
        (struct(b"\x18\x01\x7e"), "no content 24"),
        (struct(b"\x01" + varuint(CLOCK_MAX + 1)), "clock"),
        (b"\x00\x01\x01\x01\x00" + varuint(CLOCK_MAX + 1), "clock"),
        (b"\x00\x01\x01" + varuint(2**30), "deletions in 0 bytes"),
        (b"\x01" + varuint(PARTS_MAX) + b"\x01\x00" + b"\x00\x01" * PARTS_MAX + b"\x00", "over 1,000,000 structs"),
        (values(b"\x75" + varuint(PARTS_MAX) + b"\x7e" * PARTS_MAX), "over 1,000,000 structs"),
    ],
)
def test_what_cannot_be_right_is_named(update: bytes, problem: str) -> None:
    """Depths, counts and lengths past the end, text that is none, kinds that are read in two ways: nothing of it is taken."""
    page = document()
    with pytest.raises(Malformed, match=problem):
        page.apply(update)
    assert page.update() == b"\x00\x00"


def test_a_part_of_an_update_is_none() -> None:
    """Cut off anywhere, it is `Malformed`."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for seed in range(20):
        edit(Chance(seed), doc)
    whole = doc.get_update()
    for end in range(len(whole)):
        with pytest.raises(Malformed):
            read_update(whole[:end])


@given(st.binary(max_size=100))
def test_any_bytes_are_an_update_or_malformed(data: bytes) -> None:
    """No other error, and none from looking for the depth."""
    try:
        assert 0 <= read_update(data) <= len(data)
        assert depth(data) >= 0
    except Malformed:
        pass


def test_without_the_check_the_process_dies() -> None:
    """Both kinds of nesting end it in pycrdt, so the check is needed."""
    for update in (values(b"\x75\x01" * OVERFLOW + b"\x7e"), nested(OVERFLOW)):
        code = "import sys, pycrdt; pycrdt.Doc().apply_update(sys.stdin.buffer.read())"
        ended = subprocess.run([sys.executable, "-c", code], input=update, capture_output=True, timeout=60, check=False)
        assert ended.returncode < 0


# -- types inside each other -----------------------------------------------------------------------------------------------------


def test_the_depth_of_types() -> None:
    """It counts types inside each other, by parents and by neighbours; siblings add nothing; a circle is no endless loop."""
    assert depth(b"\x00\x00") == 0
    assert [depth(nested(levels)) for levels in (1, 2, 500)] == [1, 2, 500]
    assert depth(pycrdt.merge_updates(*map(level, range(50)))) == 50
    assert depth(pycrdt.merge_updates(*map(sibling, range(50)))) == 1
    beside_a_value = b"\x01\x03\x01\x00\x07\x01\x01m\x01\x08\x00\x01\x00\x01\x7e\x87\x01\x01\x01\x00"
    assert depth(beside_a_value) == 2
    circle = b"\x01\x02\x01\x00\x07\x00\x01\x01\x01\x07\x00\x01\x00\x01\x00"
    assert depth(circle) < 10


@pytest.mark.parametrize("levels", [TYPES_DEPTH_MAX + TYPES_UNSEEN_MAX + 1, OVERFLOW])
def test_types_too_deep_in_one_update_are_refused(levels: int) -> None:
    """Before pycrdt sees them."""
    page = document()
    with pytest.raises(Malformed, match=f"types are nested {levels:,} deep; the limit is 1,000"):
        page.apply(nested(levels))
    assert page.apply(nested(TYPES_DEPTH_MAX)) is not None


def test_types_too_deep_over_many_updates_are_refused() -> None:
    """However they came: one by one, with the document made anew in between, inside of what the application made."""
    taken: list[bytes] = []
    page = Document(taken, lambda: None)
    with pytest.raises(Malformed, match="types are nested"):
        for number in range(OVERFLOW):
            change = page.apply(level(number))
            assert change is not None
            taken.append(change)
            if number % 300 == 299:
                page = Document(taken, lambda: None)
            elif number % 300 == 150:
                with page:
                    page.doc.get("text", type=pycrdt.Text).insert(0, "x")
                taken += [page.changes() or b""]
    assert TYPES_DEPTH_MAX <= number <= TYPES_DEPTH_MAX + TYPES_UNSEEN_MAX


def test_an_update_cannot_lie_about_what_is_known() -> None:
    """The depth of a type is what the document says, whatever an update repeats: here that all of it was deleted."""
    page = document()
    assert page.apply(nested(TYPES_DEPTH_MAX)[:-5] + b"\x00") is not None
    with page:  # what is known of the depth is forgotten
        pass
    gone = b"\x01\x02\x01\x00\x00" + varuint(TYPES_DEPTH_MAX)
    with pytest.raises(Malformed, match="types are nested 1,001 deep"):
        page.apply(gone + level(TYPES_DEPTH_MAX)[3 + len(varuint(TYPES_DEPTH_MAX)) :])


def test_types_beside_each_other_are_never_too_many() -> None:
    """What bounds their depth does not bound their number, and looks through the document now and then only."""
    page = document()
    for number in range(3 * (TYPES_DEPTH_MAX + TYPES_UNSEEN_MAX)):
        assert page.apply(sibling(number)) is not None
