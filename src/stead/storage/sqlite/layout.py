"""How a data directory is divided among the workers of one machine.

    stead.sqlite               of the only process
    shares-4/0 … shares-4/3    of four workers: each has a database of its own, and an actor's slice says in which it is
    layout                     for how many it is divided; without this file for one

The file `layout` is what counts. What belongs to another number is left over from a division that was interrupted; the next one
removes it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stead.errors import EngineFailed
from stead.logic.placement import rank_of, slice_of

LAYOUT = "layout"


def shares_of(data: Path) -> int:
    """Among how many workers the data is divided. Raises `EngineFailed` for a file that does not say."""
    try:
        text = (data / LAYOUT).read_text()
    except FileNotFoundError:
        return 1
    if not text.strip().isdecimal() or int(text) < 1:
        raise EngineFailed(f"{data / LAYOUT} should be the number of shares in this directory: restore it from a backup")
    return int(text)


def share_directory(data: Path, index: int, count: int) -> Path:
    """Where the database of a share is."""
    return data if count == 1 else data / f"shares-{count}" / str(index)


def share_of(actor: str, count: int) -> int:
    """The share, counted from 0, of an actor by its id's text."""
    return rank_of(slice_of(actor), count)


def check_undivided(directory: Path) -> None:
    """Raise `EngineFailed` where the data is in several shares."""
    count = shares_of(directory)
    if count > 1:
        raise EngineFailed(
            f"{directory} is divided among {count} workers: serve it with --workers {count}, or once with --workers 1, "
            "which brings it together"
        )


def write_layout(data: Path, count: int) -> None:
    """From here on, durably, the data is in `count` shares."""
    partial = data / f"{LAYOUT}.partial"
    with partial.open("w") as file:
        file.write(f"{count}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(data / LAYOUT)
    sync_directory(data)


def remove_others(data: Path, count: int) -> None:
    """Remove what belongs to another number of shares than `count`."""
    for directory in data.glob("shares-*"):
        if directory.name != f"shares-{count}":
            shutil.rmtree(directory)
    if count > 1:
        for name in ("made", "stead.sqlite", "stead.sqlite-wal", "stead.sqlite-shm"):
            (data / name).unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
