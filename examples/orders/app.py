"""Orders over many actors: stock is reserved, then the money is taken, then the stock is sold; what fails on the way is undone.

Each step is a turn of one actor and tells the next one by a signal, which commits with the step and takes effect once. So there is
no moment at which a crash could lose a step or do it twice, and nobody holds a lock over two actors. The payment is a call to
somebody outside: it carries the order's name as its idempotency key, so asking again after a crash charges once.

    cart ──begin──► order ──reserve──► stock (one for each sku)
                      ▲ ◄──answer───────┘
                      │──charge, or void──► payment
                      │──sell, or release──► stock
    cart ◄─put_back───┘  when it was cancelled
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Literal

from stead import Actor, AlarmInfo, HTTPException, Request, Service, durable, reads, route

QUANTITY_MAX = 1_000_000  # of one line, or of one delivery to the stock
CHARGE_TRIES_MAX = 5  # after which an order whose payment does not answer is cancelled
TRY_AGAIN = timedelta(seconds=10)

State = Literal["new", "reserving", "charging", "voiding", "confirmed", "cancelled"]


class Cart(Actor):
    """What a user wants to buy. Its order takes it all; an order that is cancelled gives it back."""

    lines: dict[str, int] = durable(factory=dict)
    orders_made: int = durable(0)

    async def add(self, sku: str, quantity: int) -> dict[str, int]:
        self.lines[sku] = self.lines.get(sku, 0) + quantity
        return self.lines

    async def check_out(self, card: str) -> str:
        """Make an order of all that is in the cart and return its name. What becomes of it, `Order.show` tells."""
        if not self.lines:
            raise HTTPException(409, "the cart is empty; add something first")
        self.orders_made += 1
        order = f"{self.id.name}-{self.orders_made}"
        await self.env.actor(Order).get(order).signal("begin", self.id.name, card, self.lines)
        self.lines = {}
        return order

    async def put_back(self, lines: dict[str, int]) -> None:
        self.lines = dict(Counter(self.lines) + Counter(lines))

    @reads
    async def show(self) -> dict[str, int]:
        return self.lines

    @reads
    async def has_made(self, order: str) -> bool:
        number = order.rpartition("-")[2]
        return number.isdecimal() and order == f"{self.id.name}-{int(number)}" and 0 < int(number) <= self.orders_made


class Order(Actor):
    """One order on its way to being confirmed or cancelled."""

    state: State = durable("new")
    history: list[dict[str, Any]] = durable(factory=list)
    user: str = durable("")
    card: str = durable("")
    lines: dict[str, int] = durable(factory=dict)
    prices: dict[str, int | None] = durable(factory=dict)  # what the stocks answered; None: not enough there
    tries: int = durable(0)

    async def begin(self, user: str, card: str, lines: dict[str, int]) -> None:
        self.user, self.card, self.lines = user, card, lines
        self._enter("reserving")
        for sku, quantity in lines.items():
            await self.env.actor(Stock).get(sku).signal("reserve", self.id.name, quantity)

    async def answer(self, sku: str, price: int | None) -> None:
        """A stock has reserved what was asked of it, at this price for one, or has not enough."""
        self.prices[sku] = price
        if len(self.prices) < len(self.lines):
            return
        missing = [sku for sku, price in self.prices.items() if price is None]
        if missing:
            await self._cancel(f"not enough of: {', '.join(missing)}")
        else:
            self._enter("charging")
            await self.storage.set_alarm(self.env.now())

    async def alarm(self, alarm: AlarmInfo) -> None:
        """Ask for the money; or, when that was never answered, that it be given back."""
        self.tries += 1
        if self.state == "charging" and self.tries > CHARGE_TRIES_MAX:
            self._enter("voiding", "the payment did not answer")
        await self.storage.set_alarm(TRY_AGAIN)  # it commits before the call leaves: whatever becomes of this try, another follows
        payment = self.env.actor(Payment).get(self.card)
        if self.state == "voiding":
            await payment.void(self.id.text)
            await self._cancel("the payment did not answer")
        elif await payment.with_idempotency_key(self.id.text).charge(self.id.text, self.amount):
            await self._confirm()
        else:
            await self._cancel("the card was declined")
        await self.storage.delete_alarm()

    @property
    def amount(self) -> int:
        return sum(quantity * (self.prices.get(sku) or 0) for sku, quantity in self.lines.items())

    @reads
    async def show(self) -> dict[str, Any]:
        return {
            "id": self.id.name,
            "state": self.state,
            "lines": self.lines,
            "amount_cents": self.amount,
            "history": self.history,
        }

    async def _confirm(self) -> None:
        self._enter("confirmed")
        for sku in self.lines:
            await self.env.actor(Stock).get(sku).signal("sell", self.id.name)

    async def _cancel(self, why: str) -> None:
        """Undo what was done: what was reserved is free again, and the cart is as it was."""
        self._enter("cancelled", why)
        for sku, price in self.prices.items():
            if price is not None:
                await self.env.actor(Stock).get(sku).signal("release", self.id.name)
        await self.env.actor(Cart).get(self.user).signal("put_back", self.lines)

    def _enter(self, state: State, why: str = "") -> None:
        self.state = state
        self.history.append({"state": state, "at": self.env.now().isoformat(), **({"why": why} if why else {})})


class Stock(Actor):
    """One product: what is free, what orders have reserved, and what is sold. Only `add` changes their sum."""

    price: int = durable(0)
    free: int = durable(0)
    sold: int = durable(0)
    reserved: dict[str, int] = durable(factory=dict)

    async def add(self, quantity: int, price: int) -> dict[str, int]:
        self.free += quantity
        self.price = price
        return self._state()

    async def reserve(self, order: str, quantity: int) -> None:
        has_enough = quantity <= self.free
        if has_enough:
            self.free -= quantity
            self.reserved[order] = quantity
        await self.env.actor(Order).get(order).signal("answer", self.id.name, self.price if has_enough else None)

    async def sell(self, order: str) -> None:
        self.sold += self.reserved.pop(order)

    async def release(self, order: str) -> None:
        self.free += self.reserved.pop(order)

    @reads
    async def show(self) -> dict[str, int]:
        return self._state()

    def _state(self) -> dict[str, int]:
        return {"price_cents": self.price, "free": self.free, "reserved": sum(self.reserved.values()), "sold": self.sold}


class Payment(Actor):
    """Stands for the payment provider, an account for each card. The card `declined` has no money."""

    charged: int = durable(0)

    async def charge(self, order: str, amount: int) -> bool:
        """Take the money and return True, or False if there is none. It does not look whether it was asked before: see the key."""
        if self.id.name == "declined" or await self.storage.get(f"void:{order}", False):
            return False
        charges: list[int] = await self.storage.get(f"order:{order}", [])
        await self.storage.put(f"order:{order}", [*charges, amount])
        self.charged += amount
        return True

    async def void(self, order: str) -> None:
        """Give back what the order was charged, and charge nothing for it from now on."""
        self.charged -= sum(await self.storage.get(f"order:{order}", []))
        await self.storage.delete(f"order:{order}")
        await self.storage.put(f"void:{order}", True)

    @reads
    async def show(self) -> dict[str, int]:
        return {"charged_cents": self.charged}


class Api(Service):
    @route("POST", "/stock/{sku}")
    async def add_stock(self, request: Request, sku: str) -> dict[str, int]:
        body = await request.json()
        quantity, price = whole_number(body, "quantity", 1), whole_number(body, "price_cents", 0)
        return await self.env.actor(Stock).get(sku).with_idempotency_key(idempotency_key(request)).add(quantity, price)

    @route("GET", "/stock/{sku}")
    async def show_stock(self, request: Request, sku: str) -> dict[str, int]:
        return await self.env.actor(Stock).get(sku).show()

    @route("POST", "/carts/{user}")
    async def add_to_cart(self, request: Request, user: str) -> dict[str, int]:
        body = await request.json()
        sku, quantity = text(body, "sku"), whole_number(body, "quantity", 1)
        return await self.env.actor(Cart).get(user).with_idempotency_key(idempotency_key(request)).add(sku, quantity)

    @route("GET", "/carts/{user}")
    async def show_cart(self, request: Request, user: str) -> dict[str, int]:
        return await self.env.actor(Cart).get(user).show()

    @route("POST", "/orders")
    async def order(self, request: Request) -> dict[str, Any]:
        """Begin an order of all that is in a user's cart. It is on its way when this returns: ask `/orders/{id}` for its end."""
        body = await request.json()
        cart = self.env.actor(Cart).get(text(body, "user")).with_idempotency_key(idempotency_key(request))
        return {"id": await cart.check_out(text(body, "card"))}

    @route("GET", "/orders/{order}")
    async def show_order(self, request: Request, order: str) -> dict[str, Any]:
        """An order that was made is there, if only as `new`: its first step is a signal, which after a crash takes some seconds."""
        user = order.rpartition("-")[0]
        if not user or not await self.env.actor(Cart).get(user).has_made(order):
            raise HTTPException(404, f"there is no order {order!r}")
        return await self.env.actor(Order).get(order).show()

    @route("GET", "/payments/{card}")
    async def show_payment(self, request: Request, card: str) -> dict[str, int]:
        return await self.env.actor(Payment).get(card).show()


def idempotency_key(request: Request) -> str:
    """The key by which a client may repeat a request until it is answered. Raises 400 without one."""
    key = request.headers.get("idempotency-key")
    if not key:
        raise HTTPException(
            400, "send an Idempotency-Key header: any text that is new for each thing to do, and the same in repeats"
        )
    return key


def text(body: Any, field: str) -> str:
    value = body.get(field) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value:
        raise HTTPException(400, f"{field} must be a text of at least one character")
    return value


def whole_number(body: Any, field: str, least: int) -> int:
    value = body.get(field) if isinstance(body, dict) else None
    if type(value) is not int or not least <= value <= QUANTITY_MAX:
        raise HTTPException(400, f"{field} must be a whole number from {least} to {QUANTITY_MAX:,}")
    return value
