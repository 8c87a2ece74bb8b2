"""Items in carts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.crash.connection import Connection
from tests.crash.stored import Stored
from tests.crash.workload import NAMES, ROOT, Load

CART_TTL_MS = 24 * 3600 * 1000


class Carts:
    """Items with unique ids in the carts of `examples/shopping_cart`, their quantities, places, order and the cart's alarm."""

    name = "carts"
    place = ROOT / "examples" / "shopping_cart"

    def __init__(self) -> None:
        self._sent: dict[str, dict[str, int]] = {cart: {} for cart in NAMES}  # quantities
        self._kept: dict[str, dict[str, int]] = {cart: {} for cart in NAMES}  # places in the cart, counted from 1

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number = 0
        while True:
            number += 1
            cart, product, quantity = NAMES[(client + number) % len(NAMES)], f"{load.round}.{client}.{number}", 1 + number % 9
            self._sent[cart][product] = quantity
            status, answer = await connection.ask("POST", f"/carts/{cart}/items", {"product_id": product, "quantity": quantity})
            if status == 200:
                self._kept[cart][product] = answer["item_count"]
                load.acknowledged += 1
            else:
                load.faults.append(f"{product} was answered with {status}: {answer}")

    async def faults(self, connection: Connection, stored: Stored) -> list[str]:
        faults: list[str] = []
        for cart in NAMES:
            status, answer = await connection.ask("GET", f"/carts/{cart}")
            if status != 200:
                faults.append(f"{cart} was answered with {status}: {answer}")
                continue
            faults += [f"{cart}: {fault}" for fault in self._faults_of(cart, answer["items"])]
            if answer["items"] and answer["expires_at"] != answer["items"][-1]["added_at"] + CART_TTL_MS:
                faults.append(f"{cart}: its alarm at {answer['expires_at']} is not that of its last item")
            self._kept[cart] = {item["product_id"]: place for place, item in enumerate(answer["items"], 1)}
        return faults

    def _faults_of(self, cart: str, items: list[dict[str, Any]]) -> list[str]:
        sent, found = self._sent[cart], [item["product_id"] for item in items]
        places = {product: place for place, product in enumerate(found, 1)}
        faults = [f"{product} is lost" for product in self._kept[cart] if product not in places]
        faults += [f"{product} is there {count} times" for product, count in Counter(found).items() if count > 1]
        faults += [f"{product} was never sent" for product in places if product not in sent]
        faults += [
            f"{product} was acknowledged as item {place} and is item {places[product]}"
            for product, place in self._kept[cart].items()
            if places.get(product, place) != place
        ]
        faults += [
            f"{item['product_id']} has quantity {item['quantity']}, not {sent[item['product_id']]}"
            for item in items
            if sent.get(item["product_id"], item["quantity"]) != item["quantity"]
        ]
        latest: dict[str, int] = {}
        for product in found:
            client, _, number = product.rpartition(".")
            if int(number) < latest.get(client, 0):
                faults.append(f"{product} comes after a later item of the same client")
            latest[client] = int(number)
        return faults
