"""The `stead` command, in this process: what it prints, and how it fails."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import sqlite3
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import msgspec
import pytest
import typer
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner, Result

from stead import codec
from stead.admin import ServerAddress, write_address
from stead.admin.views import value_line
from stead.cli import app
from stead.cli.actors import alarms_table
from stead.cli.child import Job, addresses_table, decode_job
from stead.cli.console import Commands
from stead.cli.dev import SavedFiles
from stead.cli.new import Template
from stead.clock import SystemClock
from stead.ids import Chance
from stead.node import Node, Settings, load_application
from stead.runtime.alarms import AlarmRow
from stead.storage.entries import ALARM
from stead.storage.sqlite import SqliteEngine

MANIFEST = 'application "a" {\n  service "api" { visibility = "public" }\n  actor "box" {}\n  sql_database "records" {}\n}\n'
APP = """from stead import Actor, Service, durable
class Box(Actor):
    async def put(self, key: str, value) -> None:
        await self.storage.put(key, value)
    async def row(self) -> None:
        await self.sql.execute("CREATE TABLE notes (text)")
class Api(Service):
    async def fetch(self, request): return "ok"
"""


def stead(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def data(place: Path) -> Path:
    """A stopped data directory with three actors."""

    async def fill() -> None:
        engine = SqliteEngine.open(place / ".stead", SystemClock())
        node = Node(load_application(place), engine, Settings(data=place / ".stead"), SystemClock(), Chance(1))
        await node.start()
        for name in ("[red]ann", "bob", "cleo"):
            await node.env.BOX.get(name).put("greeting", f"hello [b]{name}")
        await node.env.BOX.get("bob").row()
        await node.close()
        await engine.close()

    asyncio.run(fill())
    return place / ".stead"


def test_nodes_are_asked_of_a_server_that_runs(place: Path, data: Path) -> None:
    """Where none does, nobody knows of any."""
    for arguments in (("list", place), ("drain", "a", place), ("uncordon", "a", place)):
        assert f"no server runs on the data directory {data}" in stead("nodes", *arguments, code=1).stderr
    assert "no server runs" in stead("actors", "move", "box/bob", "a", "--data", data, code=1).stderr


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_every_setting_is_on_its_page(command: str) -> None:
    """Each flag of a server, and the variable that sets it."""
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
    found = get_command(app).get_command(None, command)  # type: ignore[attr-defined] # it is a group
    options = [parameter for parameter in found.params if parameter.param_type_name == "option" and parameter.name != "help"]
    names = [name for option in options for name in (option.opts[0], option.envvar)]
    assert "--port" in names and [name for name in names if f"`{name}`" not in page] == []


def test_version_and_help() -> None:
    """Both print and leave."""
    assert stead("--version").output == f"stead {version('stead')}\n"
    assert "serve" in stead("--help").output


def test_check_shows_what_an_application_consists_of(place: Path) -> None:
    """With the class of each unit that has one."""
    output = stead("check", place).output
    assert "app:Box" in output and "app:Api" in output
    assert "RECORDS" in next(line for line in output.splitlines() if "records" in line)
    units = json.loads(stead("check", place, "--json").output)["units"]
    assert [(unit["name"], unit["class"]) for unit in units] == [
        ("api", "app:Api"),
        ("box", "app:Box"),
        ("records", ""),
    ]


def test_the_rooms_of_a_public_actor_have_an_address(place: Path) -> None:
    """`check` says the path, `dev` where to reach it; private actors have none."""
    assert "/parties" not in stead("check", place).output
    (place / "stead.manifest").write_text(MANIFEST.replace('"box" {}', '"box" { visibility = "public" }'))
    assert "/parties/box/:room" in stead("check", place).output
    table = addresses_table(load_application(place), Settings(), "http://127.0.0.1:8700")
    assert "http://127.0.0.1:8700/parties/box/:room" in list(table.columns[3].cells)


def test_queues_are_shown_with_their_observers(place: Path) -> None:
    """`check` and `dev` say who observes what, and which queue is pulled."""
    (place / "stead.manifest").write_text(
        'application "a" { queue "jobs" {} queue "exports" {} bucket "files" {} '
        'observer "worker" { source { queue = "jobs" } } observer "reader" { source { bucket = "files" } } }'
    )
    process = "    async def process(self, message): ..."
    (place / "app.py").write_text(
        f"from stead import Observer\nclass Worker(Observer):\n{process}\nclass Reader(Observer):\n{process}\n"
    )
    lines = {line.split()[1]: line for line in stead("check", place).output.splitlines() if len(line.split()) > 2}
    cells = list(addresses_table(load_application(place), Settings(), "http://127.0.0.1:8700").columns[3].cells)
    for unit, said in (("jobs", "observed by worker"), ("exports", "pulled"), ("files", "observed by reader")):
        assert said in lines[unit] and said in cells
    assert "observes queue jobs" in lines["worker"] and "observes bucket files" in lines["reader"]


def test_check_prints_every_error_with_its_place(place: Path) -> None:
    """All errors of the manifest, not the first one; each with file, line, column and a hint."""
    (place / "stead.manifest").write_text('application "a" {\n  srvice "x" {}\n  actor "Box" {}\n}\n')
    result = stead("check", place, code=1)
    assert f"{place}/stead.manifest:2:3: " in result.stderr and "stead.manifest:3:" in result.stderr
    assert result.stderr.count("hint:") == 2 and result.stdout == ""
    errors = json.loads(stead("check", place, "--json", code=1).stdout)["errors"]
    assert [error["line"] for error in errors] == [2, 3] and all(error["hint"] for error in errors)


def test_check_prints_every_missing_class(place: Path) -> None:
    """Classes are checked as the manifest is: all of them."""
    (place / "app.py").write_text("")
    assert stead("check", place, code=1).stderr.count("no class for") == 2


def test_check_shows_where_code_breaks(place: Path) -> None:
    """As text and as JSON."""
    (place / "app.py").write_text("1 / 0")
    assert "ZeroDivisionError" in stead("check", place, code=1).stderr
    (error,) = json.loads(stead("check", place, "--json", code=1).stdout)["errors"]
    assert "app.py:1" in error["problem"]


def test_a_place_without_a_manifest_is_one_error(tmp_path: Path) -> None:
    """For each command that needs one."""
    for command in ("check", "serve", "dev"):
        result = stead(command, tmp_path, code=1)
        assert "no stead.manifest" in result.stderr and "hint:" in result.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"STEAD_PORT": "70000"}, "port 70000"),
        ({"STEAD_BODY_MAX_MIB": "0"}, "body_bytes_max"),
        ({"STEAD_HOST": "no host"}, "no host"),
    ],
)
def test_settings_come_from_the_environment_and_are_checked(
    place: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """A variable counts like the flag, and a wrong one is named."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said in stead("serve", place, code=1).stderr


