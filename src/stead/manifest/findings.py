"""The list of what is wrong with a manifest, which grammar and checks write to."""

from __future__ import annotations

from stead.errors import ManifestError
from stead.manifest.tree import Position

ERRORS_MAX = 100  # nobody reads more, and each may cost a search for the nearest name


class Full(Exception):
    """The list is full: what it holds is the answer."""


class Findings:
    """Errors in the order they were found. The one that fills the list raises `Full`."""

    def __init__(self) -> None:
        self.errors: list[ManifestError] = []

    def add(self, position: Position, problem: str, hint: str) -> None:
        file, line, column = position
        self.errors.append(ManifestError(problem, file=file, line=line, column=column, hint=hint))
        if len(self.errors) >= ERRORS_MAX:
            raise Full
