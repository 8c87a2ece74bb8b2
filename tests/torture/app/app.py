"""Counters, registers and accounts, whose answers say which node's life gave them.

Each has a law that clients can check from outside: a counter never gives a number twice, a register is one value in one order, and
money that leaves an account arrives at another one, once.
"""

from __future__ import annotations

import os
from typing import Any

from stead import Actor, HTTPException, Request, Service, durable, reads, route

OPENING_BALANCE = 100
OWNER = f"{os.environ.get('TORTURE_NODE', '')}:{os.getpid()}"


class Counter(Actor):
    value: int = durable(0)

    async def increment(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value, "owner": OWNER}

    @reads
    async def current(self) -> dict[str, Any]:
        return {"value": self.value, "owner": OWNER}


class Register(Actor):
    value: str | None = durable(None)

    async def write(self, value: str) -> dict[str, Any]:
        self.value = value
        return {"owner": OWNER}

    async def swap(self, old: str | None, new: str) -> dict[str, Any]:
        """Write `new` if the value is `old`. `value` is what it was before."""
        before = self.value
        if before == old:
            self.value = new
        return {"value": before, "owner": OWNER}

    @reads
    async def current(self) -> dict[str, Any]:
        return {"value": self.value, "owner": OWNER}


class Account(Actor):
    balance: int = durable(OPENING_BALANCE)

    async def pay(self, transfer: str, to: str, amount: int) -> dict[str, Any]:
        if self.balance < amount:
            raise HTTPException(409, f"the balance is {self.balance}")
        self.balance -= amount
        await self._count("sent", transfer)
        await self.env.actor(Account).get(to).signal("take", transfer, amount)
        return {"value": self.balance, "owner": OWNER}

    async def take(self, transfer: str, amount: int) -> None:
        self.balance += amount
        await self._count("taken", transfer)

    @reads
    async def statement(self) -> dict[str, Any]:
        counted = {step: await self.storage.list(f"{step}:") for step in ("sent", "taken")}
        steps = {step: {key.partition(":")[2]: count for key, count in counts.items()} for step, counts in counted.items()}
        return {"value": self.balance, "owner": OWNER, **steps}

    async def _count(self, step: str, transfer: str) -> None:
        key = f"{step}:{transfer}"
        await self.storage.put(key, await self.storage.get(key, 0) + 1)


class Api(Service):
    @route("POST", "/counters/{name}", idempotent=True)
    async def increment(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Counter).get(name).increment()

    @route("GET", "/counters/{name}")
    async def current(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Counter).get(name).current()

    @route("POST", "/registers/{name}")
    async def write(self, request: Request, name: str) -> dict[str, Any]:
        body = await request.json()
        register = self.env.actor(Register).get(name)
        return await (register.swap(body["old"], body["value"]) if "old" in body else register.write(body["value"]))

    @route("GET", "/registers/{name}")
    async def read(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Register).get(name).current()

    @route("POST", "/accounts/{name}/transfers/{transfer}", idempotent=True)
    async def pay(self, request: Request, name: str, transfer: str) -> dict[str, Any]:
        body = await request.json()
        return await self.env.actor(Account).get(name).pay(transfer, body["to"], body["amount"])

    @route("GET", "/accounts/{name}")
    async def statement(self, request: Request, name: str) -> dict[str, Any]:
        return await self.env.actor(Account).get(name).statement()