def test_an_unknown_host_is_explained(place: Path) -> None:
    """An address that is not this machine's is one error, before any data is touched."""
    assert "cannot listen on 192.0.2.1" in stead("serve", place, "--host", "192.0.2.1", code=1).stderr
    assert not (place / ".stead").exists()


@pytest.mark.parametrize("template", list(Template))
def test_new_makes_an_application_that_checks(tmp_path: Path, template: Template) -> None:
    """Under its name, with nothing left to fill in."""
    directory = tmp_path / "my-shop"
    stead("new", directory, "--template", template.value)
    assert json.loads(stead("check", directory, "--json").output)["application"] == "my-shop"
    assert (directory / ".gitignore").exists() and (directory / "tests" / "test_app.py").exists()
    assert not [path for path in directory.rglob("*") if path.is_file() and "{{" in path.read_text() and path.suffix != ".pyc"]


@pytest.mark.parametrize("name", ["My-Shop", "-x", "a b", "ü", "a" * 64])
def test_new_refuses_a_name_that_no_application_may_have(tmp_path: Path, name: str) -> None:
    """And says which names are fine."""
    result = stead("new", "--", tmp_path / name, code=1)
    assert "is no name" in result.stderr and "my-shop" in result.stderr
    assert not (tmp_path / name).exists()


