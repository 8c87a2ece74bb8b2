"""Numbers that only grow."""

from __future__ import annotations

from collections import Counter

from tests.crash.connection import Connection
from tests.crash.workload import Load


class Numbers:
    """Numbers that grow by one with each request: no number is answered twice, and none is below one that was known before."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._sent = Counter[str]()
        self._answered: dict[str, set[int]] = {path: set() for path in paths}
        self._known = Counter[str]()  # the highest one at the last restart

    async def ask(self, connection: Connection, path: str, load: Load) -> None:
        self._sent[path] += 1
        status, number = await connection.ask("POST", path)
        if status != 200:
            load.faults.append(f"{path} was answered with {status}: {number}")
        elif number in self._answered[path] or number <= self._known[path]:
            load.faults.append(f"{path} went back: {number} was known before")
        else:
            self._answered[path].add(number)
            load.acknowledged += 1

    def faults(self, path: str, number: int) -> list[str]:
        """What is wrong with `number` being the current one, which from here on is known."""
        known, sent = max(self._answered[path], default=self._known[path]), self._sent[path]
        self._answered[path].clear()
        self._known[path] = number
        if number < known:
            return [f"{path} went back to {number}: {known} was acknowledged"]
        return [f"{path} is {number} after {sent} requests"] if number > sent else []
