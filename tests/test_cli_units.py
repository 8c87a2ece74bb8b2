"""`stead tasks` and its kin as processes: beside a running server, and without one."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from stead.admin import find_server, remote_operator
from stead.clock import sleep
from stead.ids import Chance

pytestmark = pytest.mark.process

LIMIT_S = 60.0  # for each command and whatever else is waited for: far more than it takes, so that a loaded machine is no failure
COMMAND = (sys.executable, "-c", "from stead.cli import main; main()")


async def start(place: Path, *arguments: str | Path, environ: dict[str, str] | None = None) -> Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
    command = (*COMMAND, *map(str, arguments))
    return await create_subprocess_exec(
        *command, cwd=place, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**inherited, **(environ or {})}
    )


async def ended(process: Process, said: bytes = b"") -> tuple[bytes, bytes]:
    """Wait for its end; what it has printed. `said` is its standard input."""
    async with asyncio.timeout(LIMIT_S):
        return await process.communicate(said)


async def stead(
    place: Path, *arguments: str | Path, code: int = 0, said: str = "", environ: dict[str, str] | None = None
) -> tuple[str, str]:
    """What a command prints on standard output and standard error; `said` is its standard input."""
    process = await start(place, *arguments, environ=environ)
    stdout, stderr = await ended(process, said.encode())
    assert process.returncode == code, (stdout, stderr)
    assert b"Traceback" not in stderr
    return stdout.decode(), stderr.decode()


async def asked(place: Path, *arguments: str | Path, code: int = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads((await stead(place, *arguments, "--json", code=code))[0])


@asynccontextmanager
async def serving(place: Path, environ: dict[str, str] | None = None) -> AsyncIterator[tuple[Process, str]]:
    """A server of the application that is ready, and its address. It is killed at the end if it has not ended by itself."""
    process = await start(place, "serve", "--port", "0", environ=environ)
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            word, _, url = (await process.stdout.readline()).decode().strip().partition(" ")
        assert word == "ready", (await process.stderr.read()).decode()
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


TASKS = """application "a" {
  task "good" { cron = "@daily" timezone = "Europe/Berlin" }
  task "bad" { cron = "0 2 * * *" }
}
"""
TASKS_APP = """from stead import Task
class Good(Task):
    async def run(self, tick):
        with open("ran", "a") as file:
            file.write(tick.cron + "\\n")
class Bad(Task):
    async def run(self, tick):
        raise ValueError("no such file")
"""


def test_tasks_run_from_a_shell(tmp_path: Path) -> None:
    """With a server and without one they run, are listed with how it went, and keep their history through its end by `kill -9`."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(TASKS)
        (tmp_path / "app.py").write_text(TASKS_APP)
        async with serving(tmp_path) as (process, _):
            assert (await stead(tmp_path, "tasks", "run", "good"))[0].startswith("good: succeeded")
            failed = await asked(tmp_path, "tasks", "run", "bad", code=1)
            assert (failed["run"]["outcome"], failed["run"]["error"]) == ("failed", "ValueError: no such file")
            process.kill()
            await process.wait()
        listed = {task["name"]: task for task in (await asked(tmp_path, "tasks", "list"))["tasks"]}
        assert [listed[name]["last"]["outcome"] for name in ("good", "bad")] == ["succeeded", "failed"]
        assert listed["good"]["timezone"] == "Europe/Berlin" and listed["good"]["next_time"]
        assert (await stead(tmp_path, "tasks", "run", "good"))[0].startswith("good: succeeded")
        assert (tmp_path / "ran").read_text() == "@daily\n" * 2
        runs = (await asked(tmp_path, "tasks", "runs", "good"))["runs"]
        assert [run["number"] for run in runs] == [2, 1]
        assert "Europe/Berlin" in (await stead(tmp_path, "tasks", "list"))[0]
        assert "there are: good, bad" in (await stead(tmp_path, "tasks", "run", "godo", code=1))[1]

    asyncio.run(work())


QUEUES = """application "a" {
  queue "jobs" { max_retries = 0 max_batch_timeout_s = 0.1 }
  queue "exports" { shards = 2 }
  observer "worker" { source { queue = "jobs" } }
}
"""
QUEUES_APP = """from stead import Observer
class Worker(Observer):
    async def process(self, message):
        raise ValueError("poison")
"""


