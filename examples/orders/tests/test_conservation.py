"""Money and stock are conserved over many seeds, with crashes, full disks and a payment that answers when it likes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from stead import AlarmInfo, Ambiguous
from stead.clock import sleep
from stead.ids import Chance
from stead.node import load_application
from stead.testing import TestApp, World, check, find, sabotaged
from stead.testing.planting import Plant

APPLICATION = load_application(Path(__file__).parents[1])
Cart, Order, Payment = (APPLICATION.actors[unit] for unit in ("cart", "order", "payment"))

USERS, CARDS, SKUS = ("ann", "bob"), ("4242", "5151", "declined"), ("tea", "cup", "pot")
STEPS = 10
SETTLED_S = 600.0  # of virtual time: more than the tries of a payment and the waits of signals take
TURN_S = 30.0  # after which a charge, and the order that asked for it, are cut off


class Shop:
    """Clients that repeat each request until it is answered, and what they were told."""

    def __init__(self, app: TestApp, chance: Chance) -> None:
        self._app = app
        self._chance = chance
        self._keys = 0
        self.put_in: Counter[str] = Counter()
        self.wanted: Counter[tuple[str, str]] = Counter()  # by user and sku
        self.orders: dict[str, str] = {}  # their cards

    async def deliver(self, sku: str) -> None:
        quantity = self._chance.below(8) + 3
        self.put_in[sku] += quantity
        await self._post(f"/stock/{sku}", quantity=quantity, price_cents=100)

    async def fill(self, user: str, sku: str) -> None:
        quantity = self._chance.below(3) + 1
        self.wanted[user, sku] += quantity
        await self._post(f"/carts/{user}", sku=sku, quantity=quantity)

    async def order(self, user: str, card: str) -> None:
        answer = await self._post("/orders", user=user, card=card)
        if answer is not None:
            assert self.orders.setdefault(answer["id"], card) == card, f"{answer['id']} is the answer to two requests"

    async def get(self, path: str) -> Any:
        return (await self._app.client.get(path)).json()

    async def _post(self, path: str, **body: Any) -> Any:
        """The answer, None for 409: the cart was empty."""
        self._keys += 1
        headers = {"idempotency-key": f"key-{self._keys}"}
        while True:
            try:
                answer = await self._app.client.post(path, json=body, headers=headers)
            except Ambiguous:  # a crash: the connection is gone
                continue
            if answer.status_code < 500:
                assert answer.status_code in (200, 409), answer.text
                return answer.json() if answer.status_code == 200 else None
            await sleep(self._chance.fraction())

    async def check(self) -> None:
        """Every order has ended, and nothing was lost, made or paid twice."""
        confirmed: list[tuple[str, dict[str, Any]]] = []
        for order, card in self.orders.items():
            shown = await self.get(f"/orders/{order}")
            assert shown["state"] in ("confirmed", "cancelled"), shown
            if shown["state"] == "confirmed":
                confirmed.append((card, shown))
        for card in CARDS:
            paid = sum(shown["amount_cents"] for paying, shown in confirmed if paying == card)
            charged = (await self.get(f"/payments/{card}"))["charged_cents"]
            assert charged == paid, f"{card} was charged {charged} for orders of {paid}"
        bought: Counter[tuple[str, str]] = Counter()
        for _, shown in confirmed:
            bought.update({(shown["id"].rpartition("-")[0], sku): quantity for sku, quantity in shown["lines"].items()})
        for sku in SKUS:
            stock, sold = await self.get(f"/stock/{sku}"), sum(bought[user, sku] for user in USERS)
            assert (stock["reserved"], stock["sold"]) == (0, sold), (stock, sold)
            assert stock["free"] + stock["sold"] == self.put_in[sku], (stock, self.put_in)
        for user in USERS:
            cart = await self.get(f"/carts/{user}")
            for sku in SKUS:
                assert cart.get(sku, 0) + bought[user, sku] == self.wanted[user, sku], (user, cart, bought, self.wanted)


Charge = Callable[[Any, str, int], Awaitable[bool]]


def unreliable(chance: Chance) -> Plant:
    """A payment that fails, or takes so long that who asked has gone; for some seeds it never answers in time."""
    kinds = 2 if chance.below(3) == 0 else 4

    def wrong(charge: Charge) -> Charge:
        @wraps(charge)
        async def charge_or_not(self: Any, order: str, amount: int) -> bool:
            match chance.below(kinds):
                case 0:
                    raise ConnectionError("no answer from the bank")
                case 1:
                    await sleep(TURN_S - chance.fraction())
            return await charge(self, order, amount)

        return charge_or_not

    return Plant("orders", Payment, "charge", wrong)


async def orders_end(seed: int) -> None:
    chance = Chance(seed)
    with sabotaged(unreliable(chance)):
        async with TestApp(APPLICATION, seed=seed, world=World(commit_s=chance.fraction())) as app, asyncio.TaskGroup() as clients:
            shop = Shop(app, chance)
            for sku in SKUS:
                clients.create_task(shop.deliver(sku))
            for _ in range(STEPS):
                user, sku = USERS[chance.below(len(USERS))], SKUS[chance.below(len(SKUS))]
                match chance.below(8):
                    case 0 | 1:
                        clients.create_task(shop.fill(user, sku))
                    case 2 | 3 | 4:
                        await shop.fill(user, sku)
                        clients.create_task(shop.order(user, CARDS[chance.below(len(CARDS))]))
                    case 5:
                        clients.create_task(shop.deliver(sku))
                    case 6:
                        await app.crash()
                    case 7:
                        app.fail_next_commit()
                await sleep(chance.fraction() * 3)
            for _ in range(chance.below(3)):
                await sleep(chance.fraction() * 40)
                await app.crash()
            await sleep(SETTLED_S)
            await shop.check()


def test_money_and_stock_are_conserved() -> None:
    """Charges are the confirmed orders' price, stock is what was put in, carts keep what was not bought; every order ends."""
    check(orders_end)


