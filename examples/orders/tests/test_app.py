"""Orders over HTTP: each ends confirmed or cancelled, and nothing is lost, made or paid twice on the way."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from stead.testing import TestApp, VirtualClock


async def post(client: httpx.AsyncClient, path: str, key: str, **body: Any) -> httpx.Response:
    return await client.post(path, json=body, headers={"idempotency-key": key})


async def got(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def place(client: httpx.AsyncClient, card: str = "4242", tea: int = 2, cups: int = 1) -> str:
    """Ann's order of tea and cups, of which there are 10 and 1."""
    await post(client, "/stock/tea", "s1", quantity=10, price_cents=300)
    await post(client, "/stock/cup", "s2", quantity=1, price_cents=900)
    await post(client, "/carts/ann", "c1", sku="tea", quantity=tea)
    await post(client, "/carts/ann", "c2", sku="cup", quantity=cups)
    answer = await post(client, "/orders", "o1", user="ann", card=card)
    assert answer.status_code == 200, answer.text
    order: str = answer.json()["id"]
    return order


async def test_an_order_is_reserved_charged_and_confirmed(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """The money is taken once, the stock is sold, the cart is empty, and the history tells the way."""
    order = await place(client)
    await clock.advance(1)
    shown = await got(client, f"/orders/{order}")
    assert (shown["state"], shown["amount_cents"], shown["lines"]) == ("confirmed", 1500, {"tea": 2, "cup": 1})
    assert [step["state"] for step in shown["history"]] == ["reserving", "charging", "confirmed"]
    assert await got(client, "/stock/tea") == {"price_cents": 300, "free": 8, "reserved": 0, "sold": 2}
    assert await got(client, "/payments/4242") == {"charged_cents": 1500}
    assert await got(client, "/carts/ann") == {}


async def test_a_repeated_request_is_one_order(client: httpx.AsyncClient, clock: VirtualClock, app: TestApp) -> None:
    """The same key gives the same order, also after a crash; a new one finds the cart empty."""
    order = await place(client)
    await app.crash()
    assert (await post(client, "/orders", "o1", user="ann", card="4242")).json() == {"id": order}
    assert (await post(client, "/orders", "o2", user="ann", card="4242")).status_code == 409
    await clock.advance(60)
    assert await got(client, "/payments/4242") == {"charged_cents": 1500}


async def test_missing_stock_gives_back_what_was_reserved(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """Nothing is charged, the other product is free again, and the cart is as it was."""
    order = await place(client, cups=2)
    await clock.advance(1)
    shown = await got(client, f"/orders/{order}")
    assert (shown["state"], shown["history"][-1]["why"]) == ("cancelled", "not enough of: cup")
    assert await got(client, "/stock/tea") == {"price_cents": 300, "free": 10, "reserved": 0, "sold": 0}
    assert await got(client, "/payments/4242") == {"charged_cents": 0}
    assert await got(client, "/carts/ann") == {"tea": 2, "cup": 2}


async def test_a_declined_card_gives_everything_back(client: httpx.AsyncClient, clock: VirtualClock) -> None:
    """The order is cancelled, and can be placed again with another card."""
    order = await place(client, card="declined")
    await clock.advance(1)
    assert (await got(client, f"/orders/{order}"))["history"][-1]["why"] == "the card was declined"
    assert (await got(client, "/stock/cup"))["free"] == 1
    again = (await post(client, "/orders", "o2", user="ann", card="4242")).json()["id"]
    await clock.advance(1)
    assert (await got(client, f"/orders/{again}"))["state"] == "confirmed"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/orders", {"user": "ann"}, "card must be"),
        ("/orders", {"user": "", "card": "x"}, "user must be"),
        ("/stock/tea", {"quantity": -1, "price_cents": 1}, "quantity must be"),
        ("/carts/ann", {"sku": "tea", "quantity": "2"}, "quantity must be"),
    ],
)
async def test_wrong_requests_are_refused(client: httpx.AsyncClient, path: str, body: dict[str, Any], said: str) -> None:
    """400 says what is wrong."""
    answer = await client.post(path, json=body, headers={"idempotency-key": "k"})
    assert answer.status_code == 400 and said in answer.json()["detail"]


async def test_a_request_without_a_key_is_refused(client: httpx.AsyncClient) -> None:
    """400 before anything happened: a client that cannot repeat safely should not begin."""
    answer = await client.post("/stock/tea", json={"quantity": 1, "price_cents": 1})
    assert answer.status_code == 400 and "Idempotency-Key" in answer.json()["detail"]
    assert (await got(client, "/stock/tea"))["free"] == 0


async def test_an_unknown_order_is_not_found(client: httpx.AsyncClient) -> None:
    """404, and asking for it makes none."""
    assert (await client.get("/orders/ann-7")).status_code == 404
