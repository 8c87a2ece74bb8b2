"""What the public API looks like to a type checker. Never run: mypy --strict and pyright strict read it.

`assert_type` says what an expression is. A line with an ignore comment must be an error to both checkers: each
reports an unneeded one.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false, reportUnusedCoroutine=false

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from stead import (
    Actor,
    ActorId,
    ActorPage,
    Alarm,
    AlarmInfo,
    Batch,
    Env,
    JSONResponse,
    Message,
    Namespace,
    Observer,
    Request,
    Response,
    ResponseLike,
    Service,
    Socket,
    Task,
    Tick,
    current_env,
    durable,
    reads,
    route,
)


@dataclass
class Item:
    product_id: str
    quantity: int = 1


class ShoppingCart(Actor):
    turn_limit_s = 60.0
    total: int = durable(0)
    items: list[Item] = durable(factory=list[Item])
    owner: str | None = durable(None)
    wrong: str = durable(0)  # type: ignore[assignment]

    async def on_start(self) -> None:
        assert_type(self.total, int)
        assert_type(self.items, list[Item])
        assert_type(self.owner, str | None)

    async def add_item(self, product_id: str, quantity: int = 1) -> dict[str, Any]:
        items = await self.storage.get("items", list[Item]())
        items.append(Item(product_id, quantity))
        self.total += quantity
        self.total = "many"  # type: ignore[assignment]
        await self.storage.put("items", items)
        await self.storage.set_alarm(timedelta(hours=24))
        return {"success": True, "item_count": len(items)}

    @reads
    async def count(self, product_id: str | None = None) -> int:
        return sum(item.quantity for item in self.items if product_id in {None, item.product_id})

    async def fetch(self, request: Request) -> ResponseLike:
        return {"path": request.url.path}

    async def alarm(self, alarm: AlarmInfo) -> None:
        assert_type(alarm.scheduled_time, datetime)
        assert_type(alarm.is_retry, bool)
        await self.storage.delete("items")

    async def in_storage(self) -> None:
        assert_type(await self.storage.get("key", type=int), int | None)
        assert_type(await self.storage.get("key", 0, type=int), int)
        assert_type(await self.storage.get("key", type=Item), Item | None)
        assert_type(await self.storage.get_many(["a", "b"]), dict[str, Any])
        assert_type(await self.storage.delete("key"), bool)
        assert_type(await self.storage.delete_many(["key"]), int)
        assert_type(await self.storage.list("a", start_after="ab", reverse=True, limit=10), dict[str, Any])
        assert_type(await self.storage.get_alarm(), int | None)
        await self.storage.put_many({"a": 1, "b": Item("x")})
        await self.storage.set_alarm(datetime.now(UTC) + timedelta(days=1))  # noqa: TID251 - what users write
        async with self.storage.transaction():
            await self.storage.sync()
        await self.storage.put(1, 2)  # type: ignore[arg-type]
        await self.storage.set_alarm("soon")  # type: ignore[arg-type]

    async def in_alarms(self) -> None:
        await self.alarms.set("cleanup", timedelta(minutes=5), payload={"a": 1})
        await self.alarms.set("report", cron="0 9 * * *")
        await self.alarms.set("beat", every=timedelta(seconds=30))
        assert_type(await self.alarms.get("cleanup"), Alarm | None)
        assert_type(await self.alarms.list(), list[Alarm])
        assert_type(await self.alarms.cancel("cleanup"), bool)
        await self.alarms.set("beat", every=30)  # type: ignore[arg-type]

    async def in_sql(self) -> None:
        assert_type(await self.sql.execute("INSERT INTO t VALUES (?, ?)", 1, "a"), int)
        rows = await self.sql.fetch_all("SELECT * FROM t WHERE n > ?", 1)
        assert_type(rows, list[dict[str, None | int | float | str | bytes]])
        assert_type(await self.sql.fetch_one("SELECT 1"), dict[str, None | int | float | str | bytes] | None)
        assert_type(await self.sql.fetch_value("SELECT 1"), None | int | float | str | bytes)
        assert_type(await self.sql.size_bytes(), int)
        await self.sql.script("CREATE TABLE t (n); CREATE INDEX i ON t (n)")

    async def in_context(self) -> None:
        assert_type(self.id, ActorId)
        assert_type(self.id.name, str | None)
        self.ctx.spawn(self.outside())
        self.ctx.abort("enough")

    async def outside(self) -> None:
        async with self.ctx.turn():
            self.total += 1


class ChatRoom(Actor):
    sockets_max = 100
    socket_messages_per_s = 20.0

    @classmethod
    async def before_connect(cls, request: Request, env: Env) -> Request | Response | None:
        return None if request.query_params.get("token") else JSONResponse({"error": "no token"}, 403)

    def connection_tags(self, socket: Socket, request: Request) -> Collection[str]:
        return [*super().connection_tags(socket, request), request.query_params.get("team", "none")]

    async def on_connect(self, socket: Socket, request: Request) -> None:
        assert_type(socket.set_state({"joined": 1}), dict[str, int])
        assert_type(socket.set_state(lambda _: 1), int)
        assert_type(socket.id, str)
        assert_type(socket.tags, tuple[str, ...])
        assert_type(socket.is_open, bool)
        assert_type(socket.state, Any)
        socket.attachment = ["anything"]
        self.ctx.auto_reply("ping", "pong")
        self.ctx.auto_reply(None)

    async def on_message(self, socket: Socket, message: str | bytes) -> None:
        socket.send(message)
        socket.send({"a": 1})
        socket.send([1, 2])
        socket.send(5)  # type: ignore[arg-type]
        socket.close(4000, "bye")
        socket.close("bye")  # type: ignore[arg-type]
        self.broadcast(message, exclude=[socket, "another"], tag="red")
        assert_type(self.sockets("red"), list[Socket])
        seen: dict[Socket, int] = {socket: 1}
        assert_type(seen[socket], int)

    async def on_close(self, socket: Socket, code: int, reason: str) -> None:
        socket.id = "other"  # type: ignore[misc]

    async def on_error(self, socket: Socket, error: Exception) -> None: ...

    async def say(self, text: str) -> None:
        self.broadcast(text)


class Lobby(Service):
    async def fetch(self, request: Request) -> ResponseLike:
        self.env.actor(ChatRoom).get("lobby", location_hint=7)  # type: ignore[arg-type]
        room = self.env.actor(ChatRoom).get("lobby", location_hint="eu")
        await room.connect(request, subprotocol=5)  # type: ignore[arg-type]
        return await room.connect(request)


class Prices(Service):
    async def price(self, product_id: str) -> float:
        return float(len(product_id))


class Api(Service):
    @route("POST", "/carts/{user}/items")
    async def add(self, request: Request, user: str) -> dict[str, Any]:
        body = await request.json()
        cart = self.env.actor(ShoppingCart).get(user)
        return await cart.add_item(body["product_id"], body.get("quantity", 1))

    @route("GET", "/carts/{user}")
    @route("GET", "/baskets/{user}")
    async def show(self, request: Request, user: str) -> Response:
        return JSONResponse({"count": await self.env.actor(ShoppingCart).get(user).count()})

    async def fetch(self, request: Request) -> ResponseLike:
        return "hello"

    @route("GET")  # type: ignore[call-arg]
    async def pathless(self, request: Request) -> None: ...


async def from_outside(env: Env) -> None:
    carts = env.actor(ShoppingCart)
    assert_type(carts, Namespace[ShoppingCart])
    cart = carts.get("ada")
    assert_type(cart, ShoppingCart)
    assert_type(await cart.add_item("p", 1), dict[str, Any])
    assert_type(await cart.count(product_id="p"), int)
    assert_type(carts.unique_id(), ActorId)
    assert_type(carts.id_from_name("ada"), ActorId)
    assert_type(carts.id_from_string("shopping-cart/ada"), ActorId)
    assert_type(carts.get(carts.unique_id()), ShoppingCart)
    page = await carts.list(prefix="a", limit=10)
    assert_type(page, ActorPage)
    assert_type([(entry.name, entry.size_bytes) for entry in page.actors], list[tuple[str | None, int]])
    assert_type(await env.service(Prices).price("p"), float)
    assert_type(current_env(), Env)
    untyped: dict[str, Any] = await env.SHOPPING_CART.get("ada").add_item("p")
    env.logger.with_(user="ada").info("added", items=len(untyped))

    await cart.add_item("p", "one")  # type: ignore[arg-type]
    await cart.remove_item("p")  # type: ignore[attr-defined]
    await cart.count(1)  # type: ignore[arg-type]
    carts.get(5)  # type: ignore[arg-type]
    env.actor(Prices)  # type: ignore[type-var]
    env.service(ShoppingCart)  # type: ignore[type-var]


class Orders(Observer):
    async def process(self, message: Message) -> None:
        await self.env.SHOPPING_CART.get(message.body["user"]).add_item("p")
        message.ack()

    async def process_batch(self, batch: Batch) -> None:
        for message in batch.messages:
            message.retry(delay_s=5)


class Nightly(Task):
    async def run(self, tick: Tick) -> None:
        assert_type(tick.scheduled_time, datetime)
