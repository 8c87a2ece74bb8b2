"""Signals on the sender's side: calls that commit with a turn's state, and are delivered after it until the target has them.

A signal is an entry of the sender, written by the commit of the turn that sent it. Its number holds the number of that commit, so
no other signal ever has it. Once the commit is durable the signal goes into the target's mailbox, those of one turn in their order.
The target's answer settles it: a turn of the sender, which needs no instance, removes the entry, or counts a failure.

An alarm of the actor that users do not see is set while there are signals: whatever dies, it wakes the actor, which sends again
what it finds. The target knows what it has had (`receipts.py`), so sending again changes nothing.

In a cluster another node may have sent a signal before, and its copy may arrive after one that was sent again. It is known to the
target until the target is told to forget. For what another node may have sent that is put off, for longer than a copy can be on its
way; until then the entry of the last such signal to that target stays, without what it said.

A failover may lose a commit whose signals have left already, and its number is given again. What is sent says of which generation
of the store its sender is, and the target, which is of one too, takes it only from its own: what both remember fits together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from stead.clock import Clock, sleep
from stead.errors import Ambiguous, DurabilityLost, EngineFailed, Invalid, Overloaded, Unavailable
from stead.events import Call, Event, Origin, Settled
from stead.ids import ActorId, Chance, parse_id
from stead.logic.retry import retry_delay_ms
from stead.runtime.chores import WAKE_ALARM
from stead.runtime.gate import Gate
from stead.runtime.tasks import Tasks
from stead.runtime.turn import NOBODY, Turn
from stead.storage.entries import OUTBOX, Entries, Layer, range_end

WAKE_MS = 5_000  # after which what was not settled is looked at again
LINGER_MS = 600_000  # after which nothing is on its way that an earlier owner of the sender sent: the longest leases take less
STORED_MAX = 10_000  # signals of one actor that wait for their targets, and targets that may get one once more
WAITING_BYTES_MAX = 64 * 1024 * 1024  # of arguments of those that wait: they are in memory. As much as one turn may send
ERROR_CHARS_MAX = 500
_ORDER_BITS = 16  # signals of one commit: more than an outbox holds
_UNAVAILABLE_PAUSE_S = 1.0  # before a target that could not be asked is asked again
_PASSING = (Unavailable, Ambiguous, DurabilityLost, EngineFailed)  # not the target's verdict: such a try does not count

log = logging.getLogger("stead")


class Signal(msgspec.Struct, array_like=True):
    """A signal as it is stored. A dead one ran out of tries: it is kept, and visible. One that lingers has arrived."""

    target: str
    method: str
    arguments: bytes
    failures: int = 0
    dead: bool = False
    error: str | None = None
    settled_ms: int = 0  # of one that lingers: since when

    @property
    def size_bytes(self) -> int:
        return len(self.arguments)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Signal).decode


class Host(Protocol):
    """What the outbox asks of its actor."""

    actor: ActorId
    generation: int  # of its claim
    gate: Gate

    @property
    def has_peers(self) -> bool:
        """Whether another node may have had the actor before."""
        ...

    @property
    def entries(self) -> Entries: ...
    def settle_signals(self) -> None:
        """Begin a turn that calls `write_down`."""
        ...


class Door(Protocol):
    def forward(self, target: ActorId, event: Event, reply: Any, caller: Turn | None) -> None: ...


class Outbox:
    """The signals of one actor in memory. Those of an earlier life it learns before it sends its first, or when the alarm rings."""

    def __init__(self, host: Host, door: Door, clock: Clock, chance: Chance, tasks: Tasks) -> None:
        self._host = host
        self._door = door
        self._clock = clock
        self._chance = chance
        self._tasks = tasks
        self._unsettled: dict[int, Signal] = {}  # by number, in order
        self._waiting_bytes = 0  # of their arguments
        self._answered: dict[int, Signal] = {}  # and not yet written down
        self._inherited: set[int] = set()  # of the unsettled: which another node may have sent
        self._lingering: dict[str, tuple[int, int]] = {}  # by target: the last signal that lingers, and since when
        self._is_armed = False  # the alarm is set
        self._is_complete = False  # no signal is stored that is not here

    @property
    def is_idle(self) -> bool:
        return not self._unsettled

    def close(self) -> None:
        """Send nothing again, and hear no answer: another outbox will."""
        self._unsettled.clear()
        self._waiting_bytes = 0

    def enclose(self, signals: Sequence[Leaving], layer: Layer, seq: int) -> None:
        """Make signals part of what the commit `seq` will write. Raises `Overloaded` when too many are stored."""
        if len(self._unsettled) + len(self._lingering) + len(signals) > STORED_MAX:
            raise Overloaded(
                f"{self._host.actor} has {STORED_MAX:,} signals that wait for their targets"
                + (f"; {len(self._lingering):,} arrived lately after it changed its node" if self._lingering else ""),
                1.0,
            )
        if self._waiting_bytes + sum(leaving.signal.size_bytes for leaving in signals) > WAITING_BYTES_MAX:
            raise Overloaded(f"{self._host.actor} has {WAITING_BYTES_MAX:,} bytes of signals that wait for their targets", 1.0)
        for order, leaving in enumerate(signals):
            leaving.number = (seq << _ORDER_BITS) | order
            layer.writes[_key(leaving.number)] = _encode(leaving.signal)
        if not self._is_armed:
            layer.alarms[WAKE_ALARM] = self._clock.now_ms() + WAKE_MS

    def submitted(self, signals: Sequence[Leaving]) -> None:
        """Their commit is on its way: they wait for it, and nobody else sends them."""
        self._unsettled.update({leaving.number: leaving.signal for leaving in signals})
        self._waiting_bytes += sum(leaving.signal.size_bytes for leaving in signals)
        self._is_armed = True

    def send(self, number: int, signal: Signal) -> None:
        """Deliver a signal whose commit is durable."""
        floor = next(iter(self._unsettled))
        event = Call(signal.method, signal.arguments, origin=self._origin(number, floor))
        self._door.forward(parse_id(signal.target), event, _Verdict(self, number), None)

    async def learn(self, turn: Turn) -> None:
        """Know of every signal that is stored, and send those again that nobody here has sent.

        Before that no signal may be sent: what the target is told to be settled would include what an earlier life left.
        """
        if self._is_complete:
            return
        rows = await self._host.entries.scan(OUTBOX, range_end(OUTBOX), turn.layers)
        if self._is_complete:
            return
        self._is_complete = True
        under_way = {**self._unsettled, **self._answered}
        stored = dict(map(_read, rows))
        self._lingering = {signal.target: (number, signal.settled_ms) for number, signal in stored.items() if signal.settled_ms}
        left = {
            number: signal for number, signal in stored.items() if not (signal.dead or signal.settled_ms or number in under_way)
        }
        if self._host.has_peers:
            self._inherited.update(left)
        self._unsettled = dict(sorted({**self._unsettled, **left}.items()))
        self._waiting_bytes = sum(signal.size_bytes for signal in self._unsettled.values())
        for number, signal in left.items():
            self.send(number, signal)

    async def wake(self, turn: Turn) -> None:
        """The alarm's turn: send again what is stored and not under way, and look again later if anything is left."""
        self._is_complete = False
        await self.learn(turn)
        now_ms = self._clock.now_ms()
        over = [target for target, (_, settled_ms) in self._lingering.items() if settled_ms + LINGER_MS <= now_ms]
        for target in over:
            turn.layer.writes[_key(self._lingering.pop(target)[0])] = None
        self._is_armed = not self.is_idle
        turn.layer.alarms[WAKE_ALARM] = now_ms + WAKE_MS if self._is_armed else self._linger_until_ms()
        self._say_farewell(turn, over)

    async def owed(self, layers: Sequence[Layer]) -> Layer:
        """What stays when the actor is erased: the signals on their way, and the alarm that sends them again."""
        rows = await self._host.entries.scan(OUTBOX, range_end(OUTBOX), layers)
        owed = Layer()
        owed.writes.update({key: data for key, data in rows if not _decode(data).dead})
        if owed:
            owed.alarms[WAKE_ALARM] = self._clock.now_ms() + WAKE_MS
        return owed

    def write_down(self, turn: Turn) -> None:
        """What the targets have answered. Those that will hear of none of it again may forget what they had."""
        layer, answered, self._answered = turn.layer, self._answered, {}
        for number, signal in answered.items():
            if not signal.failures and number in self._inherited:
                self._inherited.discard(number)
                self._linger(number, signal, layer)
            else:
                layer.writes[_key(number)] = _encode(signal) if signal.failures else None
        if self.is_idle and self._is_armed:
            self._is_armed = False
            layer.alarms[WAKE_ALARM] = self._linger_until_ms()
        self._say_farewell(turn, (signal.target for signal in answered.values()))

    def _linger(self, number: int, signal: Signal, layer: Layer) -> None:
        """Remember that the target may get a copy once more. One entry says so, however many signals it had."""
        before, _ = self._lingering.get(signal.target, (number, 0))
        layer.writes[_key(before)] = None
        settled_ms = self._clock.now_ms()
        self._lingering[signal.target] = (number, settled_ms)
        layer.writes[_key(number)] = _encode(Signal(signal.target, signal.method, b"", settled_ms=settled_ms))

    def _linger_until_ms(self) -> int | None:
        return min((settled_ms + LINGER_MS for _, settled_ms in self._lingering.values()), default=None)

    def _say_farewell(self, turn: Turn, targets: Iterable[str]) -> None:
        """Let targets forget what they had, but those that may get a signal of this actor once more."""
        floor = (self._host.gate.submitted + 1) << _ORDER_BITS
        waited_for = {signal.target for signal in self._unsettled.values()} | self._lingering.keys()
        for target in set(targets) - waited_for:
            turn.effect().add(_Farewell(self._door, target, self._origin(0, floor)))

    def _origin(self, number: int, floor: int) -> Origin:
        return Origin(self._host.actor.text, number, floor, self._host.generation)

    # -- what targets answer -------------------------------------------------------------------------------------------------------

    def arrived(self, number: int) -> None:
        signal = self._unsettled.pop(number, None)
        if signal is not None:
            self._waiting_bytes -= signal.size_bytes
            signal.failures = 0
            self._settle(number, signal)

    def failed(self, number: int, error: BaseException) -> None:
        signal = self._unsettled.get(number)
        if signal is None:
            return
        if isinstance(error, _PASSING):
            self._tasks.start(self._send_again(number, _UNAVAILABLE_PAUSE_S))
            return
        signal.failures += 1
        signal.error = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
        delay_ms = None if isinstance(error, Invalid) else retry_delay_ms(signal.failures, self._chance.fraction())
        if delay_ms is None:
            signal.dead = True
            del self._unsettled[number]
            self._waiting_bytes -= signal.size_bytes
            log.error("a signal of %s to %s.%s is dead: %s", self._host.actor, signal.target, signal.method, signal.error)
        else:
            self._tasks.start(self._send_again(number, delay_ms / 1000))
        self._settle(number, signal)

    async def _send_again(self, number: int, pause_s: float) -> None:
        await sleep(pause_s)
        signal = self._unsettled.get(number)
        if signal is not None:
            self.send(number, signal)

    def _settle(self, number: int, signal: Signal) -> None:
        if not self._answered:
            self._host.settle_signals()
        self._answered[number] = signal


