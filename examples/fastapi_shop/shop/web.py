"""An ordinary FastAPI application. The one thing it knows of Stead is `current_env()`."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException

from stead import current_env

from .product import Offer, Product, Reservation, SoldOut

app = FastAPI(title="Shop")


def product(sku: str) -> Product:
    return current_env().actor(Product).get(sku)


@app.put("/products/{sku}", status_code=204)
async def put_product(sku: str, offer: Offer) -> None:
    await product(sku).put(offer)


@app.get("/products/{sku}")
async def get_product(sku: str) -> Offer:
    offer = await product(sku).show()
    if offer is None:
        raise HTTPException(404, f"there is no product {sku!r}")
    return offer


@app.post("/products/{sku}/reservations", status_code=201)
async def reserve(sku: str, reservation: Reservation) -> dict[str, int]:
    try:
        return {"left": await product(sku).reserve(reservation)}
    except SoldOut as error:
        raise HTTPException(409, str(error)) from error
