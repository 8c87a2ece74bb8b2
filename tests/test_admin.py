"""The operator's API: the same answers from an engine and from a server, for who may ask."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead.admin import (
    AdminApi,
    EngineOperator,
    NodeUnits,
    Operator,
    ServerAddress,
    find_server,
    remote_operator,
    remove_address,
    write_address,
)
from stead.clock import SystemClock
from stead.errors import Invalid, Unavailable
from stead.ids import Chance, named_id, parse_id
from stead.node import Node, Operating, Settings, load_application
from stead.storage.sqlite import SqliteEngine

APP = """from datetime import timedelta
from stead import Actor, durable
class Box(Actor):
    count: int = durable(0)
    async def put(self, key: str, value) -> None:
        await self.storage.put(key, value)
    async def fill(self, number: int) -> None:
        for index in range(number):
            await self.storage.put(f"key{index:05}", "x" * 100)
    async def add(self) -> None:
        self.count += 1
        await self.alarms.set("later", timedelta(days=1), payload={"a": 1})
    async def row(self, text: str) -> None:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS notes (text)")
        await self.sql.execute("INSERT INTO notes VALUES (?)", text)
    async def both(self, number: int) -> None:
        await self.row(str(number))
        await self.storage.put("rows", number)
    async def value(self, key: str):
        return await self.storage.get(key)
    async def wait(self) -> None:
        await self.env.GATE.get("g").closed()
    async def alarm(self, alarm) -> None: ...
class Gate(Actor):
    async def closed(self) -> None:
        import asyncio
        await asyncio.Event().wait()
"""
TOKEN = "secret"
Work = Callable[[Node, Operator, Path], Awaitable[None]]


def silent(size_bytes: int) -> None:
    """Nobody watches the progress."""


@asynccontextmanager
async def running(tmp_path: Path, client: str = "127.0.0.1") -> AsyncIterator[tuple[Node, EngineOperator, httpx.ASGITransport]]:
    (tmp_path / "stead.manifest").write_text('application "a" { actor "box" {} actor "gate" {} }')
    (tmp_path / "app.py").write_text(APP)
    clock = SystemClock()
    engine = SqliteEngine.open(tmp_path / "data", clock)
    direct: list[EngineOperator] = []

    def admin(node: Node) -> AdminApi:
        direct.append(EngineOperator(engine, clock, node.evict))
        return AdminApi(direct[0], NodeUnits(node), node.stats, TOKEN)

    settings = Settings(data=tmp_path / "data", shutdown_timeout_s=1)
    node = Node(load_application(tmp_path), engine, settings, clock, Chance(1), Operating(admin=admin))
    await node.start()
    try:
        yield node, direct[0], httpx.ASGITransport(node.gateway, client=(client, 1))
    finally:
        await node.close()
        await engine.close()


@pytest.fixture(params=["engine", "server"])
def with_operator(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Work], None]:
    """Runs a test's coroutine with a node and an operator, which works on its engine or asks its server."""

    async def run(work: Work) -> None:
        async with running(tmp_path) as (node, direct, transport):
            if request.param == "engine":
                await work(node, direct, tmp_path)
                return
            async with remote_operator(ServerAddress(1, "http://localhost", TOKEN), transport) as remote:
                await work(node, remote, tmp_path)

    return lambda work: asyncio.run(run(work))


def test_actors_are_listed_by_pages(with_operator: Callable[[Work], None]) -> None:
    """In the order of their ids, by unit and prefix; the cursor leads to the next page and ends."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        for name in ("b/1", "a", "b%2F1", "ä"):
            await node.env.BOX.get(name).put("k", 1)
        first = await operator.list_actors("box", "", "", 3)
        assert [line.name for line in first.actors] == ["a", "b%2F1", "b/1"] and first.cursor == "box/b/1"
        last = await operator.list_actors("box", "", first.cursor, 3)
        assert [line.id for line in last.actors] == ["box/ä"] and last.cursor is None
        assert [line.name for line in (await operator.list_actors(None, "b", "", 10)).actors] == ["b%2F1", "b/1"]
        assert (await operator.list_actors("gate", "", "", 10)).actors == []

    with_operator(work)


def test_one_actor_is_shown_with_all_it_holds(with_operator: Callable[[Work], None]) -> None:
    """Keys, attributes, alarms and SQL tables, with values as JSON."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        box = node.env.BOX.get("a")
        await box.put("set", {1})
        await box.put("long", "x" * 5000)
        await box.put("odd", {(1, 2): 10**30})
        await box.add()
        await box.row("hello")
        view = await operator.show(named_id("box", "a"))
        values = {line.name: (line.value, line.cut) for line in view.keys}
        assert values["set"] == ([1], False) and values["odd"] == (repr({(1, 2): 10**30}), False)
        assert values["long"][1] and len(values["long"][0]) < 5000
        assert [(line.name, line.value) for line in view.attributes] == [("count", 1)]
        assert view.alarms[0].name == "later" and view.alarms[0].value["payload"] == {"a": 1}
        assert view.tables is not None and [(table.name, table.rows) for table in view.tables] == [("notes", 1)]
        assert view.line.commits == 5 and not view.more

    with_operator(work)