class Leaving:
    """A signal at the gate of the turn that sends it."""

    __slots__ = ("number", "outbox", "signal")

    def __init__(self, outbox: Outbox, signal: Signal) -> None:
        self.outbox = outbox
        self.signal = signal
        self.number = 0

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self.outbox.send(self.number, self.signal)


class _Farewell:
    """Tells a target that it may forget the signals that it had, once that they are settled is durable."""

    __slots__ = ("_door", "_origin", "_target")

    def __init__(self, door: Door, target: str, origin: Origin) -> None:
        self._door = door
        self._target = target
        self._origin = origin

    def release(self, value: Any, error: BaseException | None) -> None:
        if error is None:
            self._door.forward(parse_id(self._target), Settled(self._origin), NOBODY, None)


class _Verdict:
    """The reply to a signal."""

    __slots__ = ("_number", "_outbox")

    def __init__(self, outbox: Outbox, number: int) -> None:
        self._outbox = outbox
        self._number = number

    def done(self) -> bool:
        return False

    def set_result(self, value: Any, /) -> None:
        self._outbox.arrived(self._number)

    def set_exception(self, error: BaseException, /) -> None:
        self._outbox.failed(self._number, error)


def _key(number: int) -> bytes:
    return OUTBOX + number.to_bytes(8, "big")


def _read(row: tuple[bytes, bytes]) -> tuple[int, Signal]:
    return int.from_bytes(row[0][len(OUTBOX) :], "big"), _decode(row[1])
