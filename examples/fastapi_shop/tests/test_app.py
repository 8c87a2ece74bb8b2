"""FastAPI in front, actors behind."""

from __future__ import annotations

import asyncio

import httpx

from stead.testing import TestApp

TEA = {"title": "Tea", "price": "4.50", "stock": 3}


async def test_a_product_is_read_as_written(app: TestApp, client: httpx.AsyncClient) -> None:
    """Models go in and come out, also of an instance made anew."""
    assert (await client.get("/products/tea")).status_code == 404
    assert (await client.put("/products/tea", json=TEA)).status_code == 204
    await app.crash()
    assert (await client.get("/products/tea")).json() == TEA


async def test_what_is_not_there_cannot_be_reserved(client: httpx.AsyncClient) -> None:
    """Of ten who want one of three at once, three get one and the others are told."""
    await client.put("/products/tea", json=TEA)
    wish = {"customer": "ann"}
    answers = await asyncio.gather(*(client.post("/products/tea/reservations", json=wish) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7
    assert sorted(answer.json()["left"] for answer in answers if answer.status_code == 201) == [0, 1, 2]


async def test_fastapi_checks_what_comes_in(client: httpx.AsyncClient) -> None:
    """Its validation and its documentation are what they always are."""
    assert (await client.put("/products/tea", json={**TEA, "price": "-1"})).status_code == 422
    assert (await client.post("/products/tea/reservations", json={"customer": "ann", "quantity": 0})).status_code == 422
    assert "/products/{sku}" in (await client.get("/openapi.json")).json()["paths"]