def test_an_actor_that_is_not_there_is_said_to_be_missing(with_operator: Callable[[Work], None]) -> None:
    """Also where another name begins with this one, and for an id of no name."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        await node.env.BOX.get("abc").put("k", 1)
        for actor in (named_id("box", "ab"), parse_id("box~" + "0" * 32), named_id("nobox", "a")):
            with pytest.raises(Invalid, match="there is no actor"):
                await operator.show(actor)
            with pytest.raises(Invalid, match="there is no actor"):
                await operator.delete(actor)

    with_operator(work)


def test_an_actor_without_a_name_is_found(with_operator: Callable[[Work], None]) -> None:
    """By its id among many of its unit."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        ids = [node.env.BOX.unique_id() for _ in range(40)]
        for actor in ids:
            await node.env.BOX.get(actor).put("k", 1)
        assert [(await operator.show(actor)).line.id for actor in ids] == [actor.text for actor in ids]

    with_operator(work)


def test_an_export_is_a_normal_database(with_operator: Callable[[Work], None]) -> None:
    """The actor's own tables, its keys with values as JSON and as stored, and its attributes and alarms."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        box = node.env.BOX.get("a")
        await box.row("hello")
        await box.fill(2500)
        await box.add()
        told: list[int] = []
        await operator.export(named_id("box", "a"), tmp_path / "a.sqlite", told.append)
        with sqlite3.connect(tmp_path / "a.sqlite") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT text FROM notes").fetchall() == [("hello",)]
            assert database.execute("SELECT count(*), min(key), max(key) FROM stead_keys").fetchone() == (
                2500,
                "key00000",
                "key02499",
            )
            assert database.execute("SELECT value FROM stead_attributes WHERE name = 'count'").fetchone() == ("1",)
            assert database.execute("SELECT json_extract(value, '$.payload.a') FROM stead_alarms").fetchone() == (1,)
        database.close()
        assert sum(told) > 2500 * 100

    with_operator(work)


def test_an_export_shows_one_moment(with_operator: Callable[[Work], None]) -> None:
    """Of an actor that goes on writing, SQL and keys in the file are of the same commit, or the export is refused."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        box = node.env.BOX.get("a")
        written = 0

        def write(size_bytes: int) -> None:
            """A commit between two reads of the export, for the first three of them."""
            nonlocal written
            if written < 3:
                written += 1
                tasks.create_task(box.both(written + 1))

        await box.fill(5000)  # so that keys are read long after SQL pages
        await box.both(1)
        async with asyncio.TaskGroup() as tasks:
            await operator.export(named_id("box", "a"), tmp_path / "a.sqlite", write)
        database = sqlite3.connect(tmp_path / "a.sqlite")
        (rows,) = database.execute("SELECT count(*) FROM notes").fetchone()
        assert database.execute("SELECT value FROM stead_keys WHERE key = 'rows'").fetchone() == (str(rows),)
        database.close()

    with_operator(work)


def test_an_export_never_overwrites(with_operator: Callable[[Work], None]) -> None:
    """A file that exists is left alone, and nothing is left of an export that fails."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        await node.env.BOX.get("a").put("k", 1)
        (tmp_path / "a.sqlite").write_text("mine")
        with pytest.raises(Invalid, match="never overwrites"):
            await operator.export(named_id("box", "a"), tmp_path / "a.sqlite", silent)
        with pytest.raises(Invalid, match="there is no actor"):
            await operator.export(named_id("box", "b"), tmp_path / "b.sqlite", silent)
        with pytest.raises(Invalid, match="cannot be written"):
            await operator.export(named_id("box", "a"), tmp_path / "nowhere" / "a.sqlite", silent)
        assert (tmp_path / "a.sqlite").read_text() == "mine" and list(tmp_path.glob("b.*")) == []

    with_operator(work)


def test_a_deleted_actor_is_gone_and_may_come_back_empty(with_operator: Callable[[Work], None]) -> None:
    """An instance in memory forgets as well; the same name begins anew."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        box = node.env.BOX.get("a")
        await box.put("k", 1)
        await box.add()
        await operator.delete(named_id("box", "a"))
        assert (await operator.list_actors(None, "", "", 10)).actors == []
        assert await box.value("k") is None
        await box.put("k", 2)
        assert await box.value("k") == 2

    with_operator(work)


