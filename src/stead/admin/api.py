"""The operator's API: JSON below `/_stead/admin/`, for who holds the token and, unless the settings say so, is on this machine.

GET    actors?unit=&prefix=&cursor=&limit=    a page of the registry
GET    actor?id=                              what one actor holds
DELETE actor?id=                              erase it
GET    export?id=                             it, as a SQLite file
POST   import?id=&file=&overwrite=            make a database in the data directory's IMPORTS all that an actor holds
GET    stats                                  the node's counters
GET    nodes                                  the live nodes of the cluster
POST   node?name=&draining=                   have a node give its actors to others (true), or take some again (false)
POST   move?id=&node=                         give an actor to a node
GET    units                                  the units of the manifest
POST   unit?name=&operation=                  what an operation of a data service returns; its arguments are the body's JSON
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stead.admin.nodes import Alone, Nodes
from stead.admin.operator import LIST_ACTORS_MAX, Operator
from stead.admin.units import Units
from stead.errors import Invalid, SteadError
from stead.ids import ActorId, parse_id
from stead.redaction import redacted

PREFIX = "/_stead/admin/"
IMPORTS = "imports"  # where in the data directory who is on this machine puts what is to be imported
_IMPORT = re.compile(r"[0-9a-f]+\.sqlite")
Stats = Callable[[], dict[str, int]]


class AdminApi:
    """An ASGI application that answers below PREFIX."""

    def __init__(
        self,
        operator: Operator,
        units: Units,
        stats: Stats,
        token: str,
        from_anywhere: bool = False,
        data: Path = Path(),
        nodes: Nodes = Alone(),
    ) -> None:
        self._token = token.encode()
        self._from_anywhere = from_anywhere
        self._app = _application(_Handlers(operator, units, stats, data, nodes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if not self._from_anywhere and not _is_this_machine(request.client.host if request.client else ""):
            return _problem(403, "the operator's API answers this machine only; --admin-from-anywhere opens it")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token):
            return _problem(401, "send the token of server.json in the data directory as `Authorization: Bearer …`")
        return None


class _Handlers:
    def __init__(self, operator: Operator, units: Units, stats: Stats, data: Path, nodes: Nodes) -> None:
        self._data = data
        self._nodes = nodes
        self._operator = operator
        self._units = units
        self._stats = stats

    async def list_actors(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", str(LIST_ACTORS_MAX))
        if not limit.isascii() or not limit.isdigit():
            raise Invalid(f"limit must be a number, not {limit!r}")
        page = await self._operator.list_actors(query.get("unit"), query.get("prefix", ""), query.get("cursor", ""), int(limit))
        return _answer(page)

    async def show(self, request: Request) -> Response:
        return _answer(await self._operator.show(_actor(request)))

    async def delete(self, request: Request) -> Response:
        actor = _actor(request)
        await self._operator.delete(actor)
        return _answer({"deleted": actor.text})

    async def export(self, request: Request) -> Response:
        actor = _actor(request)
        directory = Path(mkdtemp(prefix="stead-export-"))
        try:
            await self._operator.export(actor, directory / "actor.sqlite", lambda size_bytes: None)
        except BaseException:
            rmtree(directory)
            raise
        return _Download(directory / "actor.sqlite", media_type="application/vnd.sqlite3")

    async def import_sql(self, request: Request) -> Response:
        query = request.query_params
        if not _IMPORT.fullmatch(query.get("file", "")):
            raise Invalid(f"file must be the name of a database in {IMPORTS}/ of the data directory")
        actor = _actor(request)
        await self._operator.import_sql(actor, self._data / IMPORTS / query["file"], query.get("overwrite") == "true")
        return _answer({"imported": actor.text})

    async def stats(self, request: Request) -> Response:
        return _answer(self._stats())

    async def list_nodes(self, request: Request) -> Response:
        return _answer(await self._nodes.list_nodes())

    async def mark(self, request: Request) -> Response:
        name, is_draining = request.query_params.get("name", ""), request.query_params.get("draining")
        if is_draining not in {"true", "false"}:
            raise Invalid("draining must be true or false")
        await self._nodes.set_draining(name, is_draining == "true")
        return _answer({"node": name, "draining": is_draining == "true"})

    async def move(self, request: Request) -> Response:
        actor = _actor(request)
        return _answer({"actor": actor.text, "moved": await self._nodes.move(actor, request.query_params.get("node", ""))})

    async def list_units(self, request: Request) -> Response:
        return _answer(await self._units.list_units())

    async def operate(self, request: Request) -> Response:
        query = request.query_params
        try:
            arguments = msgspec.json.decode(await request.body(), type=dict[str, Any])
        except msgspec.MsgspecError as exc:
            raise Invalid(f"the body must be a JSON object of arguments: {exc}") from exc
        return _answer(await self._units.operate(query.get("name", ""), query.get("operation", ""), arguments))


class _Download(FileResponse):
    """A file that is removed with its directory once it is sent, or nobody wants it any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            rmtree(Path(self.path).parent)


def _application(handlers: _Handlers) -> Starlette:
    return Starlette(
        routes=[
            Route(PREFIX + "actors", handlers.list_actors),
            Route(PREFIX + "actor", handlers.show),
            Route(PREFIX + "actor", handlers.delete, methods=["DELETE"]),
            Route(PREFIX + "export", handlers.export),
            Route(PREFIX + "import", handlers.import_sql, methods=["POST"]),
            Route(PREFIX + "stats", handlers.stats),
            Route(PREFIX + "nodes", handlers.list_nodes),
            Route(PREFIX + "node", handlers.mark, methods=["POST"]),
            Route(PREFIX + "move", handlers.move, methods=["POST"]),
            Route(PREFIX + "units", handlers.list_units),
            Route(PREFIX + "unit", handlers.operate, methods=["POST"]),
        ],
        exception_handlers={SteadError: _failed, 404: _unknown},
    )


def _actor(request: Request) -> ActorId:
    return parse_id(request.query_params.get("id", ""))


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _answer(value: object) -> Response:
    return Response(redacted(json.dumps(msgspec.to_builtins(value), ensure_ascii=False)).encode(), media_type="application/json")


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"status": status, "detail": redacted(detail)}, status, media_type="application/problem+json")


async def _failed(request: Request, exc: Exception) -> Response:  # noqa: RUF029 - a plain one would run in a thread
    return _problem(exc.status if isinstance(exc, SteadError) else 500, str(exc))


async def _unknown(request: Request, exc: Exception) -> Response:  # noqa: RUF029 - a plain one would run in a thread
    return _problem(404, f"the operator's API has no {request.url.path}")
