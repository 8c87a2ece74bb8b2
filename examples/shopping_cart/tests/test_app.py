"""The shop over HTTP, with the day of its carts passing in no time."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from stead.testing import TestApp, VirtualClock

DAY_MS = 86_400_000


async def cart_of(client: httpx.AsyncClient, user: str) -> dict[str, Any]:
    answer = await client.get(f"/carts/{user}")
    assert answer.status_code == 200
    cart: dict[str, Any] = answer.json()
    return cart


async def add(client: httpx.AsyncClient, user: str, product_id: str, quantity: int = 1) -> None:
    answer = await client.post(f"/carts/{user}/items", json={"product_id": product_id, "quantity": quantity})
    assert answer.status_code == 200


async def test_items_are_kept_with_the_time_of_their_adding(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """Each add is a line of its own, and the cart ends a day after the last one."""
    first_ms = clock.now_ms()
    answer = await client.post("/carts/ann/items", json={"product_id": "tea", "quantity": 2})
    assert answer.json() == {"success": True, "item_count": 1}
    await clock.advance(minutes=1)
    answer = await client.post("/carts/ann/items", json={"product_id": "tea"})
    assert answer.json() == {"success": True, "item_count": 2}
    assert await cart_of(client, "ann") == {
        "items": [
            {"product_id": "tea", "quantity": 2, "added_at": first_ms},
            {"product_id": "tea", "quantity": 1, "added_at": first_ms + 60_000},
        ],
        "expires_at": first_ms + 60_000 + DAY_MS,
    }


async def test_carts_are_apart(client: httpx.AsyncClient) -> None:
    """A user who has added nothing has an empty cart that does not expire."""
    await add(client, "ann", "tea")
    assert await cart_of(client, "bob") == {"items": [], "expires_at": None}


async def test_a_day_after_the_last_item_the_cart_is_empty(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """Adding puts the end off; looking does not."""
    await add(client, "ann", "tea")
    await clock.advance(hours=23)
    await add(client, "ann", "milk")
    await clock.advance(hours=23)
    assert len((await cart_of(client, "ann"))["items"]) == 2
    await clock.advance(hours=1)
    assert await cart_of(client, "ann") == {"items": [], "expires_at": None}


async def test_a_product_is_removed_with_all_its_lines(client: httpx.AsyncClient) -> None:
    """Removing leaves the rest and its end alone; the last one takes the end with it."""
    for product_id in ("tea", "milk", "tea", "a/b"):
        await add(client, "ann", product_id)
    expires_at = (await cart_of(client, "ann"))["expires_at"]
    assert (await client.delete("/carts/ann/items/tea")).json() == {"success": True, "item_count": 2}
    assert (await client.delete("/carts/ann/items/a/b")).json() == {"success": True, "item_count": 1}
    cart = await cart_of(client, "ann")
    assert [item["product_id"] for item in cart["items"]] == ["milk"]
    assert cart["expires_at"] == expires_at
    assert (await client.delete("/carts/ann/items/milk")).json() == {"success": True, "item_count": 0}
    assert await cart_of(client, "ann") == {"items": [], "expires_at": None}


async def test_a_product_that_is_not_there_cannot_be_removed(client: httpx.AsyncClient) -> None:
    """404, and nothing else changes."""
    await add(client, "ann", "tea")
    assert (await client.delete("/carts/ann/items/milk")).status_code == 404
    assert len((await cart_of(client, "ann"))["items"]) == 1


async def test_checkout_makes_an_order_and_empties_the_cart(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """What was in the cart is in the order, and the cart's end is called off."""
    await add(client, "ann", "tea", 2)
    await add(client, "ann", "milk")
    items = (await cart_of(client, "ann"))["items"]
    answer = await client.post("/carts/ann/checkout", json={"card": "4242"})
    order = {"id": "ann-1", "items": items, "total_items": 3}
    assert (answer.status_code, answer.json()) == (200, {"success": True, "order": order})
    assert await cart_of(client, "ann") == {"items": [], "expires_at": None}
    await clock.advance(hours=25)
    assert (await client.get("/carts/ann/orders")).json() == {"orders": [order]}


async def test_an_empty_cart_cannot_be_checked_out(client: httpx.AsyncClient) -> None:
    """409, with or without a body, also a second time after a checkout."""
    assert (await client.post("/carts/ann/checkout")).status_code == 409
    await add(client, "ann", "tea")
    assert (await client.post("/carts/ann/checkout")).status_code == 200
    assert (await client.post("/carts/ann/checkout", json={})).status_code == 409


async def test_a_declined_card_leaves_no_trace(app: TestApp, client: httpx.AsyncClient) -> None:
    """The cart, its end and the next order's number are as they were, also for an instance made anew."""
    await add(client, "ann", "tea", 2)
    before = await cart_of(client, "ann")
    assert (await client.post("/carts/ann/checkout", json={"card": "declined"})).status_code == 402
    assert await cart_of(client, "ann") == before
    await app.crash()
    assert await cart_of(client, "ann") == before
    assert (await client.get("/carts/ann/orders")).json() == {"orders": []}
    assert (await client.post("/carts/ann/checkout")).json()["order"]["id"] == "ann-1"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}", "product_id is missing"),
        ("[]", "product_id is missing"),
        ('{"product_id": 7}', "product_id must be a text"),
        ('{"product_id": ""}', "product_id must be a text"),
        ('{"product_id": "tea", "quantity": 0}', "quantity must be a whole number"),
        ('{"product_id": "tea", "quantity": -1}', "quantity must be a whole number"),
        ('{"product_id": "tea", "quantity": 1.5}', "quantity must be a whole number"),
        ('{"product_id": "tea", "quantity": "2"}', "quantity must be a whole number"),
        ('{"product_id": "tea", "quantity": true}', "quantity must be a whole number"),
        ('{"product_id": "tea",', "line 1 column"),
        ("", "the body is empty"),
    ],
)
async def test_a_wrong_item_is_refused(client: httpx.AsyncClient, body: str, said: str) -> None:
    """400 says what is wrong, and the cart stays empty."""
    answer = await client.post("/carts/ann/items", content=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert (await cart_of(client, "ann"))["items"] == []


async def test_a_cart_survives_a_crash(app: TestApp, client: httpx.AsyncClient) -> None:
    """What was acknowledged is there, in its order."""
    for number in range(5):
        await add(client, "ann", f"p{number}")
    await app.crash()
    assert [item["product_id"] for item in (await cart_of(client, "ann"))["items"]] == [f"p{number}" for number in range(5)]
