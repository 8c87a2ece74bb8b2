"""Orders over four actors."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.crash.connection import Connection, patiently
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load

ORDERS_S_MAX = 60.0  # an order whose payment was interrupted asks again after 10 s


class Orders:
    """Orders of `examples/orders`. A request that got no answer is repeated with its key after the restart, so what must be there
    is known exactly: every order ends, and neither money nor stock nor what a cart held is lost or made on the way."""

    name = "orders"
    place = ROOT / "examples" / "orders"

    def __init__(self) -> None:
        self._unanswered: dict[str, tuple[str, dict[str, Any]]] = {}  # by key
        self._put_in = 0
        self._wanted = Counter[str]()  # by user
        self._open: set[str] = set()  # orders whose end is not known
        self._bought = Counter[str]()  # by user: what confirmed orders hold

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, user = 0, NAMES[client % len(NAMES)]
        while True:
            number += 1
            key = f"{load.round}.{client}.{number}"
            match number % 4:
                case 1:
                    request: tuple[str, dict[str, Any]] = "/stock/tea", {"quantity": 2, "price_cents": 7}
                case 3:
                    request = "/orders", {"user": user, "card": "declined" if number % 8 == 3 else "4242"}
                case _:
                    request = f"/carts/{user}", {"sku": "tea", "quantity": 1 + number % 3}
            self._unanswered[key] = request
            load.faults += await self._ask(connection, key)
            load.acknowledged += 1

    async def _ask(self, connection: Connection, key: str) -> list[str]:
        path, body = self._unanswered[key]
        status, answer = await connection.ask("POST", path, body, key)
        del self._unanswered[key]
        if path == "/orders" and status == 409:  # another order has taken what was in the cart
            return []
        if status != 200:
            return [f"{path} was answered with {status}: {answer}"]
        if path == "/orders":
            self._open.add(answer["id"])
        elif path == "/stock/tea":
            self._put_in += body["quantity"]
        else:
            self._wanted[path.removeprefix("/carts/")] += body["quantity"]
        return []

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        faults = [fault for key in list(self._unanswered) for fault in await self._ask(connection, key)]
        for order in sorted(self._open):
            status, shown = await connection.ask("GET", f"/orders/{order}")
            if status != 200:
                faults.append(f"{order} is lost: {shown}")
        return faults or await patiently(lambda: self._unsettled(connection), ORDERS_S_MAX)

    async def _unsettled(self, connection: Connection) -> list[str]:
        """The orders that have not ended. Once all have: what does not add up, while the last signals are on their way."""
        faults = [fault for order in sorted(self._open) for fault in await self._end(connection, order)]
        return faults or await self._imbalance(connection)

    async def _imbalance(self, connection: Connection) -> list[str]:
        _, stock = await connection.ask("GET", "/stock/tea")
        _, payment = await connection.ask("GET", "/payments/4242")
        sold, faults = sum(self._bought.values()), []
        if (stock["free"], stock["reserved"], stock["sold"]) != (self._put_in - sold, 0, sold):
            faults.append(f"the stock is {stock}; {self._put_in} were put in, and {sold} are in confirmed orders")
        if payment["charged_cents"] != 7 * sold:
            faults.append(f"the card was charged {payment['charged_cents']} for {sold} at 7")
        for user in NAMES:
            _, cart = await connection.ask("GET", f"/carts/{user}")
            if cart.get("tea", 0) + self._bought[user] != self._wanted[user]:
                faults.append(f"{user} wanted {self._wanted[user]}, has bought {self._bought[user]}, and the cart is {cart}")
        return faults

    async def _end(self, connection: Connection, order: str) -> list[str]:
        _, shown = await connection.ask("GET", f"/orders/{order}")
        if shown["state"] not in ("confirmed", "cancelled"):
            return [f"{order} has not ended: {shown}"]
        self._open.discard(order)
        if shown["state"] == "confirmed":
            self._bought[order.rpartition("-")[0]] += shown["lines"]["tea"]
        return []
