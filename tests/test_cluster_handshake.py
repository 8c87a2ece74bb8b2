"""The handshake of channels, message by message: who has the key gets in, and nobody else by any means."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.cluster.handshake import MAC_BYTES, NONCE_BYTES, VERSION, Challenge, Dialled, Dialler, Hello, Refused
from stead.cluster.keys import KEYS_MAX, Keys
from stead.ids import Chance
from stead.testing import CHANNEL_SABOTAGES, sabotaged

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HERE, THERE = 101, 102


def dial(*keys: bytes, own: int = HERE, wanted: int = THERE) -> Dialler:
    return Dialler(keys or (KEY,), own, wanted, Chance())


def answer(*keys: bytes, own: int = THERE) -> Dialled:
    return Dialled(keys or (KEY,), own, Chance())


def test_both_sides_know_each_other_after_four_messages() -> None:
    """Each knows the other's incarnation once it has proved itself, not before."""
    dialler, dialled = dial(), answer()
    challenge = dialled.receive(dialler.hello)
    assert (dialler.peer, dialled.peer, dialled.caller) == (0, 0, HERE)
    proof = dialler.receive(challenge)
    assert (dialler.peer, dialled.peer) == (0, 0)
    accepted = dialled.receive(proof)
    assert (dialler.peer, dialled.peer) == (0, HERE)
    assert dialler.receive(accepted) == b""
    assert dialler.peer == THERE


def test_without_a_key_both_lack_it() -> None:
    """An empty key is a key like any other: it opens to those who have none either."""
    dialler, dialled = dial(b""), answer(b"")
    assert dialler.receive(dialled.receive(dialler.receive(dialled.receive(dialler.hello)))) == b""


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((KEY,), (KEY, OTHER_KEY)),
        ((KEY,), (OTHER_KEY, KEY)),
        ((KEY, OTHER_KEY), (OTHER_KEY,)),
        ((OTHER_KEY, KEY), (OTHER_KEY,)),
        ((KEY, OTHER_KEY), (OTHER_KEY, KEY)),
    ],
)
def test_a_key_in_common_is_enough(here: Keys, there: Keys) -> None:
    """While a new key takes the place of an old one, some nodes have both, in whatever order."""
    dialler, dialled = dial(*here), answer(*there)
    assert dialler.receive(dialled.receive(dialler.receive(dialled.receive(dialler.hello)))) == b""
    assert (dialler.peer, dialled.peer) == (THERE, HERE)


# -- attacks: each must end in a refusal -----------------------------------------------------------------------------------------


def wrong_key() -> None:
    dialler, dialled = dial(OTHER_KEY), answer()
    dialled.receive(dialler.receive(dialled.receive(dialler.hello)))


def none_in_common() -> None:
    dialler, dialled = dial(OTHER_KEY, b"t" * 32), answer(KEY, b"f" * 32)
    dialled.receive(dialler.receive(dialled.receive(dialler.hello)))


def too_many_guesses() -> None:
    """A proof behind more macs than anybody may have keys."""
    dialler, dialled = dial(), answer()
    dialled.receive(bytes(MAC_BYTES * KEYS_MAX) + dialler.receive(dialled.receive(dialler.hello)))


def guessed_proof() -> None:
    dialler, dialled = dial(), answer()
    dialled.receive(dialler.hello)
    dialled.receive(bytes(32))


def replay() -> None:
    """A recording of a dialler, played to the same node."""
    dialler, dialled = dial(), answer()
    proof = dialler.receive(dialled.receive(dialler.hello))
    again = answer()
    again.receive(dialler.hello)
    again.receive(proof)


def reflection() -> None:
    """Who was dialled sends the dialler's own proof back."""
    dialler, dialled = dial(), answer(OTHER_KEY)
    dialler.receive(dialler.receive(dialled.receive(dialler.hello)))


def impostor() -> None:
    """Who was dialled has another key."""
    dialler, dialled = dial(), answer()
    dialled.receive(dialler.receive(dialled.receive(dialler.hello)))
    dialler.receive(answer(OTHER_KEY).receive(dialler.hello))


ATTACKS = {"proof_not_compared": wrong_key, "roles_left_out": reflection, "nonces_repeat": replay}


@pytest.mark.parametrize("attack", [wrong_key, none_in_common, too_many_guesses, guessed_proof, replay, reflection, impostor])
def test_nobody_gets_in_without_the_key(attack: Callable[[], None]) -> None:
    """Neither by another key, nor a guess, nor a recording, nor one's own words."""
    with pytest.raises(Refused, match="another key"):
        attack()


@pytest.mark.parametrize("name", [name for name, plant in CHANNEL_SABOTAGES.items() if plant.promise == "handshake"])
def test_planted_bugs_are_found(name: str) -> None:
    """With the bug, the attack that it invites succeeds."""
    with sabotaged(CHANNEL_SABOTAGES[name]):
        ATTACKS[name]()


# -- what is no greeting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(VERSION + 1, HERE, THERE, bytes(NONCE_BYTES)), f"version {VERSION + 1} of the protocol, this node {VERSION}"),
        (Hello(VERSION, HERE, 999, bytes(NONCE_BYTES)), "the incarnation 999 was wanted, and this is 102"),
        (Hello(VERSION, THERE, THERE, bytes(NONCE_BYTES)), "this is 102"),
        (Hello(VERSION, 0, THERE, bytes(NONCE_BYTES)), "this is 102"),
        (Hello(VERSION, HERE, THERE, b"short"), "its nonce has 5 bytes"),
    ],
)
def test_greetings_that_are_refused(hello: Hello, reason: str) -> None:
    """The reason names what is wrong."""
    with pytest.raises(Refused, match=reason):
        answer().receive(msgspec.msgpack.encode(hello))


def test_later_versions_are_recognized() -> None:
    """A greeting that says more than this version knows is told of the version, not of its shape."""
    with pytest.raises(Refused, match="version 7"):
        answer().receive(msgspec.msgpack.encode([7, HERE, THERE, bytes(NONCE_BYTES), "more", {}]))


def test_who_has_not_joined_lets_nobody_in() -> None:
    """A node without an incarnation has no channels."""
    with pytest.raises(Refused, match="has not joined"):
        Dialled((KEY,), 0, Chance()).receive(dial().hello)


@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        (Challenge(VERSION + 1, THERE, bytes(NONCE_BYTES)), "version"),
        (Challenge(VERSION, 999, bytes(NONCE_BYTES)), "it is the incarnation 999, and 102 was wanted"),
        (Challenge(VERSION, THERE, b""), "nonce"),
    ],
)
def test_challenges_that_are_refused(challenge: Challenge, reason: str) -> None:
    """Nothing is proved to who is not the node that was wanted."""
    with pytest.raises(Refused, match=reason):
        dial().receive(msgspec.msgpack.encode(challenge))


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_garbage_is_refused(messages: list[bytes]) -> None:
    """Whatever bytes come, in either role: `Refused`, and nobody is let in."""
    for side in (dial(), answer()):
        with pytest.raises(Refused):
            for message in messages:
                side.receive(message)
        assert not side.peer
