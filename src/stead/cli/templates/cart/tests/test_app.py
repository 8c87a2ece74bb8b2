"""The fixtures `app`, `client` and `clock` come with Stead: the whole application in memory, with a clock that tests move."""

import httpx

from stead.testing import TestApp, VirtualClock


async def test_items_add_up(client: httpx.AsyncClient) -> None:
    await client.post("/carts/ann/items", json={"product_id": "tea"})
    answer = await client.post("/carts/ann/items", json={"product_id": "milk", "quantity": 2})
    assert answer.json() == {"success": True, "item_count": 2}
    assert [item["product_id"] for item in (await client.get("/carts/ann")).json()["items"]] == ["tea", "milk"]


async def test_a_body_without_a_product_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/carts/ann/items", json={"quantity": 2})).status_code == 400


async def test_a_cart_survives_its_instance(app: TestApp) -> None:
    cart = app.env.SHOPPING_CART.get("ann")
    await cart.add_item("tea")
    await app.evict(cart)
    assert len((await cart.show())["items"]) == 1


async def test_a_cart_is_emptied_after_a_day(app: TestApp, clock: VirtualClock) -> None:
    cart = app.env.SHOPPING_CART.get("ann")
    await cart.add_item("tea")
    await clock.advance(hours=24)
    assert await cart.show() == {"items": [], "expires_at": None}
