"""One run of a task: what it is told, how it ended, and what is kept of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Trigger(StrEnum):
    """Why a task ran."""

    CRON = "cron"
    MANUAL = "manual"


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # it raised
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"  # the process ended before it did


class TaskTick(msgspec.Struct, frozen=True):
    """The implementation of `stead.Tick`."""

    cron: str
    scheduled_time: datetime


class Ending(msgspec.Struct, frozen=True):
    """How a run ended and how long it took."""

    outcome: Outcome
    duration_s: float | None = None  # None: unknown
    error: str | None = None


class TaskRun(msgspec.Struct, frozen=True):
    """A line of a task's history. Without an `outcome` it is under way."""

    number: int
    trigger: Trigger
    scheduled_time: datetime
    started_at: datetime
    outcome: Outcome | None = None
    duration_s: float | None = None
    error: str | None = None

    def ended(self, ending: Ending) -> TaskRun:
        return msgspec.structs.replace(self, outcome=ending.outcome, duration_s=ending.duration_s, error=ending.error)