def test_queues_are_operated_from_a_shell(tmp_path: Path) -> None:
    """Poison is seen, sent again and purged; a paused queue keeps what comes; the same without a server."""

    async def statuses() -> dict[str, Any]:
        return {queue["name"]: queue for queue in (await asked(tmp_path, "queues", "list"))["queues"]}

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(QUEUES)
        (tmp_path / "app.py").write_text(QUEUES_APP)
        async with serving(tmp_path) as (process, _):
            address = find_server(tmp_path / ".stead")
            assert address is not None
            async with remote_operator(address) as operator:
                await operator.operate("jobs", "send_batch", {"bodies": [{"to": "ann"}]})
                async with asyncio.timeout(LIMIT_S):
                    while (await statuses())["jobs"]["dead_letters"] == 0:
                        await sleep(0.1)
                (letter,) = (await asked(tmp_path, "queues", "peek", "jobs", "--dead"))["messages"]
                assert letter["body"] == {"to": "ann"}
                assert "paused" in (await stead(tmp_path, "queues", "pause", "jobs"))[0]
                assert (await asked(tmp_path, "queues", "replay-dead", "jobs")) == {"queue": "jobs", "replayed": 1}
                await operator.operate("exports", "send_batch", {"bodies": [1, 2, 3]})
            shown = await statuses()
            assert (shown["jobs"]["messages"], shown["jobs"]["paused"], shown["jobs"]["observer"]) == (1, True, "worker")
            process.kill()
            await process.wait()
        assert (await statuses())["exports"]["messages"] == 3
        table = (await stead(tmp_path, "queues", "list"))[0]
        assert "(pulled)" in table and "worker" in table and "paused" in table
        assert "ann" in (await stead(tmp_path, "queues", "peek", "jobs"))[0]
        assert (await asked(tmp_path, "queues", "purge", "exports"))["purged"] == 3
        assert (await asked(tmp_path, "queues", "resume", "jobs")) == {"queue": "jobs", "paused": False}
        assert "there are: jobs, exports" in (await stead(tmp_path, "queues", "purge", "worker", code=1))[1]

    asyncio.run(work())


DATABASE = 'application "a" { sql_database "main" {} }'


