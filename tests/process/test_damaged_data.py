"""A data directory that is not whole: the server refuses it, says which file and what to do, and leaves everything as it was."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stead.storage.sqlite.file import FILE_NAME

if TYPE_CHECKING:
    from tests.process.conftest import Serve

pytestmark = pytest.mark.process

BOXES = 30
Refusal = Callable[[Path, Path], str]


@pytest.fixture(scope="module")
def left_behind(serve: Serve, boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server left that was stopped (`stopped`) and one that was killed, with its log (`killed`)."""
    place = tmp_path_factory.mktemp("data")
    for name, number in (("stopped", signal.SIGTERM), ("killed", signal.SIGKILL)):
        with serve(boxes, place / name) as server, server.client() as client:
            for box in range(BOXES):
                assert client.post(f"/boxes/{box}", json={"text": f"{box} " * 1000}).text == "1"
            server.end(number)
    return place


def overwrite(path: Path, offset: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * size)


def damage_header(data: Path) -> None:
    overwrite(data / FILE_NAME, 0, 100)


def damage_pages(data: Path) -> None:
    overwrite(data / FILE_NAME, 8 * 4096, 4 * 4096)


def cut_short(data: Path) -> None:
    path = data / FILE_NAME
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(data: Path) -> None:
    (data / FILE_NAME).write_bytes(b"")


def remove(data: Path) -> None:
    (data / FILE_NAME).unlink()


def remove_all_but_the_log(data: Path) -> None:
    remove(data)
    (data / "made").unlink()


def age(data: Path) -> None:
    """As if a later release had written it."""
    database = sqlite3.connect(data / FILE_NAME)
    database.execute("PRAGMA user_version = 1000")
    database.commit()
    database.close()


def replace_by_another(data: Path) -> None:
    remove(data)
    database = sqlite3.connect(data / FILE_NAME)
    database.execute("CREATE TABLE notes (text)")
    database.commit()
    database.close()


def contents(data: Path) -> dict[str, bytes]:
    """What must stay as it is; the lock holds the number of the last process, and the shared-memory index is made anew."""
    return {path.name: path.read_bytes() for path in data.iterdir() if path.name not in {"lock", f"{FILE_NAME}-shm"}}


@pytest.mark.parametrize(
    ("harm", "origin", "advice"),
    [
        (damage_header, "stopped", ".recover"),
        (damage_pages, "stopped", ".recover"),
        (cut_short, "stopped", ".recover"),
        (empty, "stopped", "Restore it from a backup"),
        (empty, "killed", "Restore it from a backup"),
        (remove, "stopped", "Restore it from a backup"),
        (remove, "killed", "Restore it from a backup"),
        (remove_all_but_the_log, "killed", "Restore it from a backup"),
        (age, "stopped", "install the release"),
        (replace_by_another, "stopped", "another directory"),
    ],
)
def test_damaged_data_is_refused_and_kept(
    left_behind: Path, boxes: Path, tmp_path: Path, refusal: Refusal, harm: Callable[[Path], None], origin: str, advice: str
) -> None:
    """Exit code 1, the file's name and a way out; never an empty start over what was there, at the second try neither."""
    data = tmp_path / "data"
    shutil.copytree(left_behind / origin, data)
    harm(data)
    before = contents(data)
    said = refusal(boxes, data)
    assert str(data / FILE_NAME) in said and advice in said
    assert contents(data) == before


def test_a_log_that_was_cut_off_by_a_crash_is_no_damage(serve: Serve, left_behind: Path, boxes: Path, tmp_path: Path) -> None:
    """A half-written end of the log was never acknowledged: the server starts with all that is before it."""
    data = tmp_path / "data"
    shutil.copytree(left_behind / "killed", data)
    with (data / f"{FILE_NAME}-wal").open("ab") as file:
        file.write(b"\xa5" * 5000)
    with serve(boxes, data) as server, server.client() as client:
        assert [client.get(f"/boxes/{box}/count").text for box in range(BOXES)] == ["1"] * BOXES


def test_an_unparsable_manifest_is_refused(boxes: Path, tmp_path: Path, refusal: Refusal) -> None:
    """With its place, before the data directory is made."""
    place = tmp_path / "app"
    shutil.copytree(boxes, place)
    (place / "stead.manifest").write_text('application "a" {\n  actor "box {}\n}\n')
    assert f"{place}/stead.manifest:2:9: " in refusal(place, tmp_path / "data")
    assert not (tmp_path / "data").exists()
