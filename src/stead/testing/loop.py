"""An event loop in which a seed decides and time is virtual: the same seed gives the same run, another seed another interleaving.

**Order.** Of all callbacks that are ready, the seed picks the one that runs next. So tasks wake in any order, which is all that
asyncio promises of tasks; callbacks of one `call_soon` order may overtake each other too, which is harsher than asyncio: code that
passes here leans on no queue it does not own. Seed 0 keeps asyncio's own first in, first out.

**Time.** `time()` starts at 0 and stands still while anything is ready. When nothing is, it jumps to the next timer, so a sleep of
days costs nothing, and timers fire in the order of their moments. Nothing ever waits for real.

**Processes.** What is started in the context of a `Process` belongs to it, and so does all that this starts: tasks, timers,
callbacks. A process can be frozen, as SIGSTOP freezes a real one: nothing of it runs, time and everybody else go on, and once
thawed it finds all its timers due. It is one loop still: a freeze comes between two steps, never in the middle of one.

**Ends.** When nothing is ready and no timer is set, no future can ever be resolved: `Stuck` says which task waits where. More than
CALLBACKS_MAX callbacks are a livelock, and `Stuck` too. Leaving the `with` block cancels the tasks that are left, and raises
whatever nobody handled: errors in callbacks, errors of tasks that nobody awaited, tasks that refuse to end.

**Not covered.** What comes from outside has no seed: threads, sockets, processes and signals are refused. The iteration order of a
set of strings depends on PYTHONHASHSEED, and finalizers run when the garbage collector does.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from stead import clock
from stead.errors import Invalid, SteadError
from stead.ids import Chance

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CALLBACKS_MAX = 2_000_000  # in one loop's life: some seconds of real time, far above what a test needs
ENDING_CALLBACKS_MAX = 100_000  # for what is left to clean up after itself
RESOLUTION_S = 1e-6  # timers this close are one moment: sums of floats differ by less
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: round numbers make readable failures
_FRAMES_SHOWN_MAX = 6  # of a waiting task, innermost last
_TASKS_SHOWN_MAX = 20


class Stuck(SteadError):
    """The program can make no more progress; the message lists the tasks and where each waits."""


class Refused(SteadError):
    """The seeded loop has no threads, sockets, processes or signals."""


class Process:
    """Something on the loop that can be frozen apart from the rest."""

    def __init__(self, name: str) -> None:
        self.name = name

    def context(self) -> Context:
        """A new context; what runs in it belongs to this process."""
        context = Context()
        context.run(_PROCESS.set, self)
        return context

    def __repr__(self) -> str:
        return f"<Process {self.name}>"


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class VirtualClock:
    """The wall clock and the stopwatch of a `SeededLoop`."""

    def __init__(self, loop: SeededLoop, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Virtual wall time in milliseconds since 1970, with every jump so far."""
        return self._start_ms + int((self._loop.time() + RESOLUTION_S) * 1000)

    def elapsed_s(self) -> float:
        """Virtual seconds since the loop began; jumps do not touch it."""
        return self._loop.time()

    def jump(self, duration_ms: int) -> None:
        """Set the wall clock forward, or back if negative, as an administrator or NTP would. No timer fires for it."""
        self._start_ms += duration_ms

    async def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """Let virtual time pass; whatever is due on the way runs at its moment. Returns when all of it has come to rest."""
        duration_s = seconds + 60 * minutes + 3600 * hours + 86400 * days
        if not 0 <= duration_s < float("inf"):
            raise Invalid(f"time cannot advance by {duration_s} s; jump() sets the wall clock back")
        await clock.sleep(duration_s)
        await self._loop.wait_idle()