def test_a_busy_actor_is_not_deleted(with_operator: Callable[[Work], None]) -> None:
    """A turn that runs is not torn; the operator is told to try again."""

    async def work(node: Node, operator: Operator, tmp_path: Path) -> None:
        box = node.env.BOX.get("a")
        await box.put("k", 1)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(box.wait())
            while node.evict(named_id("box", "a")):
                await asyncio.wait([tasks.create_task(node.env.BOX.get("b").value("k"))])
            with pytest.raises(Unavailable, match="busy"):
                await operator.delete(named_id("box", "a"))
            waiting.cancel()
        assert (await operator.show(named_id("box", "a"))).keys[0].value == 1

    with_operator(work)


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("127.0.0.1", {"authorization": f"Bearer {TOKEN}"}, 200),
        ("::1", {"authorization": f"bearer {TOKEN}"}, 200),
        ("127.0.0.1", {"authorization": f"Bearer {TOKEN}x"}, 401),
        ("127.0.0.1", {"authorization": TOKEN}, 401),
        ("127.0.0.1", {}, 401),
        ("10.0.0.1", {"authorization": f"Bearer {TOKEN}"}, 403),
        ("", {"authorization": f"Bearer {TOKEN}"}, 403),
    ],
)
def test_only_an_operator_is_answered(tmp_path: Path, client: str, headers: dict[str, str], status: int) -> None:
    """Who has the token and is on this machine."""

    async def run() -> None:
        async with (
            running(tmp_path, client) as (_, _, transport),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http,
        ):
            response = await http.get("/_stead/admin/stats")
            assert response.status_code == status
            assert status == 200 or response.headers["content-type"] == "application/problem+json"

    asyncio.run(run())


@pytest.mark.parametrize(("path", "status"), [("actors?limit=x", 400), ("actor?id=nonsense", 400), ("nothing", 404)])
def test_a_wrong_question_is_explained(tmp_path: Path, path: str, status: int) -> None:
    """As a problem that says what is wrong."""

    async def run() -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with (
            running(tmp_path) as (_, _, transport),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http,
        ):
            response = await http.get(f"/_stead/admin/{path}")
            assert response.status_code == status and response.json()["detail"]

    asyncio.run(run())


def test_a_servers_address_is_for_its_owner_only(tmp_path: Path) -> None:
    """The file has mode 0600, is found while its process lives, and is gone afterwards."""
    address = ServerAddress(os.getpid(), "http://127.0.0.1:1", TOKEN)
    write_address(tmp_path, address)
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600
    assert find_server(tmp_path) == address
    remove_address(tmp_path)
    assert find_server(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", '{"pid": 4194305, "url": "http://x", "token": "t"}'])
def test_a_file_that_was_left_behind_counts_as_absent(tmp_path: Path, text: str) -> None:
    """A process that is gone, or a file that is torn."""
    (tmp_path / "server.json").write_text(text)
    assert find_server(tmp_path) is None


def test_operations_of_data_services_are_called_by_name(tmp_path: Path) -> None:
    """What a binding names may be called, with JSON both ways; anything else is refused and nothing runs."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text('application "a" { task "tick" { cron = "@daily" } actor "box" {} }')
        (tmp_path / "app.py").write_text(
            "from stead import Actor, Task\nclass Box(Actor): ...\nclass Tick(Task):\n    async def run(self, tick): ...\n"
        )
        clock = SystemClock()
        engine = SqliteEngine.open(tmp_path / "data", clock)

        def admin(node: Node) -> AdminApi:
            return AdminApi(EngineOperator(engine, clock), NodeUnits(node), node.stats, TOKEN)

        node = Node(load_application(tmp_path), engine, Settings(data=tmp_path / "data"), clock, Chance(1), Operating(admin=admin))
        await node.start()
        transport = httpx.ASGITransport(node.gateway, client=("127.0.0.1", 1))
        async with remote_operator(ServerAddress(1, "http://localhost", TOKEN), transport) as remote:
            assert [(line.kind, line.name) for line in await remote.list_units()] == [("task", "tick"), ("actor", "box")]
            assert (await remote.operate("tick", "run", {}))["outcome"] == "succeeded"
            assert len(await remote.operate("tick", "history", {"limit": 5})) == 1
            refused: list[tuple[str, str, dict[str, Any]]] = [
                ("tick", "start", {}),
                ("tick", "_namespace", {}),
                ("box", "get", {"actor": "a"}),
                ("none", "run", {}),
                ("tick", "history", {"limits": 5}),
                ("tick", "history", {"limit": 0}),
            ]
            for unit, operation, arguments in refused:
                with pytest.raises(Invalid):
                    await remote.operate(unit, operation, arguments)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers={"authorization": f"Bearer {TOKEN}"}
        ) as client:
            response = await client.post("/_stead/admin/unit?name=tick&operation=run", content=b"[1")
            assert response.status_code == 400 and "JSON object" in response.text
        await node.close()
        await engine.close()

    asyncio.run(work())
