"""Whether money was lost, made or moved twice, by what the accounts say of each transfer once all are settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that a client asked to be moved. `is_done`: whether it was, None if that is not known."""

    name: str
    source: str
    to: str
    amount: int
    is_done: bool | None


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account has: its balance, and how often it saw each transfer leave and arrive."""

    balance: int
    sent: Mapping[str, int]
    taken: Mapping[str, int]


def on_their_way(statements: Mapping[str, Statement]) -> set[str]:
    """The transfers that have left one account and not arrived at another yet."""
    sent = {name for statement in statements.values() for name in statement.sent}
    return sent - {name for statement in statements.values() for name in statement.taken}


def account_faults(transfers: Iterable[Transfer], statements: Mapping[str, Statement], opening: int) -> list[str]:
    """What is wrong with all accounts together, each of which began with `opening`."""
    asked = {transfer.name: transfer for transfer in transfers}
    faults = [fault for transfer in asked.values() for fault in _transfer_faults(transfer, statements)]
    for name, statement in statements.items():
        strange = [transfer for transfer in (*statement.sent, *statement.taken) if transfer not in asked]
        faults += [f"account {name} knows of {transfer}, for which nobody asked" for transfer in strange]
        moved = Counter[str]()
        for transfer in asked.values():
            moved["in"] += statement.taken.get(transfer.name, 0) * transfer.amount
            moved["out"] += statement.sent.get(transfer.name, 0) * transfer.amount
        wanted = opening + moved["in"] - moved["out"]
        if statement.balance != wanted or statement.balance < 0:
            faults.append(f"account {name} has {statement.balance}, and {wanted} by its own list")
    total = sum(statement.balance for statement in statements.values())
    if total != opening * len(statements):
        faults.append(f"there are {total}, and there were {opening * len(statements)}")
    return faults


def _transfer_faults(transfer: Transfer, statements: Mapping[str, Statement]) -> list[str]:
    sent = statements[transfer.source].sent.get(transfer.name, 0)
    taken = statements[transfer.to].taken.get(transfer.name, 0)
    if sent == taken and sent in {None: (0, 1), True: (1,), False: (0,)}[transfer.is_done]:
        return []
    said = {None: "in doubt", True: "done", False: "refused"}[transfer.is_done]
    return [f"transfer {transfer.name} was {said}: it left {sent} times and arrived {taken} times"]
