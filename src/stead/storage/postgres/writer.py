"""Commits in batches: a batch is one statement, or as many as one actor has claims in it.

Callers send no two batches at once that share an actor; each is on its way by itself, and ends whether or not its caller waits.

**Unknown outcomes.** Where a connection ends under a statement, it may have been applied, or even be applied later, by a server
process that has not noticed; to read `seq` would not settle it. So the same statement is sent again: `seq` lets it be applied once,
whichever comes first. Where the second finds that it does not follow, the row says whether the first one did it. If no answer comes
within `outcome_s`, that is `Ambiguous`.

**Poison.** What the server refuses for its content is halved until one commit is left: it alone is `Refused`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stead.errors import Ambiguous, EngineFailed
from stead.storage.contract import Commit, Refused, Verdict
from stead.storage.postgres.change import FOLDED_MAX, Chain, Change
from stead.storage.postgres.connections import Rank
from stead.storage.postgres.database import STATEMENT_S_MAX, Database, Pause
from stead.storage.postgres.failure import CONTENT_ERRORS, DRIVER_ERRORS, Unreached, failure, is_conflict, is_lost
from stead.storage.postgres.statements import Statements

UNSENT_S_MAX = 5.0  # without a connection, before a batch fails of which nothing was sent


class Poisoned(Exception):
    """The server, or the driver, does not take a value. The cause says which."""


class Writer:
    """The only one that commits. `incarnation` is asked for each statement: commits of an earlier one are refused."""

    def __init__(self, database: Database, statements: Statements, incarnation: Callable[[], int], outcome_s: float) -> None:
        self._database = database
        self._statements = statements
        self._incarnation = incarnation
        self._outcome_s = outcome_s
        self._flights: dict[asyncio.Task[list[Verdict]], set[str]] = {}  # batches under way, and their actors

    async def commit(self, batch: Sequence[Commit]) -> list[Verdict]:
        """The verdicts, in order. Raises the first refusal's error where nothing of the batch was applied."""
        flight = asyncio.get_running_loop().create_task(self._apply(batch))
        self._flights[flight] = {commit.actor.text for commit in batch}
        flight.add_done_callback(self._flights.pop)
        verdicts = await asyncio.shield(flight)
        refused = [verdict for verdict in verdicts if isinstance(verdict, Refused)]
        if refused and not any(verdicts):
            raise refused[0].error
        return verdicts

    async def wait_answered(self, actor: str) -> None:
        """Until the batches under way that have commits of an actor are answered."""
        flights = [flight for flight, actors in self._flights.items() if actor in actors]
        if flights:
            await asyncio.wait(flights)

    async def drain(self) -> None:
        """Until every batch is answered."""
        while self._flights:
            await asyncio.wait(self._flights)

    async def _apply(self, commits: Sequence[Commit]) -> list[Verdict]:
        """Make them durable in one statement, or in as many as one actor has claims among them."""
        verdicts: list[Verdict] = [False] * len(commits)
        refused: set[tuple[str, int]] = set()
        waiting = list(enumerate(commits))
        while waiting:
            chains, waiting = _chained(waiting, refused)
            await self._settle(chains, verdicts)
            refused |= {chain.claim for chain in chains if not verdicts[chain.positions[-1]]}
        return verdicts

    async def _settle(self, chains: list[Chain], verdicts: list[Verdict]) -> None:
        """Write the verdicts on `chains`."""
        try:
            applied = await self._send(chains)
        except Poisoned as exc:
            if len(chains) > 1:
                half = len(chains) // 2
                parts = [chains[:half], chains[half:]]
            elif len(chains[0].commits) > 1:
                parts = [[part] for part in chains[0].halves()]
            else:
                error = failure(exc.__cause__ or exc, self._database.where)
                error.__cause__ = exc.__cause__
                verdicts[chains[0].positions[0]] = Refused(error)
                return
            for part in parts:
                await self._settle(part, verdicts)
        except EngineFailed as exc:
            for position in [position for chain in chains for position in chain.positions]:
                verdicts[position] = Refused(exc)
        else:
            for position in [position for chain in chains if chain.actor in applied for position in chain.positions]:
                verdicts[position] = True

    async def _send(self, chains: list[Chain]) -> set[str]:
        """The actors whose chains were applied."""
        try:
            change = Change(chains)
        except UnicodeError as exc:
            raise Poisoned from exc
        text = self._statements.commit(change.parts)
        arguments = (self._incarnation(), self._database.fence.began_with, *change.arguments())
        is_unknown = False
        sending, asking = Pause(self._database.clock, UNSENT_S_MAX), Pause(self._database.clock, self._outcome_s)
        while True:
            try:
                rows = await self._database.connections.fetch(text, *arguments, timeout_s=STATEMENT_S_MAX, rank=Rank.COMMIT)
                applied = {row[0] for row in rows}
                return applied | await self._found_applied(chains, applied) if is_unknown else applied
            except (Unreached, *DRIVER_ERRORS, *CONTENT_ERRORS) as exc:
                is_unknown = is_unknown or is_lost(exc)
                may_pass = is_unknown or isinstance(exc, Unreached) or is_conflict(exc)
                if not may_pass and isinstance(exc, CONTENT_ERRORS):
                    raise Poisoned from exc
                if not may_pass or (sending.is_over and not is_unknown):
                    raise failure(exc, self._database.where) from exc
                if is_unknown and (asking.is_over or self._database.connections.is_closed):
                    raise Ambiguous(
                        f"the database did not say whether it made the commit durable: {failure(exc, self._database.where)}"
                    ) from exc
            await (asking if is_unknown else sending).wait()

    async def _found_applied(self, chains: list[Chain], applied: set[str]) -> set[str]:
        """Of the chains that a repeated statement did not apply, those that the statement before it had."""
        missing = {chain.actor: chain.commits[-1] for chain in chains if chain.actor not in applied}
        if not missing:
            return set()
        found = set()
        for row in await self._database.ask(self._statements.outcome, list(missing), rank=Rank.COMMIT):
            last = missing[row["id"]]
            if row["seq"] >= last.seq:
                if row["last_epoch"] != last.epoch:
                    raise Ambiguous(f"another node has committed to {last.actor} before the outcome of a commit was known")
                found.add(row["id"])
        return found


def _chained(waiting: list[tuple[int, Commit]], refused: set[tuple[str, int]]) -> tuple[list[Chain], list[tuple[int, Commit]]]:
    """One chain for each actor, and what has to wait for the next statement. Adds to `refused` where a commit does not follow."""
    chains: dict[str, Chain] = {}
    later: list[tuple[int, Commit]] = []
    postponed: set[str] = set()
    for position, commit in waiting:
        text = commit.actor.text
        claim = (text, commit.epoch)
        chain = chains.get(text)
        if claim in refused:
            continue
        if chain is None:
            chains[text] = Chain([commit], [position])
        elif text in postponed or chain.claim != claim or len(chain.commits) == FOLDED_MAX:
            postponed.add(text)  # with all that follows it, so that the order stays
            later.append((position, commit))
        elif commit.seq == chain.commits[-1].seq + 1:
            chain.commits.append(commit)
            chain.positions.append(position)
        else:
            refused.add(claim)
    return list(chains.values()), later
