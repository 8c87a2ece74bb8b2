"""What a look at a machine, a data directory or a server comes to."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """What a finding means for who operates it."""

    OK = "ok"
    NOTE = "note"  # to know, nothing to do
    WARNING = "warning"  # works, and will not for ever, or not in every case
    FAILED = "failed"  # does not work, or breaks a promise


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    subject: str
    level: Level
    found: str
    remedy: str = ""  # what to do about it


def ok(subject: str, found: str) -> Finding:
    return Finding(subject, Level.OK, found)


def note(subject: str, found: str, remedy: str = "") -> Finding:
    return Finding(subject, Level.NOTE, found, remedy)


def warning(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject, Level.WARNING, found, remedy)


def failed(subject: str, found: str, remedy: str) -> Finding:
    return Finding(subject, Level.FAILED, found, remedy)