def test_databases_are_worked_on_from_a_shell(tmp_path: Path) -> None:
    """Statements, migrations, export to both forms and import of both, beside a server and without one."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(DATABASE)
        (tmp_path / "app.py").write_text("")
        folder = tmp_path / "db" / "main"
        folder.mkdir(parents=True)
        (folder / "0001_users.sql").write_text("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);")
        assert "applied 0001_users" in (await stead(tmp_path, "db", "migrate", "main"))[0]
        assert (await asked(tmp_path, "db", "migrate", "main")) == {"database": "main", "applied": []}
        await stead(tmp_path, "db", "execute", "main", said="INSERT INTO users (name) VALUES ('ann'), ('bob');")
        async with serving(tmp_path):
            (folder / "0002_bad.sql").write_text("INSERT INTO users (name) VALUES ('cleo');\nINSERT INTO nobody VALUES (1);")
            said = (await stead(tmp_path, "db", "migrate", "main", code=1))[1]
            assert "db/main/0002_bad.sql:2: no such table: nobody" in said and "hint: correct the file" in said
            (folder / "0002_bad.sql").unlink()
            results = (await asked(tmp_path, "db", "execute", "main", "SELECT name FROM users ORDER BY id"))["results"]
            assert results[0]["results"] == [{"name": "ann"}, {"name": "bob"}]
            for ending in ("sqlite", "sql"):
                await stead(tmp_path, "db", "export", "main", f"out.{ending}")
            assert "never overwrites" in (await stead(tmp_path, "db", "export", "main", "out.sql", code=1))[1]
            assert "holds data already" in (await stead(tmp_path, "db", "import", "main", "out.sqlite", code=1))[1]
            await stead(tmp_path, "db", "execute", "main", "DROP TABLE users")
            await stead(tmp_path, "db", "import", "main", "out.sqlite", "--overwrite")
            assert "bob" in (await stead(tmp_path, "db", "execute", "main", "SELECT * FROM users"))[0]
        await stead(tmp_path, "db", "execute", "main", "DELETE FROM users")
        assert (await asked(tmp_path, "db", "import", "main", "out.sql", "--overwrite"))["size_bytes"] > 0
        assert "bob" in (await stead(tmp_path, "db", "execute", "main", "SELECT * FROM users"))[0]
        assert (await asked(tmp_path, "db", "migrate", "main"))["applied"] == []
        (tmp_path / "bad.sql").write_text("CREATE TABLE t (a); INSERTT")
        assert "no dump" in (await stead(tmp_path, "db", "import", "main", "bad.sql", "--overwrite", code=1))[1]
        assert list((tmp_path / ".stead" / "imports").iterdir()) == []
        with sqlite3.connect(tmp_path / "out.sqlite") as connection:
            assert connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall() == [
                ("stead_migrations",),
                ("users",),
            ]
        connection.close()

    asyncio.run(work())


WRITTEN_BYTES_MAX = 4 * 1024 * 1024  # before the kill: some four of the migrations below
SLOW = """CREATE TABLE big{0} AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000) SELECT i FROM n;
INSERT INTO steps VALUES ({0});
"""


def test_a_kill_during_migrations_leaves_none_of_them_half(tmp_path: Path) -> None:
    """`kill -9` at many moments of the start: what the ledger says was applied is there, and nothing else; then it starts."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(DATABASE)
        (tmp_path / "app.py").write_text("")
        folder = tmp_path / "db" / "main"
        folder.mkdir(parents=True)
        (folder / "0001_steps.sql").write_text("CREATE TABLE steps (n);")
        for number in range(2, 42):
            (folder / f"{number:04}_step.sql").write_text(SLOW.format(number))
        chance, seen = Chance(1), set()
        data = tmp_path / ".stead" / "stead.sqlite"
        for _ in range(6):
            process = await start(tmp_path, "serve", "--port", "0")
            enough = size_of(data) + int(chance.fraction() * WRITTEN_BYTES_MAX)
            async with asyncio.timeout(LIMIT_S):
                while size_of(data) <= enough and find_server(data.parent) is None and process.returncode is None:
                    await sleep(0.002)
            if process.returncode is None:
                process.kill()
            await process.communicate()
            applied, steps, big = await state_of(tmp_path)
            assert applied == steps + 1 == big + 1, (applied, steps, big)
            seen.add(applied)
        assert len(seen) > 1, seen
        async with serving(tmp_path):
            assert await state_of(tmp_path) == (41, 40, 40)

    asyncio.run(work())


STATE = """SELECT count(*) AS n FROM stead_migrations;
SELECT count(*) AS n FROM steps;
SELECT count(*) AS n FROM sqlite_schema WHERE name LIKE 'big%';
"""


async def state_of(place: Path) -> tuple[int, int, int]:
    """How many migrations were applied, by the ledger and by the two things that each but the first does."""
    answer = await asked(place, "db", "execute", "main", "SELECT name FROM sqlite_schema WHERE name = 'stead_migrations'")
    if not answer["results"][0]["results"]:
        return 1, 0, 0
    answer = await asked(place, "db", "execute", "main", STATE)
    applied, steps, big = (result["results"][0]["n"] for result in answer["results"])
    return applied, steps, big


def size_of(data: Path) -> int:
    """Of the files of an engine."""
    size_bytes = 0
    for path in data.parent.glob("*.sqlite*"):
        with suppress(FileNotFoundError):  # gone meanwhile, as logs are when a file is closed
            size_bytes += path.stat().st_size
    return size_bytes


def test_credentials_of_the_s3_endpoint(tmp_path: Path) -> None:
    """Made, listed without their secrets and ended, beside a server and without one; nothing that is not there."""

    async def scenario() -> None:
        (tmp_path / "stead.manifest").write_text('application "a" {\n  bucket "files" {}\n}\n')
        (tmp_path / "app.py").write_text("")
        made = await asked(tmp_path, "bucket", "create-credential")
        assert made["access_key_id"].startswith("STEAD") and len(made["secret_access_key"]) == 64
        async with serving(tmp_path):
            output, notes = await stead(tmp_path, "bucket", "create-credential", "--bucket", "files", "--read-only")
            assert "secret access key" in output and "this once" in notes
            listed = (await asked(tmp_path, "bucket", "list-credentials"))["credentials"]
            assert sorted((line["buckets"], line["read_only"]) for line in listed if line["buckets"]) == [(["files"], True)]
            assert len(listed) == 2 and "secret_access_key" not in listed[0]
            table, _ = await stead(tmp_path, "bucket", "list-credentials")
            assert made["access_key_id"] in table and made["secret_access_key"] not in table
            await stead(tmp_path, "bucket", "delete-credential", made["access_key_id"])
        assert len((await asked(tmp_path, "bucket", "list-credentials"))["credentials"]) == 1
        _, said = await stead(tmp_path, "bucket", "delete-credential", made["access_key_id"], code=1)
        assert "no credential" in said
        _, said = await stead(tmp_path, "bucket", "create-credential", "--bucket", "none", code=1)
        assert "there are: files" in said

    asyncio.run(scenario())


