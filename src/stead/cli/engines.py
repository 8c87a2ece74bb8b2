"""The engine that several nodes share, opened where it is needed: its driver takes a third of a server's start."""

from __future__ import annotations

from importlib import import_module

from stead.clock import Clock
from stead.ids import Chance
from stead.storage.membership import SharedEngine


async def open_shared(address: str, clock: Clock, chance: Chance, *, read_only: bool = False) -> SharedEngine:
    """Raises `EngineFailed` if it cannot be used. One that is `read_only` changes nothing, and cannot join."""
    postgres = import_module("stead.storage.postgres")
    engine: SharedEngine = await postgres.PostgresEngine.open(address, clock, chance=chance, read_only=read_only)
    return engine
