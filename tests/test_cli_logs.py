"""What the commands log: a line that cannot be written is lost, and nothing else is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from stead.cli.logs import ConsoleHandler


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("stead", logging.ERROR, __file__, 1, message, (), None)


def test_lines_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under their level, with markup shown as it is."""
    ConsoleHandler(tmp_path).emit(record("lost [b]it[/b]"))
    assert capsys.readouterr() == ("", "error: lost [b]it[/b]\n")


def test_a_log_that_finds_no_room_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a line is lost, and what it tells of goes on."""
    with open("/dev/full", "w", buffering=1) as full:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", full)
            for _ in range(3):
                ConsoleHandler(tmp_path).emit(record("lost"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # closing flushes what could not be written


def test_a_log_that_nobody_reads_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose reader has gone does not end the server."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as pipe:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", pipe)
            for _ in range(3):
                ConsoleHandler(tmp_path).emit(record("lost"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())
