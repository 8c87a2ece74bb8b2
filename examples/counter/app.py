"""Three counters, one for each way an actor remembers: a durable attribute, storage keys, SQL. Also the benchmark's application."""

from __future__ import annotations

from stead import Actor, Request, Service, durable, reads, route


class Counter(Actor):
    """Counts in an attribute."""

    value: int = durable(0)

    async def increment(self) -> int:
        self.value += 1
        return self.value

    @reads
    async def current(self) -> int:
        return self.value


class KvCounter(Actor):
    """Counts under a key."""

    async def increment(self) -> int:
        value = await self.storage.get("value", 0, type=int) + 1
        await self.storage.put("value", value)
        return value

    @reads
    async def current(self) -> int:
        return await self.storage.get("value", 0, type=int)


class SqlCounter(Actor):
    """Counts in a row."""

    async def on_start(self) -> None:
        await self.sql.execute("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)")

    async def increment(self) -> int:
        value = await self.sql.fetch_value(
            "INSERT INTO counter VALUES (1, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value"
        )
        assert isinstance(value, int)
        return value

    @reads
    async def current(self) -> int:
        value = await self.sql.fetch_value("SELECT value FROM counter")
        return value if isinstance(value, int) else 0


class Api(Service):
    @route("GET", "/")
    async def hello(self, request: Request) -> str:
        return "hello"

    @route("GET", "/counter/{name}")
    async def counter(self, request: Request, name: str) -> str:
        return str(await self.env.actor(Counter).get(name).current())

    @route("POST", "/counter/{name}")
    async def increment_counter(self, request: Request, name: str) -> str:
        return str(await self.env.actor(Counter).get(name).increment())

    @route("GET", "/kv/{name}")
    async def kv(self, request: Request, name: str) -> str:
        return str(await self.env.actor(KvCounter).get(name).current())

    @route("POST", "/kv/{name}")
    async def increment_kv(self, request: Request, name: str) -> str:
        return str(await self.env.actor(KvCounter).get(name).increment())

    @route("GET", "/sql/{name}")
    async def sql(self, request: Request, name: str) -> str:
        return str(await self.env.actor(SqlCounter).get(name).current())

    @route("POST", "/sql/{name}")
    async def increment_sql(self, request: Request, name: str) -> str:
        return str(await self.env.actor(SqlCounter).get(name).increment())