SECRET = 'hunter2-"très"-secret/42'
SECRETS = """application "a" {
  env "API_KEY" { secret = true }
  env "LEVEL" { default = "info" }
  service "api" { visibility = "public" }
  actor "box" {}
  task "leaky" { cron = "@daily" }
}
"""
SECRETS_APP = """import logging
from datetime import timedelta
from stead import Actor, Invalid, Service, Task, route
from stead.clock import sleep
class Api(Service):
    @route("GET", "/length")
    async def length(self, request): return str(len(self.env.API_KEY))
    @route("GET", "/crash")
    async def crash(self, request):
        logging.getLogger("x").warning("the key is %s", self.env.API_KEY)
        self.env.logger.error("again", key=self.env.API_KEY, all={"k": self.env.API_KEY})
        raise ValueError(f"cannot open https://host/?key={self.env.API_KEY}")
    @route("GET", "/invalid")
    async def invalid(self, request): raise Invalid(f"wrong: {self.env.API_KEY!r}")
    @route("GET", "/actor")
    async def actor(self, request): return await self.env.BOX.get("a").fail()
    @route("GET", "/alarm")
    async def alarm(self, request):
        await self.env.BOX.get("b").later()
        while not await self.env.BOX.get("b").error():
            await sleep(0.02)
        return "rang"
class Box(Actor):
    async def fail(self): raise KeyError(self.env.API_KEY)
    async def later(self): await self.alarms.set("x", timedelta(0))
    async def alarm(self, alarm): raise ValueError(self.env.API_KEY)
    async def error(self): return (await self.alarms.get("x")).error
class Leaky(Task):
    async def run(self, tick): raise ValueError(f"no {self.env.API_KEY}")
"""


