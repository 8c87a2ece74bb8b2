"""What an operator can ask of the data services of an application. `admin.remote` asks a running server for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from stead.node import Node, UnitLine


class Units(Protocol):
    """The units of an application, and the operations of its data services by name. Raises `Invalid` for what is not there."""

    async def list_units(self) -> list[UnitLine]: ...
    async def operate(self, unit: str, operation: str, arguments: Mapping[str, Any]) -> Any: ...


class NodeUnits:
    """Those of a node in this process."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def list_units(self) -> list[UnitLine]:
        return self._node.units()

    async def operate(self, unit: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        return await self._node.operate(unit, operation, arguments)
