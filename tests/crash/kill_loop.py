"""Kill a server in the middle of work, again and again, and check what it has kept.

    python tests/crash/kill_loop.py --rounds 20 --clients 32

A round starts `stead serve` on the data that the round before left behind, checks it, lets clients write for 0.2 to 1 s and sends
SIGKILL. Whatever was acknowledged, by an answer to a write or by having been shown to a reader, must be there after each restart,
once and unchanged, in every later round as well. A request without an answer may have happened or not, but never twice or in part.

What it is not: a loss of power. A killed process leaves the operating system's cache alive, so a write that was never flushed
survives here. That no answer comes before its flush is what `tests/process/test_flushes.py` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stead.clock import sleep
from stead.ids import Chance

ROOT = Path(__file__).parents[2]
LOAD_S_MIN, LOAD_S_MAX = 0.2, 1.0  # from the first request to the kill
START_S_MAX = 60.0  # a server that needs longer to be ready does not start at all
ALARM_S_MAX = 30.0  # alarms are due 0.15 s after a write; the rest is patience with a loaded machine
ORDERS_S_MAX = 60.0  # an order whose payment was interrupted asks again after 10 s
POLL_S = 0.05
NAMES = [f"name-{number}" for number in range(8)]  # of the actors of a kind: few, so that clients meet at them
FAULTS_SHOWN_MAX = 20  # of all that were found; --json has the rest
CART_TTL_MS = 24 * 3600 * 1000
REQUESTS_PER_FAILURE = 8  # every eighth turn of a ledger is one that fails after writing
STEAD = ("-c", "from stead.cli import main; main()")


class ServerGone(Exception):
    """The connection ended before the answer did."""


class Connection:
    """One client's HTTP/1.1 connection: one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        """The status and the JSON of the answer. Raises `ServerGone`; the request may have happened then."""
        content = b"" if body is None else json.dumps(body).encode()
        key_line = f"idempotency-key: {key}\r\n" if key else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n{key_line}\r\n"
        try:
            self._writer.write(head.encode() + content)
            answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            size_bytes = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
            received = await self._reader.readexactly(size_bytes)
        except (OSError, EOFError) as exc:
            raise ServerGone from exc
        return int(answer[9:12]), json.loads(received)

    def close(self) -> None:
        self._writer.close()


@dataclass
class Load:
    """What the clients of one round did, and what was wrong with the answers."""

    round: int
    acknowledged: int = 0
    in_doubt: int = 0
    faults: list[str] = field(default_factory=list)


class Workload(Protocol):
    """An application, what clients do to it, and what must be true of it ever after."""

    name: str
    place: Path

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        """Ask without end, one request after the other, until `ServerGone`."""
        ...

    async def faults(self, connection: Connection) -> list[str]:
        """What is wrong with the data now. All that it reads counts as acknowledged from here on."""
        ...


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

    async def faults(self, connection: Connection) -> list[str]:
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