async def an_order_is_there(seed: int) -> None:
    async with TestApp(APPLICATION, seed=seed) as app:
        shop = Shop(app, Chance(seed))
        await shop.fill("ann", "tea")
        await shop.order("ann", "4242")
        await app.crash()
        for order in shop.orders:
            assert (await app.client.get(f"/orders/{order}")).status_code == 200, f"{order} was answered and is not there"


def test_an_order_that_was_answered_is_there_after_a_crash() -> None:
    """Its first step may be on its way, but nobody is told that there is no such order."""
    check(an_order_is_there)


async def shows_what_has_begun(cart: Any, order: str) -> bool:
    """As `Cart.has_made`, but of orders whose first step was made."""
    return bool((await cart.env.ORDER.get(order).show())["state"] != "new")


def test_an_order_that_is_not_there_is_found() -> None:
    """The planted bug: an order is there from its first step only."""
    with sabotaged(Plant("orders", Cart, "has_made", lambda right: shows_what_has_begun)):
        find(an_order_is_there)


async def pays_without_a_key(order: Any, alarm: AlarmInfo) -> None:
    """As `Order.alarm`, but asking again is another charge."""
    await order.storage.set_alarm(order.env.now())
    if await order.env.PAYMENT.get(order.card).charge(order.id.name, order.amount):
        await order._confirm()
    else:
        await order._cancel("the card was declined")
    await order.storage.delete_alarm()


async def cancels_without_asking(order: Any, alarm: AlarmInfo) -> None:
    """As `Order.alarm`, but what was never answered counts as not charged."""
    await order.storage.set_alarm(order.env.now())
    order.tries += 1
    if order.tries > 1:
        await order._cancel("the payment did not answer")
    elif await order.env.PAYMENT.get(order.card).with_idempotency_key(order.id.name).charge(order.id.name, order.amount):
        await order._confirm()
    else:
        await order._cancel("the card was declined")
    await order.storage.delete_alarm()


@pytest.mark.parametrize("alarm", [pays_without_a_key, cancels_without_asking])
def test_a_wrong_workflow_is_found(alarm: Callable[[Any, AlarmInfo], Awaitable[None]]) -> None:
    """The planted bugs: a charge without its key, and one that is not voided, do not conserve money."""
    with sabotaged(Plant("orders", Order, "alarm", lambda right: alarm)):
        find(orders_end)
