"""Payments by signals."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.crash.connection import Connection
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load

PAYMENTS_PER_FAILURE = 8  # every eighth turn that pays is one that fails after paying
STEPS = ("sent", "taken", "confirmed")


class Signals:
    """The accounts of `tests/crash/apps/signals`: a payment is sent, taken and confirmed once each, or none of it ever happened."""

    name = "signals"
    place = ROOT / "tests" / "crash" / "apps" / "signals"

    def __init__(self) -> None:
        self._sent: set[str] = set()  # all that may have happened; a payment's name says from whom to whom
        self._known: set[str] = set()  # that have happened: answered, or shown after a restart
        self._checks = 0

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number = 0
        while True:
            number += 1
            source, target = NAMES[client % len(NAMES)], NAMES[(client + number) % len(NAMES)]
            await self._pay(connection, f"{source}.{target}.{load.round}.{client}.{number}", load)
            if number % PAYMENTS_PER_FAILURE == 0:
                path = f"/accounts/{source}/payments/{source}.{target}.failed.{load.round}.{client}.{number}/to/{target}/fail"
                status, answer = await connection.ask("POST", path)
                if status != 409:
                    load.faults.append(f"{path} was answered with {status}: {answer}")

    async def _pay(self, connection: Connection, payment: str, load: Load) -> None:
        source, target, *_ = payment.split(".")
        self._sent.add(payment)
        status, answer = await connection.ask("POST", f"/accounts/{source}/payments/{payment}/to/{target}")
        if status == 200:
            self._known.add(payment)
            load.acknowledged += 1
        else:
            load.faults.append(f"{payment} was answered with {status}: {answer}")

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        """Every second time after more payments, which send what was left behind at once; else the alarms do."""
        self._checks += 1
        load = Load(0)
        if self._checks % 2 == 0:
            for source, target in zip(NAMES, reversed(NAMES), strict=True):
                await self._pay(connection, f"{source}.{target}.check.{self._checks}", load)
        if faults := load.faults + await stored.undelivered():
            return faults
        accounts: dict[str, Any] = {}
        for name in NAMES:
            status, accounts[name] = await connection.ask("GET", f"/accounts/{name}")
            if status != 200:
                return [f"{name} was answered with {status}: {accounts[name]}"]
        return self._faults_of(accounts)

    def _faults_of(self, accounts: dict[str, Any]) -> list[str]:
        found = {step: Counter[str]() for step in STEPS}
        faults: list[str] = []
        for name, account in accounts.items():
            for step in STEPS:
                found[step].update(account[step])
                place = 1 if step == "taken" else 0
                faults += [f"{payment} was {step} by {name}" for payment in account[step] if payment.split(".")[place] != name]
            balance = len(account["taken"]) - len(account["sent"])
            if account["balance"] != balance:
                faults.append(f"{name} has {account['balance']}, and its payments say {balance}")
        known = self._known | set(found["sent"])
        for step in STEPS:
            faults += [f"{payment} is lost: it was never {step}" for payment in sorted(known - set(found[step]))]
            faults += [f"{payment} was {step} {times} times" for payment, times in found[step].items() if times > 1]
            faults += [f"{payment} was {step} and never paid" for payment in sorted(set(found[step]) - self._sent)]
        self._sent, self._known = set(known), known
        return faults
