"""The `stead` command."""

from __future__ import annotations

from stead.cli.commands import app


def main() -> None:
    """The console script `stead`."""
    app()


__all__ = ["app", "main"]
