"""A node: settings, variables, and the assembly of runtime and gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead.clock import SystemClock
from stead.errors import Invalid
from stead.ids import Chance
from stead.manifest import ManifestErrors
from stead.node import LoadFailed, Node, Operating, Settings, describe, directory, load_application
from stead.storage.memory import MemoryEngine

MANIFEST = """application "shop" {
  env "GREETING" { default = "hello" }
  env "KEY" { secret = true }
  service "api" { domain { cname = "shop-api" } env "GREETING" { default = "hi" } }
  actor "counter" {}
}
"""
APP = """from stead import Actor, Service, durable, route
class Counter(Actor):
    value: int = durable(0)
    async def add(self) -> int:
        self.value += 1
        return self.value
    async def greeting(self) -> str:
        return self.env.GREETING
class Api(Service):
    @route("GET", "/")
    async def hello(self, request):
        return [self.env.GREETING, self.env.KEY, await self.env.COUNTER.get("a").greeting()]
    @route("POST", "/{name}")
    async def add(self, request, name):
        return str(await self.env.COUNTER.get(name).add())
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def make_node(shop: Path, environ: dict[str, str] | None) -> Node:
    operating = Operating(environ=environ)
    return Node(load_application(shop), MemoryEngine(), Settings(data=shop / "data"), SystemClock(), Chance(1), operating)


def test_a_node_answers_between_start_and_close(shop: Path) -> None:
    """It is ready from start to close, answers requests with the application, and leaves nothing running."""

    async def run() -> None:
        node = make_node(shop, {"KEY": "k"})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(node.gateway), base_url="http://shop-api.localhost") as client:
            assert (await client.get("/_stead/ready")).status_code == 503
            await node.start()
            assert (await client.get("/_stead/ready")).status_code == 200
            assert [(await client.post("/a")).text for _ in range(2)] == ["1", "2"]
            assert await node.env.COUNTER.get("a").add() == 3
            assert node.stats()["residents"] == 1
            await node.close()
            assert (await client.get("/_stead/ready")).status_code == 503

    asyncio.run(run())


def test_variables_come_from_the_environment_or_their_default(shop: Path) -> None:
    """A service's own variable hides the application's, for that service only."""

    async def run(environ: dict[str, str]) -> Any:
        node = make_node(shop, environ)
        await node.start()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(node.gateway), base_url="http://localhost") as client:
            answer = await client.get("/")
        await node.close()
        return answer.json()

    assert asyncio.run(run({"KEY": "k", "OTHER": "x"})) == ["hi", "k", "hello"]
    assert asyncio.run(run({"KEY": "", "GREETING": "hola"})) == ["hola", "", "hola"]


def test_a_secret_without_value_stops_the_start(shop: Path) -> None:
    """The error names the variable and its place in the manifest."""

    async def run() -> None:
        with pytest.raises(ManifestErrors, match="secret KEY has no value") as caught:
            make_node(shop, {})
        assert caught.value.line == 3 and "KEY=" in caught.value.hint

    asyncio.run(run())


def test_a_service_that_cannot_be_made_is_told_with_its_line(shop: Path) -> None:
    """An exception in `__init__` is the application's failure, as one while it is imported."""
    (shop / "app.py").write_text(APP + "    def __init__(self): raise OSError('no such database')\n")

    async def run() -> None:
        with pytest.raises(LoadFailed, match=r"(?s)no such database.*app\.py"):
            make_node(shop, {"KEY": "k"})

    asyncio.run(run())


def test_an_operator_sees_requests_and_answers_below_its_path(shop: Path) -> None:
    """`on_request` is told of each request, and the operator's application gets what is below /_stead."""
    seen: list[tuple[str, str, int]] = []

    async def admin(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def on_request(method: str, host: str, path: str, status: int, duration_s: float, error: Exception | None) -> None:
        seen.append((method, path, status))

    async def run() -> None:
        operating = Operating({"KEY": "k"}, lambda node: admin, on_request)
        node = Node(load_application(shop), MemoryEngine(), Settings(data=shop / "data"), SystemClock(), Chance(1), operating)
        await node.start()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(node.gateway), base_url="http://localhost") as client:
            await client.get("/_stead/admin/stats")
            await client.get("/nothing/here")
        await node.close()

    asyncio.run(run())
    assert seen == [("GET", "/_stead/admin/stats", 204), ("GET", "/nothing/here", 404)]


def test_services_answer_below_the_base_domain(shop: Path) -> None:
    """`cname` is the first label below localhost and below the base domain."""
    application = load_application(shop)
    hosts = directory(application, Settings(data=shop / "data", base_domain="example.com")).hosts
    assert hosts == {"shop-api.localhost": "api", "shop-api.example.com": "api"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("port", 65_536),
        ("port", -1),
        ("host", ""),
        ("host", "a b"),
        ("base_domain", "Example.com"),
        ("body_bytes_max", 0),
        ("shutdown_timeout_s", -1),
        ("data", Path(__file__)),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: str, value: object) -> None:
    """The error names the setting's value or the setting."""
    with pytest.raises(Invalid) as caught:
        Settings(**{setting: value})  # type: ignore[arg-type]
    assert setting.replace("_", " ").split(" ")[0] in str(caught.value)


def test_an_error_is_told_with_the_applications_lines(shop: Path) -> None:
    """Lines of another unit, carried in a note, come before the caller's; the note on what was rolled back is kept."""
    error = ValueError("no")
    error.add_note("in a turn of counter/a: what it wrote was rolled back")
    error.add_note(f'raised in counter/a:\nTraceback:\n  File "{shop}/app.py", line 5, in add\n    self.value += 1\nValueError: no')
    exec(compile("def call(error):\n    raise error", f"{shop}/caller.py", "exec"), namespace := {})  # type: ignore[var-annotated]
    with pytest.raises(ValueError, match="no") as caught:
        namespace["call"](error)
    lines = describe(caught.value, shop).splitlines()
    assert lines[0] == "ValueError: no" and "rolled back" in lines[1]
    assert lines[2:5] == ["  at app.py:5, in add", "      self.value += 1", "  at caller.py:2, in call"]