def test_new_never_overwrites(tmp_path: Path) -> None:
    """An existing file or directory is left alone, even an empty one."""
    (tmp_path / "shop").mkdir()
    assert "exists already" in stead("new", tmp_path / "shop", code=1).stderr
    assert list((tmp_path / "shop").iterdir()) == []


def test_actors_are_listed(data: Path) -> None:
    """By unit and prefix, some or all of them; names are printed as they are."""
    assert "box/[red]ann" in stead("actors", "list", "--data", data).stdout
    page = json.loads(stead("actors", "list", "--data", data, "--json", "--limit", "2").stdout)
    assert [line["name"] for line in page["actors"]] == ["[red]ann", "bob"] and page["cursor"] == "box/bob"
    assert "--cursor 'box/bob'" in stead("actors", "list", "--data", data, "--limit", "2").stderr
    rest = json.loads(stead("actors", "list", "--data", data, "--json", "--cursor", page["cursor"]).stdout)
    assert [line["name"] for line in rest["actors"]] == ["cleo"]
    assert len(json.loads(stead("actors", "list", "--data", data, "--json", "--all").stdout)["actors"]) == 3
    assert json.loads(stead("actors", "list", "--data", data, "--json", "--unit", "box", "--prefix", "c").stdout)["cursor"] is None


def test_a_pipe_gets_no_filled_up_lines(data: Path) -> None:
    """What is not a terminal has no width to fill."""
    lines = stead("actors", "list", "--data", data).stdout.splitlines()
    assert len(lines) == 4 and [line for line in lines if line != line.rstrip()] == []


def test_an_actor_is_shown(data: Path) -> None:
    """What it holds, as text and as JSON."""
    output = stead("actors", "show", "box/bob", "--data", data).stdout
    assert 'greeting  "hello [b]bob"' in output and "notes: 0 rows" in output
    view = json.loads(stead("actors", "show", "box/bob", "--data", data, "--json").stdout)
    assert view["keys"][0]["value"] == "hello [b]bob"


def test_alarms_are_shown_with_what_became_of_them() -> None:
    """When they ring, how they repeat, and how they failed, whatever their payload; one that is dead rings no more."""
    rows = {
        "": AlarmRow(1_000, 1_000, codec.encode(None)),
        "daily": AlarmRow(1_000, 1_000, codec.encode("x" * 500), cron="0 3 * * *", timezone="Europe/Berlin"),
        "late": AlarmRow(61_000, 1_000, codec.encode({"a": 1}), every_ms=90_000, failures=2, error="ValueError: [red]no"),
        "over": AlarmRow(1_000, 1_000, codec.encode("y" * 500), failures=7, dead=True, error="KeyError: 'x'"),
        "vast": AlarmRow(1_000, 1_000, codec.encode("z" * 5_000)),
    }
    table = alarms_table([value_line(ALARM + name.encode(), msgspec.msgpack.encode(row)) for name, row in rows.items()])
    said = StringIO()
    Console(file=said, width=300).print(table)
    shown = [re.split(" {2,}", line.strip()) for line in said.getvalue().splitlines()[1:]]
    assert shown[0] == ['""', "1970-01-01 00:00:01"]
    assert shown[1] == ["daily", "1970-01-01 00:00:01", "0 3 * * * (Europe/Berlin)", f'"{"x" * 99}…']
    assert shown[2] == ["late", "1970-01-01 00:01:01", "every 90 s", '{"a":1}', "failed 2 times: ValueError: [red]no"]
    assert shown[3] == ["over", f'"{"y" * 99}…', "dead: KeyError: 'x'"]
    assert shown[4][0] == "vast" and shown[4][1].endswith("…")


