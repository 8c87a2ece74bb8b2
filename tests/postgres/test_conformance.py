"""The PostgreSQL engine keeps the contract, alone and beside others."""

from __future__ import annotations

from pathlib import Path
from random import Random  # noqa: TID251 - bytes that cannot be compressed
from typing import ClassVar

import pytest

from stead.storage.contract import Engine
from stead.storage.membership import NodeInfo, SharedEngine
from stead.testing import conformance, conformance_shared
from tests.postgres.conftest import OpenPostgres


class TestPostgresEngine(conformance.RefusingConformance):
    unstorable: ClassVar = {Random(1).randbytes(3000): b"longer than an index takes, which the server finds"}

    @pytest.fixture(autouse=True)
    def place(self, open_postgres: OpenPostgres) -> None:
        self.open = open_postgres

    async def open_engine(self, place: Path) -> Engine:
        engine = await self.open(str(place))
        await engine.join(NodeInfo("node", "127.0.0.1:1"), 60)
        return engine


class TestSharedPostgresEngine(conformance_shared.SharedConformance):
    lease_s = 3.0  # a test makes 120 statements in less, on a loaded machine too

    @pytest.fixture(autouse=True)
    def place(self, open_postgres: OpenPostgres) -> None:
        self.open = open_postgres

    async def open_engines(self, place: Path, count: int) -> list[SharedEngine]:
        return [await self.open(str(place)) for _ in range(count)]
