"""Payments from account to account by signals, and back the receipt: two hops, each a turn that writes and tells the next.

Each hop counts how often it saw the payment, so one that is lost or doubled on its way shows by its name.
"""

from __future__ import annotations

from typing import Any

from stead import Actor, HTTPException, Request, Service, durable, reads, route
from stead.clock import sleep

TAKING_S = 0.003  # so that kills find signals that wait for their target


class Account(Actor):
    balance: int = durable(0)

    async def pay(self, payment: str, to: str) -> None:
        self.balance -= 1
        await self._count("sent", payment)
        await self.env.actor(Account).get(to).signal("take", payment, self.id.name)

    async def pay_and_fail(self, payment: str, to: str) -> None:
        """Pay as `pay` does, and raise: nobody may ever hear of it."""
        await self.pay(payment, to)
        raise HTTPException(409, "this turn was to fail")

    async def take(self, payment: str, sender: str) -> None:
        await sleep(TAKING_S)
        self.balance += 1
        await self._count("taken", payment)
        await self.env.actor(Account).get(sender).signal("confirm", payment)

    async def confirm(self, payment: str) -> None:
        await self._count("confirmed", payment)

    @reads
    async def show(self) -> dict[str, Any]:
        counted = {step: await self.storage.list(f"{step}:") for step in ("sent", "taken", "confirmed")}
        steps = {step: {key.partition(":")[2]: count for key, count in counts.items()} for step, counts in counted.items()}
        return {"balance": self.balance, **steps}

    async def _count(self, step: str, payment: str) -> None:
        key = f"{step}:{payment}"
        await self.storage.put(key, await self.storage.get(key, 0) + 1)


class Api(Service):
    @route("POST", "/accounts/{name}/payments/{payment}/to/{to}")
    async def pay(self, request: Request, name: str, payment: str, to: str) -> dict[str, str]:
        await self.env.actor(Account).get(name).pay(payment, to)
        return {"paid": payment}

    @route("POST", "/accounts/{name}/payments/{payment}/to/{to}/fail")
    async def pay_and_fail(self, request: Request, name: str, payment: str, to: str) -> None:
        await self.env.actor(Account).get(name).pay_and_fail(payment, to)

    @route("GET", "/accounts/{name}")
    async def show(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Account).get(name).show()