def test_an_actor_is_exported(data: Path, tmp_path: Path) -> None:
    """To a file that any SQLite reads."""
    stead("actors", "export", "box/bob", tmp_path / "bob.sqlite", "--data", data)
    database = sqlite3.connect(tmp_path / "bob.sqlite")
    assert database.execute("SELECT key, value FROM stead_keys").fetchall() == [("greeting", '"hello [b]bob"')]
    assert database.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    database.close()
    assert "never overwrites" in stead("actors", "export", "box/bob", tmp_path / "bob.sqlite", "--data", data, code=1).stderr


def test_an_actor_is_deleted_only_with_a_yes(data: Path) -> None:
    """Without a terminal to ask on, --yes is needed."""
    assert "--yes" in stead("actors", "delete", "box/bob", "--data", data, code=1).stderr
    assert json.loads(stead("actors", "delete", "box/bob", "--yes", "--json", "--data", data).stdout) == {"deleted": "box/bob"}
    assert "there is no actor" in stead("actors", "show", "box/bob", "--data", data, code=1).stderr


def test_looking_needs_no_lock(data: Path) -> None:
    """A directory that is in use by a process without an address can be looked at, and refuses a delete."""
    engine = SqliteEngine.open(data, SystemClock())
    try:
        assert "box/bob" in stead("actors", "list", "--data", data).stdout
        assert "in use by process" in stead("actors", "delete", "box/bob", "--yes", "--data", data, code=1).stderr
    finally:
        asyncio.run(engine.close())


def test_an_address_that_nobody_answers_counts_as_absent(data: Path) -> None:
    """The process number of a killed server may be another's by now."""
    write_address(data, ServerAddress(os.getpid(), "http://127.0.0.1:9", "t"))
    assert "box/bob" in stead("actors", "list", "--data", data).stdout


def test_a_missing_data_directory_or_a_wrong_id_is_explained(tmp_path: Path, data: Path) -> None:
    """With what to do."""
    assert "--data" in stead("actors", "list", "--data", tmp_path / "nothing", code=1).stderr
    assert "unit/name" in stead("actors", "show", "nonsense", "--data", data, code=1).stderr


@pytest.mark.parametrize(("number", "hint"), [(errno.EACCES, "the user that the server runs as"), (errno.ENOSPC, "make room")])
def test_a_file_that_cannot_be_used_is_explained(number: int, hint: str) -> None:
    """Whichever it is: most often the server's, for another user than the server's. No traceback, and no exit but 1."""
    failing = typer.Typer(cls=Commands)

    @failing.command()
    def look() -> None:
        raise OSError(number, os.strerror(number), "/srv/shop/.stead/server.json")

    @failing.command()
    def other() -> None:
        raise FileNotFoundError(errno.ENOENT, "not here", "/srv")

    result = CliRunner().invoke(failing, ["look"])
    assert (
        result.exit_code == 1 and "error: /srv/shop/.stead/server.json cannot be used: " in result.stderr and hint in result.stderr
    )
    assert isinstance(CliRunner().invoke(failing, ["other"]).exception, FileNotFoundError)  # ours to mend


def test_a_child_gets_its_job_whole(tmp_path: Path) -> None:
    """What the parent encodes, the child decodes."""
    job = Job(tmp_path, {"host": "::1", "data": str(tmp_path)}, 5, 6, is_again=True)
    assert decode_job(job.encode()) == job


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("app.py", True),
        ("shop/stead.manifest", True),
        (".stead/x.json", False),
        ("var/x.py", False),
        ("__pycache__/app.py", False),
        (".venv/a.py", False),
        ("log.txt", False),
    ],
)
def test_only_sources_cause_a_reload(tmp_path: Path, path: str, counts: bool) -> None:
    """Not what the server writes into its data directory, nor logs, nor an environment."""
    assert SavedFiles(tmp_path / "var")(1, str(tmp_path / path)) is counts  # type: ignore[arg-type]
