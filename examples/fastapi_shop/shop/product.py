"""What there is of a product, and who reserved how much of it."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, Field

from stead import Actor, durable, reads


class Offer(BaseModel):
    """What a seller says of a product."""

    title: str = Field(min_length=1)
    price: Decimal = Field(gt=0, decimal_places=2)
    stock: int = Field(ge=0)


class Reservation(BaseModel):
    customer: str = Field(min_length=1)
    quantity: int = Field(default=1, ge=1)


class SoldOut(Exception):
    """There is less of the product than was asked for."""


class Product(Actor):
    """One product. Models are stored and passed as their fields, and come back as models."""

    offer: Offer | None = durable(None)
    reservations: list[Reservation] = durable(factory=list)

    async def put(self, offer: Offer) -> None:
        self.offer = offer

    @reads
    async def show(self) -> Offer | None:
        return self.offer

    async def reserve(self, reservation: Reservation) -> int:
        """Take from the stock and return what is left. Raises `SoldOut`."""
        if self.offer is None or self.offer.stock < reservation.quantity:
            in_stock = 0 if self.offer is None else self.offer.stock
            raise SoldOut(f"{in_stock} left, {reservation.quantity} asked for")
        self.offer = self.offer.model_copy(update={"stock": self.offer.stock - reservation.quantity})
        self.reservations.append(reservation)
        return self.offer.stock