class SeededLoop(asyncio.BaseEventLoop):
    """`with SeededLoop(seed) as loop: loop.run_until_complete(main())`; `run` does just that."""

    _ready: deque[asyncio.Handle]  # asyncio's own: `call_soon` appends here
    _scheduled: list[asyncio.TimerHandle]  # asyncio's own: `call_at` pushes onto this heap

    def __init__(self, seed: int, start_ms: int = START_MS) -> None:
        super().__init__()
        self.seed = seed
        self.clock = VirtualClock(self, start_ms)
        self._chance = Chance(seed) if seed else None
        self._now_s = 0.0
        self._callbacks_left = CALLBACKS_MAX
        self._idle: deque[asyncio.Future[None]] = deque()
        self._thread = threading.get_ident()
        self._tasks_made = 0
        self._tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()  # in the order they were made
        self._unhandled: list[Exception] = []
        self._frozen: dict[Process, list[asyncio.Handle]] = {}  # and what waits until they are thawed
        self.set_task_factory(_make_task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancel what is left, close, and raise what nobody handled: as a group, or as notes on the error under way."""
        problems = self._end()
        if error is not None:
            for problem in problems:
                error.add_note(f"Besides, nobody handled {problem!r}")
        elif problems:
            raise ExceptionGroup(f"nobody handled these (seed {self.seed})", problems)

    def time(self) -> float:
        """Virtual seconds since the loop began."""
        return self._now_s

    def freeze(self, process: Process) -> None:
        """Run nothing of `process` until it is thawed."""
        self._frozen.setdefault(process, [])

    def thaw(self, process: Process) -> None:
        """Let a process go on."""
        self._ready.extend(self._frozen.pop(process, ()))

    async def wait_idle(self) -> None:
        """Until nothing else is ready at this moment. Time does not pass."""
        waiter = self.create_future()
        self._idle.append(waiter)
        await waiter

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody handled for the end."""
        if self.is_closed():  # a future of a finished run was collected; its test has its verdict
            return
        error = context.get("exception")
        if not isinstance(error, Exception):
            error = RuntimeError(str(context["message"]))
        else:
            error.add_note(str(context["message"]))
        self._unhandled.append(error)

    def call_soon_threadsafe(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        """`call_soon`; `Refused` from another thread, whose timing no seed can repeat."""
        if threading.get_ident() != self._thread:
            raise Refused("a thread called into the seeded loop; its timing cannot be repeated: test this on asyncio's own loop")
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        """One step, called by asyncio's `run_forever`: one callback, or one jump in time."""
        ready, timers = self._ready, self._scheduled
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now_s + RESOLUTION_S):
            timer = heapq.heappop(timers)
            if not timer.cancelled():
                self._now_s = max(self._now_s, timer.when())
                ready.append(timer)
        if not ready:
            self._wake_or_jump()
            return
        if self._chance is not None and len(ready) > 1:
            pick = self._chance.below(len(ready))
            ready[0], ready[pick] = ready[pick], ready[0]
        handle = ready.popleft()
        if handle.cancelled():
            return
        if self._frozen and (held := self._frozen.get(handle._context.get(_PROCESS))) is not None:  # type: ignore[attr-defined]
            held.append(handle)
            return
        self._callbacks_left -= 1
        if self._callbacks_left < 0:
            raise Stuck(f"the callbacks never end (seed {self.seed}); is it a loop without a wait?{_where(self._pending())}")
        handle._run()

    def _wake_or_jump(self) -> None:
        """Nothing is ready: whoever waits for that goes on; else time moves; else nothing ever will."""
        if self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
        elif self._scheduled:
            self._now_s = self._scheduled[0].when()
        else:
            raise Stuck(
                f"nothing can ever run again (seed {self.seed}): nothing is ready, no timer is set, and threads and sockets do not "
                f"exist here{_where(self._pending())}"
            )

    def _pending(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._tasks.values() if not task.done()]

    def _end(self) -> list[Exception]:
        """Cancel the tasks that are left, close, and return everything that nobody handled."""
        self._callbacks_left = ENDING_CALLBACKS_MAX
        for process in list(self._frozen):
            self.thaw(process)
        ending = self.create_task(self._cancel_rest())
        try:
            self.run_until_complete(ending)
        except Stuck:
            left = [task for task in self._pending() if task is not ending]
            self._unhandled.append(Stuck(f"tasks were cancelled and refuse to end (seed {self.seed}){_where(left)}"))
        for task in list(self._tasks.values()):
            if task.done() and not task.cancelled() and task._log_traceback:  # asyncio's mark of an error nobody has asked for
                error = task.exception()
                if isinstance(error, Exception):
                    error.add_note(f"raised in {task.get_name()}, which nobody awaited")
                    self._unhandled.append(error)
        self.close()
        return self._unhandled

    async def _cancel_rest(self) -> None:
        ending = asyncio.current_task()
        while rest := [task for task in self._pending() if task is not ending]:
            for task in rest:
                task.cancel()
            await asyncio.wait(rest)
        await self.shutdown_asyncgens()


def run(main: Callable[[], Coroutine[Any, Any, T]] | Coroutine[Any, Any, T], *, seed: int = 0, start_ms: int = START_MS) -> T:
    """Run `main`, a coroutine or what makes one, on a fresh `SeededLoop` and return its result. Raises as the loop does."""
    with SeededLoop(seed, start_ms) as loop:
        return loop.run_until_complete(main() if callable(main) else main)


def current_clock() -> VirtualClock:
    """The clock of the `SeededLoop` that runs the caller. Raises `Invalid` on another loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SeededLoop):
        raise Invalid(f"a virtual clock needs stead.testing's SeededLoop, and {type(loop).__name__} is running")
    return loop.clock


class _NumberedTask(asyncio.Task[Any]):
    """Hashes by number, not by address: asyncio keeps tasks in sets, and a `TaskGroup` cancels in the order of one."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    assert isinstance(loop, SeededLoop)
    loop._tasks_made += 1
    number = loop._tasks_made
    context, process = options.get("context"), _PROCESS.get()
    if context is not None and process is not None and _PROCESS not in context:  # an owner of tasks that has a context of its own
        context.run(_PROCESS.set, process)
    if options.get("name") is None:
        options["name"] = f"task-{number}"  # asyncio's own names count on over all loops of the process
    task = _NumberedTask(number, coro, loop=loop, **options)
    loop._tasks[number] = task
    return task


def _where(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """One line for each task: its name and the frames it is suspended in, innermost last."""
    lines = [f"\n  {task.get_name()}: {' > '.join(_frames(task)) or 'has not begun'}" for task in tasks]
    more = len(lines) - _TASKS_SHOWN_MAX
    return ":" * bool(lines) + "".join(lines[:_TASKS_SHOWN_MAX]) + (f"\n  and {more} more" if more > 0 else "")


def _frames(task: asyncio.Task[Any]) -> list[str]:
    shown: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        code = frame.f_code
        shown.append(f"{code.co_qualname} ({Path(code.co_filename).name}:{frame.f_lineno})")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return shown[-_FRAMES_SHOWN_MAX:]


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(*args: object, **options: object) -> NoReturn:
        raise Refused(
            f"loop.{name}() reaches for the world outside, which no seed can repeat: give the code under test something in memory, "
            "or run this test on asyncio's own loop"
        )

    return refused


for _name in (
    *("add_reader", "remove_reader", "add_writer", "remove_writer", "add_signal_handler", "remove_signal_handler"),
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto"),
    *("sock_connect", "sock_accept", "sock_sendfile", "sendfile", "start_tls", "connect_accepted_socket"),
    *("create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection", "create_unix_server"),
    *("connect_read_pipe", "connect_write_pipe", "subprocess_exec", "subprocess_shell"),
    *("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo"),
):
    setattr(SeededLoop, _name, _refuse(_name))