def test_a_secret_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    """Set through standard input, it reaches the application, and nothing that any process writes: output, answers or files."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(SECRETS)
        (tmp_path / "app.py").write_text(SECRETS_APP)
        written = ["\n".join(await stead(tmp_path, "serve", "--port", "0", code=1))]
        assert "secret API_KEY has no value" in written[0] and "stead secrets set API_KEY" in written[0]
        written += await stead(tmp_path, "secrets", "set", "API_KEY", said=SECRET + "\n")
        assert "there are: API_KEY, LEVEL" in (await stead(tmp_path, "secrets", "set", "API_KYE", said="x", code=1))[1]
        for command, development in (("serve", False), ("dev", True)):
            process = await start(tmp_path, command, "--port", "0")
            assert process.stdout is not None
            lines = []
            async with asyncio.timeout(LIMIT_S):
                while not (line := (await process.stdout.readline()).decode()).startswith("ready"):
                    lines.append(line)
                    assert process.returncode is None, lines
            url = line.split()[1].rstrip(",")
            try:
                async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
                    assert (await client.get("/length")).text == str(len(SECRET))
                    for path, status in (("/crash", 500), ("/invalid", 400), ("/actor", 500), ("/alarm", 200)):
                        response = await client.get(path)
                        assert response.status_code == status
                        written.append(response.text)
                        if development and status == 500:
                            assert "[secret API_KEY]" in response.text
                written += await stead(tmp_path, "tasks", "run", "leaky", code=1)
                written += await stead(tmp_path, "tasks", "list", "--json")
                written += await stead(tmp_path, "actors", "show", "box/b", "--json")
                process.terminate()
            finally:
                if process.returncode is None:
                    process.terminate()
                stdout, stderr = await ended(process)
            written += [*lines, stdout.decode(), stderr.decode()]
            assert "the key is [secret API_KEY]" in stderr.decode()
        written += await stead(tmp_path, "check", "--json")
        (tmp_path / "app.py").write_text("import os\nraise ValueError(os.environ['API_KEY'])\n")
        written += await stead(tmp_path, "serve", "--port", "0", code=1, environ={"API_KEY": SECRET})
        assert "ValueError: [secret API_KEY]" in written[-1]
        (tmp_path / "app.py").write_text(SECRETS_APP)
        written += await stead(tmp_path, "tasks", "run", "leaky", code=1)  # without a server
        written += await stead(tmp_path, "tasks", "runs", "leaky", "--json")
        listed = (await stead(tmp_path, "secrets", "list", "--json"))[0]
        written.append(listed)
        sources = {line["name"]: line["source"] for line in json.loads(listed)["variables"]}
        assert sources == {"API_KEY": "stead secrets", "LEVEL": "default"}
        for text in written:
            assert "hunter2" not in text, text
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or b"hunter2" not in file.read_bytes(), file
        await stead(tmp_path, "secrets", "delete", "API_KEY")
        assert "there is no secret" in (await stead(tmp_path, "secrets", "delete", "API_KEY", code=1))[1]

    asyncio.run(work())


def test_dotenv_is_for_development(tmp_path: Path) -> None:
    """`stead dev` reads it and says where it is wrong; `stead serve` does not."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text('application "a" { env "API_KEY" { secret = true } }')
        (tmp_path / "app.py").write_text("")
        (tmp_path / ".env").write_text("API_KEY=hunter2-secret\nhunter2")
        process = await start(tmp_path, "dev", "--port", "0")
        assert process.stdout is not None and process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            said = (await process.stderr.readline()).decode()
            assert ".env:2:1: this line is no NAME=value" in said
            (tmp_path / ".env").write_text("API_KEY=hunter2-secret\n")  # a save, which begins again
            while not (await process.stdout.readline()).startswith(b"ready"):
                assert process.returncode is None
        process.terminate()
        _, stderr = await ended(process)
        assert b"hunter2" not in stderr and "hunter2" not in said
        assert "secret API_KEY has no value" in (await stead(tmp_path, "serve", "--port", "0", code=1))[1]

    asyncio.run(work())


def test_a_dump_is_the_database_to_the_byte(tmp_path: Path) -> None:
    """Texts that look like the dump's own lines, blobs, views, triggers and full-text indexes come back as they were."""

    async def work() -> None:
        (tmp_path / "stead.manifest").write_text(DATABASE)
        (tmp_path / "app.py").write_text("")
        await stead(tmp_path, "db", "execute", "main", said=ODD)
        before = (await asked(tmp_path, "db", "execute", "main", ODD_LOOK))["results"]
        await stead(tmp_path, "db", "export", "main", "out.sql")
        assert (tmp_path / "out.sql").read_text().startswith("PRAGMA ")  # nothing of who made it, and where
        assert "no database 'other' holds anything" in (await stead(tmp_path, "db", "export", "other", "x.sql", code=1))[1]
        assert "there are: main" in (await stead(tmp_path, "db", "import", "other", "out.sql", code=1))[1]
        await stead(tmp_path, "db", "execute", "main", "DELETE FROM t; INSERT INTO t VALUES ('changed', NULL)")
        await stead(tmp_path, "db", "import", "main", "out.sql", "--overwrite")
        after = (await asked(tmp_path, "db", "execute", "main", ODD_LOOK))["results"]
        assert [result["results"] for result in after] == [result["results"] for result in before]
        assert after[1]["results"] == [{"n": 1}]

    asyncio.run(work())


ODD = """CREATE TABLE t (a TEXT, b);
INSERT INTO t VALUES ('two
-- User: lines; ''quoted''
COMMIT;', x'00ff'), ('grün \U0001f600', 1.5);
CREATE VIEW v AS SELECT a FROM t;
CREATE TABLE log (a);
CREATE TRIGGER tr AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.a); END;
CREATE VIRTUAL TABLE words USING fts5(word);
INSERT INTO words VALUES ('hello world');
"""
ODD_LOOK = """SELECT * FROM t ORDER BY a;
SELECT count(*) AS n FROM words WHERE words MATCH 'world';
SELECT * FROM log;
SELECT count(*) AS n FROM v;
SELECT type, name, sql FROM sqlite_schema WHERE name IN ('t', 'v', 'tr', 'log') ORDER BY name;
"""
