"""The operator of a running server, over its HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from stead.admin.address import ServerAddress
from stead.admin.api import PREFIX
from stead.admin.export import Progress, new_file
from stead.admin.nodes import Misdirected, NodeLine
from stead.admin.views import ActorsPage, ActorView
from stead.errors import Invalid, SteadError, Unavailable
from stead.ids import ActorId
from stead.node import UnitLine

T = TypeVar("T")
WORKERS_ASKED_MAX = 300  # until one of several behind a port is the right one: with eight, this fails once in 10^17
_ONE_REQUEST = {"connection": "close"}
TIMEOUT_S = 60.0  # for one answer; a server that is busy may take its time


class RemoteOperator:
    """Speaks to the server at `address`. Use it as `async with remote_operator(address) as operator`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def is_there(self) -> bool:
        """Whether this server answers at the address: after a crash it may be nobody's by now, or another server's."""
        try:
            return (await self._client.get("stats")).status_code == 200
        except httpx.ConnectError:
            return False
        except httpx.HTTPError as exc:
            raise _unreachable(exc) from exc

    async def list_actors(self, unit: str | None, prefix: str, cursor: str, limit: int) -> ActorsPage:
        query = {"prefix": prefix, "cursor": cursor, "limit": str(limit)} | ({"unit": unit} if unit else {})
        return _read(await self._ask("GET", "actors", query), ActorsPage)

    async def show(self, actor: ActorId) -> ActorView:
        return _read(await self._ask("GET", "actor", {"id": actor.text}), ActorView)

    async def delete(self, actor: ActorId) -> None:
        await self._ask("DELETE", "actor", {"id": actor.text})

    async def import_sql(self, actor: ActorId, file: Path, overwrite: bool) -> None:
        """`file` must be in IMPORTS of the server's data directory."""
        query = {"id": actor.text, "file": file.name, "overwrite": "true" if overwrite else "false"}
        await self._ask("POST", "import", query, timeout=None)

    async def stats(self) -> dict[str, int]:
        return _read(await self._ask("GET", "stats", {}), dict[str, int])

    async def list_nodes(self) -> list[NodeLine]:
        return _read(await self._ask("GET", "nodes", {}), list[NodeLine])

    async def set_draining(self, name: str, is_draining: bool) -> None:
        await self._ask("POST", "node", {"name": name, "draining": "true" if is_draining else "false"})

    async def move(self, actor: ActorId, name: str) -> bool:
        return bool((await self._ask("POST", "move", {"id": actor.text, "node": name})).json()["moved"])

    async def list_units(self) -> list[UnitLine]:
        return _read(await self._ask("GET", "units", {}), list[UnitLine])

    async def operate(self, unit: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """What an operation of a data service returns. There is no limit to the time it may take."""
        query = {"name": unit, "operation": operation}
        response = await self._ask("POST", "unit", query, content=msgspec.json.encode(arguments), timeout=None)
        return response.json()

    async def export(self, actor: ActorId, path: Path, progress: Progress) -> None:
        with new_file(path) as partial:
            try:
                await self._download(actor, partial, progress)
            except httpx.HTTPError as exc:
                raise _unreachable(exc) from exc

    async def _download(self, actor: ActorId, path: Path, progress: Progress) -> None:
        async with self._client.stream("GET", "export", params={"id": actor.text}) as response:
            if response.status_code != 200:
                await response.aread()
                raise _failure(response)
            with path.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    file.write(chunk)
                    progress(len(chunk))

    async def _ask(self, method: str, path: str, query: dict[str, str], **more: Any) -> httpx.Response:
        for _ in range(WORKERS_ASKED_MAX):
            try:
                response = await self._client.request(method, path, params=query, **more)
            except httpx.HTTPError as exc:
                raise _unreachable(exc) from exc
            if response.status_code != Misdirected.status:
                break
            more["headers"] = _ONE_REQUEST  # so that the next one has a connection of its own, and some other worker may have it
        if response.status_code != 200:
            raise _failure(response)
        return response


@asynccontextmanager
async def remote_operator(
    address: ServerAddress, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[RemoteOperator]:
    """An operator of the server at `address`; `transport` replaces the network."""
    headers = {"authorization": f"Bearer {address.token}"}
    base_url = f"{address.url}{PREFIX}"
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False
    ) as client:
        yield RemoteOperator(client)


def _read(response: httpx.Response, type: type[T]) -> T:
    return msgspec.convert(response.json(), type)


def _failure(response: httpx.Response) -> SteadError:
    problem: Any = response.json() if "json" in response.headers.get("content-type", "") else {}
    detail = problem.get("detail") or f"the server answered {response.status_code} {response.reason_phrase}"
    return Invalid(detail) if response.status_code < 500 else Unavailable(detail)


def _unreachable(exc: httpx.HTTPError) -> SteadError:
    return Unavailable(f"the running server did not answer ({exc or type(exc).__name__}); is it stopping? Try again when it has")