class Numbers:
    """Numbers that grow by one with each request: no number is answered twice, and none is below one that was known before."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._sent = Counter[str]()
        self._answered: dict[str, set[int]] = {path: set() for path in paths}
        self._known = Counter[str]()  # the highest one at the last restart

    async def ask(self, connection: Connection, path: str, load: Load) -> None:
        self._sent[path] += 1
        status, number = await connection.ask("POST", path)
        if status != 200:
            load.faults.append(f"{path} was answered with {status}: {number}")
        elif number in self._answered[path] or number <= self._known[path]:
            load.faults.append(f"{path} went back: {number} was known before")
        else:
            self._answered[path].add(number)
            load.acknowledged += 1

    def faults(self, path: str, number: int) -> list[str]:
        """What is wrong with `number` being the current one, which from here on is known."""
        known, sent = max(self._answered[path], default=self._known[path]), self._sent[path]
        self._answered[path].clear()
        self._known[path] = number
        if number < known:
            return [f"{path} went back to {number}: {known} was acknowledged"]
        return [f"{path} is {number} after {sent} requests"] if number > sent else []


class Counters:
    """The counters of `examples/counter`: in an attribute, under a key, in SQL."""

    name = "counters"
    place = ROOT / "examples" / "counter"

    def __init__(self) -> None:
        self._numbers = Numbers([f"/{kind}/{name}" for kind in ("counter", "kv", "sql") for name in NAMES])

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, paths = client, self._numbers.paths
        while True:
            number += 1
            await self._numbers.ask(connection, paths[number % len(paths)], load)

    async def faults(self, connection: Connection) -> list[str]:
        faults: list[str] = []
        for path in self._numbers.paths:
            status, number = await connection.ask("GET", path)
            faults += self._numbers.faults(path, number) if status == 200 else [f"{path} was answered with {status}: {number}"]
        return faults


class Ledgers:
    """The ledgers of `tests/crash/app`, which write one number in many places and fail now and then."""

    name = "ledgers"
    place = Path(__file__).parent / "app"

    def __init__(self) -> None:
        self._numbers = Numbers([f"/ledgers/{name}" for name in NAMES])

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, paths = client, self._numbers.paths
        while True:
            number += 1
            path = paths[number % len(paths)]
            await self._numbers.ask(connection, path, load)
            if number % REQUESTS_PER_FAILURE == 0:
                status, answer = await connection.ask("POST", f"{path}/fail")
                if status != 409:
                    load.faults.append(f"{path}/fail was answered with {status}: {answer}")

    async def faults(self, connection: Connection) -> list[str]:
        faults: list[str] = []
        for path in self._numbers.paths:
            status, ledger = await connection.ask("GET", path)
            if status != 200:
                faults.append(f"{path} was answered with {status}: {ledger}")
            elif any(ledger[place] != ledger["attribute"] for place in ("left", "right", "sql_lines", "sql_last", "alarm")):
                faults.append(f"{path} is torn: {ledger}")
            else:
                faults += self._numbers.faults(path, ledger["attribute"])
                faults += await self._lost_alarm(connection, path)
        return faults

    async def _lost_alarm(self, connection: Connection, path: str) -> list[str]:
        deadline_s = asyncio.get_running_loop().time() + ALARM_S_MAX
        while asyncio.get_running_loop().time() < deadline_s:
            _, ledger = await connection.ask("GET", path)
            if ledger["ticked"] == ledger["attribute"]:
                return []
            await sleep(POLL_S)
        return [f"{path} waits for an alarm that was lost: {ledger}"]


class Orders:
    """Orders of `examples/orders`. A request that got no answer is repeated with its key after the restart, so what must be there
    is known exactly: every order ends, and neither money nor stock nor what a cart held is lost or made on the way."""

    name = "orders"
    place = ROOT / "examples" / "orders"

    def __init__(self) -> None:
        self._unanswered: dict[str, tuple[str, dict[str, Any]]] = {}  # by key
        self._put_in = 0
        self._wanted = Counter[str]()  # by user
        self._open: set[str] = set()  # orders whose end is not known
        self._bought = Counter[str]()  # by user: what confirmed orders hold

    async def work(self, client: int, connection: Connection, load: Load) -> None:
        number, user = 0, NAMES[client % len(NAMES)]
        while True:
            number += 1
            key = f"{load.round}.{client}.{number}"
            match number % 4:
                case 1:
                    request: tuple[str, dict[str, Any]] = "/stock/tea", {"quantity": 2, "price_cents": 7}
                case 3:
                    request = "/orders", {"user": user, "card": "declined" if number % 8 == 3 else "4242"}
                case _:
                    request = f"/carts/{user}", {"sku": "tea", "quantity": 1 + number % 3}
            self._unanswered[key] = request
            load.faults += await self._ask(connection, key)
            load.acknowledged += 1

    async def _ask(self, connection: Connection, key: str) -> list[str]:
        path, body = self._unanswered[key]
        status, answer = await connection.ask("POST", path, body, key)
        del self._unanswered[key]
        if path == "/orders" and status == 409:  # another order has taken what was in the cart
            return []
        if status != 200:
            return [f"{path} was answered with {status}: {answer}"]
        if path == "/orders":
            self._open.add(answer["id"])
        elif path == "/stock/tea":
            self._put_in += body["quantity"]
        else:
            self._wanted[path.removeprefix("/carts/")] += body["quantity"]
        return []

    async def faults(self, connection: Connection) -> list[str]:
        faults = [fault for key in list(self._unanswered) for fault in await self._ask(connection, key)]
        deadline_s = asyncio.get_running_loop().time() + ORDERS_S_MAX
        for order in sorted(self._open):
            faults += await self._end(connection, order, deadline_s)
        self._open.clear()
        while (missing := await self._imbalance(connection)) and asyncio.get_running_loop().time() < deadline_s:
            await sleep(POLL_S)  # the last signals are on their way
        return faults + missing

    async def _imbalance(self, connection: Connection) -> list[str]:
        _, stock = await connection.ask("GET", "/stock/tea")
        _, payment = await connection.ask("GET", "/payments/4242")
        sold, faults = sum(self._bought.values()), []
        if (stock["free"], stock["reserved"], stock["sold"]) != (self._put_in - sold, 0, sold):
            faults.append(f"the stock is {stock}; {self._put_in} were put in, and {sold} are in confirmed orders")
        if payment["charged_cents"] != 7 * sold:
            faults.append(f"the card was charged {payment['charged_cents']} for {sold} at 7")
        for user in NAMES:
            _, cart = await connection.ask("GET", f"/carts/{user}")
            if cart.get("tea", 0) + self._bought[user] != self._wanted[user]:
                faults.append(f"{user} wanted {self._wanted[user]}, has bought {self._bought[user]}, and the cart is {cart}")
        return faults

    async def _end(self, connection: Connection, order: str, deadline_s: float) -> list[str]:
        while True:
            status, shown = await connection.ask("GET", f"/orders/{order}")
            if status != 200:
                return [f"{order} is lost: {shown}"]
            if shown["state"] == "confirmed":
                self._bought[order.rpartition("-")[0]] += shown["lines"]["tea"]
            if shown["state"] in ("confirmed", "cancelled"):
                return []
            if asyncio.get_running_loop().time() > deadline_s:
                return [f"{order} has not ended: {shown}"]
            await sleep(POLL_S)


@dataclass(frozen=True)
class Outcome:
    """A round as it is reported; `faults` are those of the answers and those found after the restart."""

    workload: str
    round: int
    killed_after_ms: int
    acknowledged: int
    in_doubt: int
    restart_ms: int
    faults: list[str]


@dataclass(frozen=True)
class Attack:
    """Rounds against one workload, all on one data directory."""

    workload: Workload
    data: Path
    clients: int
    chance: Chance
    launcher: tuple[str, ...] = STEAD  # the interpreter's arguments that stand for the command `stead`

    async def run(self, rounds: int) -> AsyncIterator[Outcome]:
        """Each round's outcome, once the server has been started again and checked."""
        load, killed_after_s = Load(0), 0.0
        for number in range(1, rounds + 2):
            began_s = asyncio.get_running_loop().time()
            async with self._server() as (server, port):
                restart_s = asyncio.get_running_loop().time() - began_s
                connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
                faults = load.faults + await self.workload.faults(connection)
                connection.close()
                if number > 1:
                    counts = (load.acknowledged, load.in_doubt, round(restart_s * 1000))
                    yield Outcome(self.workload.name, number - 1, round(killed_after_s * 1000), *counts, faults)
                load = Load(number)
                killed_after_s = LOAD_S_MIN + (LOAD_S_MAX - LOAD_S_MIN) * self.chance.fraction()
                if number <= rounds:
                    await self._load(server, port, killed_after_s, load)

    async def _load(self, server: Process, port: int, killed_after_s: float, load: Load) -> None:
        connections = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(self.clients)]
        async with asyncio.TaskGroup() as tasks:
            for client, connection in enumerate(connections):
                tasks.create_task(self._work(client, connection, load))
            await sleep(killed_after_s)
            if server.returncode is None:
                server.kill()
            else:
                load.faults.append(f"the server ended by itself with {server.returncode}")
            await server.wait()

    async def _work(self, client: int, connection: Connection, load: Load) -> None:
        try:
            await self.workload.work(client, connection, load)
        except ServerGone:
            load.in_doubt += 1
        finally:
            connection.close()

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[tuple[Process, int]]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
        arguments = (*self.launcher, "serve", self.workload.place, "--port", "0", "--data", self.data)
        server = await create_subprocess_exec(sys.executable, *map(str, arguments), stdout=PIPE, stderr=None, env=environ)
        try:
            assert server.stdout is not None
            async with asyncio.timeout(START_S_MAX):
                line = (await server.stdout.readline()).decode()
            if not line.startswith("ready "):
                sys.exit(f"the server did not start again: its data is in {self.data}")
            yield server, urlsplit(line.split()[1]).port or 0
        finally:
            if server.returncode is None:
                server.kill()
            await server.wait()


