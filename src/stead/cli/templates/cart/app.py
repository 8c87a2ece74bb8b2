"""Shopping carts: one actor for each user, emptied 24 hours after the last change."""

from datetime import timedelta
from typing import Any

from stead import Actor, AlarmInfo, HTTPException, Request, Service, reads, route

CART_LIFETIME = timedelta(hours=24)


class ShoppingCart(Actor):
    async def add_item(self, product_id: str, quantity: int = 1) -> int:
        items: list[dict[str, Any]] = await self.storage.get("items", [])
        items.append({"product_id": product_id, "quantity": quantity})
        await self.storage.put("items", items)
        await self.storage.set_alarm(CART_LIFETIME)
        return len(items)

    @reads
    async def show(self) -> dict[str, Any]:
        return {"items": await self.storage.get("items", []), "expires_at": await self.storage.get_alarm()}

    async def alarm(self, alarm: AlarmInfo) -> None:
        await self.storage.delete("items")


class Api(Service):
    @route("POST", "/carts/{user}/items")
    async def add(self, request: Request, user: str) -> dict[str, Any]:
        body = await request.json()
        if not isinstance(body, dict) or "product_id" not in body:
            raise HTTPException(400, 'send {"product_id": "…", "quantity": 1}')
        cart = self.env.actor(ShoppingCart).get(user)
        return {"success": True, "item_count": await cart.add_item(body["product_id"], body.get("quantity", 1))}

    @route("GET", "/carts/{user}")
    async def show(self, request: Request, user: str) -> dict[str, Any]:
        return await self.env.actor(ShoppingCart).get(user).show()
