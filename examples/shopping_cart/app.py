"""A shop whose carts remember: one actor for each user, emptied a day after the last item was added.

Each line of a cart is a key of its own, so adding to a long cart costs no more than adding to a short one. Keys, attributes and the
alarm of one call commit together, or not at all: a declined card needs no clean-up.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from stead import Actor, AlarmInfo, HTTPException, Request, Service, durable, reads, route

CART_TTL = timedelta(seconds=float(os.environ.get("STEAD_CART_TTL_S", "86400")))
QUANTITY_MAX = 1_000_000  # of one line: more is a slip of the keyboard


class ShoppingCart(Actor):
    """A user's cart and past orders."""

    item_count: int = durable(0)
    lines_made: int = durable(0)
    order_count: int = durable(0)

    async def add_item(self, product_id: str, quantity: int = 1) -> dict[str, Any]:
        """Add a line. The same product added again is a line of its own. Puts the end of the cart off."""
        now = self.env.now()
        await self.storage.set_alarm(now + CART_TTL)
        self.lines_made += 1
        self.item_count += 1
        line = {"product_id": product_id, "quantity": quantity, "added_at": round(now.timestamp() * 1000)}
        await self.storage.put(f"line:{self.lines_made:012}", line)
        return {"success": True, "item_count": self.item_count}

    async def remove_item(self, product_id: str) -> dict[str, Any]:
        """Remove every line of a product. The end of the cart stays where it is, unless nothing is left."""
        lines = await self.storage.list("line:")
        keys = [key for key, line in lines.items() if line["product_id"] == product_id]
        if not keys:
            raise HTTPException(404, f"the cart has no product {product_id!r}")
        self.item_count -= await self.storage.delete_many(keys)
        if self.item_count == 0:
            await self.storage.delete_alarm()
        return {"success": True, "item_count": self.item_count}

    async def checkout(self, card: str) -> dict[str, Any]:
        """Turn the cart into an order and pay it. If the payment fails, nothing of this has happened."""
        items = await self._items()
        if not items:
            raise HTTPException(409, "the cart is empty; add an item first")
        self.order_count += 1
        order = {
            "id": f"{self.id.name}-{self.order_count}",
            "items": items,
            "total_items": sum(item["quantity"] for item in items),
        }
        await self.storage.put(f"order:{self.order_count:012}", order)
        await self._empty()
        pay(order, card)
        return order

    @reads
    async def show(self) -> dict[str, Any]:
        return {"items": await self._items(), "expires_at": await self.storage.get_alarm()}

    @reads
    async def orders(self) -> list[dict[str, Any]]:
        return list((await self.storage.list("order:")).values())

    async def alarm(self, alarm: AlarmInfo) -> None:
        await self._empty()

    async def _items(self) -> list[dict[str, Any]]:
        return list((await self.storage.list("line:")).values())

    async def _empty(self) -> None:
        await self.storage.delete_many(list(await self.storage.list("line:")))
        await self.storage.delete_alarm()
        self.item_count = 0


class Api(Service):
    @route("POST", "/carts/{user}/items")
    async def add(self, request: Request, user: str) -> dict[str, Any]:
        product_id, quantity = parse_item(await request.json())
        return await self.env.actor(ShoppingCart).get(user).add_item(product_id, quantity)

    @route("GET", "/carts/{user}")
    async def show(self, request: Request, user: str) -> dict[str, Any]:
        return await self.env.actor(ShoppingCart).get(user).show()

    @route("DELETE", "/carts/{user}/items/{product_id:path}")
    async def remove(self, request: Request, user: str, product_id: str) -> dict[str, Any]:
        return await self.env.actor(ShoppingCart).get(user).remove_item(product_id)

    @route("POST", "/carts/{user}/checkout")
    async def checkout(self, request: Request, user: str) -> dict[str, Any]:
        body = await request.json() if await request.body() else {}
        order = await self.env.actor(ShoppingCart).get(user).checkout(parse_card(body))
        return {"success": True, "order": order}

    @route("GET", "/carts/{user}/orders")
    async def orders(self, request: Request, user: str) -> dict[str, Any]:
        return {"orders": await self.env.actor(ShoppingCart).get(user).orders()}


def parse_item(body: Any) -> tuple[str, int]:
    """The product and quantity that a client sent. Raises 400 saying what is wrong with them."""
    if not isinstance(body, dict) or "product_id" not in body:
        raise HTTPException(400, 'product_id is missing; send {"product_id": "tea", "quantity": 2}')
    product_id, quantity = body["product_id"], body.get("quantity", 1)
    if not isinstance(product_id, str) or not product_id:
        raise HTTPException(400, f"product_id must be a text of at least one character, not {product_id!r:.100}")
    if type(quantity) is not int or not 1 <= quantity <= QUANTITY_MAX:
        raise HTTPException(400, f"quantity must be a whole number from 1 to {QUANTITY_MAX:,}, not {quantity!r:.100}")
    return product_id, quantity


def parse_card(body: Any) -> str:
    card = body.get("card", "") if isinstance(body, dict) else None
    if not isinstance(card, str):
        raise HTTPException(400, 'send {"card": "…"}, or nothing at all')
    return card


def pay(order: dict[str, Any], card: str) -> None:
    """Stands for a payment provider, which declines one card. Raises 402."""
    if card == "declined":
        raise HTTPException(402, f"the card was declined; order {order['id']} was not placed and the cart is as it was")