WORKLOADS: dict[str, type[Carts] | type[Counters] | type[Ledgers] | type[Orders]] = {
    workload.name: workload for workload in (Carts, Counters, Ledgers, Orders)
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill a server in the middle of work and check what it has kept.")
    parser.add_argument("--rounds", type=int, default=20, help="kills of each workload's server (20)")
    parser.add_argument("--clients", type=int, default=32, help="that write at the same time (32)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills (1)")
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="this workload; may be given again")
    parser.add_argument("--bug", choices=("early", "torn", "twice"), help="serve with a planted bug, see sabotaged.py")
    parser.add_argument("--data", type=Path, help="where to keep the data; a temporary directory otherwise")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    return parser.parse_args()


async def attack_all(options: argparse.Namespace, data: Path) -> list[Outcome]:
    launcher = (str(Path(__file__).with_name("sabotaged.py")), options.bug) if options.bug else STEAD
    names = options.only or list(WORKLOADS)
    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("kill -9", total=options.rounds * len(names))
        for name in names:
            attack = Attack(WORKLOADS[name](), data / name, options.clients, Chance(options.seed), launcher)
            async for outcome in attack.run(options.rounds):
                outcomes.append(outcome)
                progress.advance(task)
    return outcomes


def table(outcomes: list[Outcome]) -> Table:
    shown = Table("workload", "rounds", "acknowledged", "in doubt", "restart, ms (most)", "faults", title="kill -9 under load")
    for name in dict.fromkeys(outcome.workload for outcome in outcomes):
        of_it = [outcome for outcome in outcomes if outcome.workload == name]
        sums = (sum(outcome.acknowledged for outcome in of_it), sum(outcome.in_doubt for outcome in of_it))
        restarts = sorted(outcome.restart_ms for outcome in of_it)
        faults = sum(len(outcome.faults) for outcome in of_it)
        cells = (len(of_it), f"{sums[0]:,}", sums[1], f"{restarts[len(of_it) // 2]} ({restarts[-1]})", faults)
        shown.add_row(name, *map(str, cells), style="red" if faults else None)
    return shown


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="stead-kill-") as temporary:
        outcomes = asyncio.run(attack_all(options, options.data or Path(temporary)))
    faults = [f"{outcome.workload}, round {outcome.round}: {fault}" for outcome in outcomes for fault in outcome.faults]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        Console().print(table(outcomes))
        for fault in faults[:FAULTS_SHOWN_MAX]:
            print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
