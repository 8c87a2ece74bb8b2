"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MANIFEST = """application "kit" {
  module = "kit_app"
  service "api" {
    visibility = "public"
    domain { cname = "kit" }
  }
  actor "counter" {}
}
"""
APP = """
from stead import Actor, Service, Request, durable, route


class Counter(Actor):
    value: int = durable(0)

    async def increment(self) -> int:
        self.value += 1
        return self.value


class Api(Service):
    @route("POST", "/{name}")
    async def post(self, request: Request, name: str) -> dict:
        return {"value": await self.env.COUNTER.get(name).increment()}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An application with an empty folder `tests`."""
    (tmp_path / "stead.manifest").write_text(MANIFEST)
    (tmp_path / "kit_app.py").write_text(APP)
    (tmp_path / "tests").mkdir()
    return tmp_path


def pytest_says(project: Path, test: str, *options: str) -> tuple[int, str]:
    (project / "tests" / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_fixtures_run_the_nearest_application(project: Path) -> None:
    """`app`, `client` and `clock` share a loop; a fixture of the user's may build on them; a crash is survived."""
    code, said = pytest_says(
        project,
        """
import pytest

@pytest.fixture
def counter(app):
    return app.env.COUNTER.get("ann")

async def test_all(app, client, clock, counter):
    assert (await client.post("/ann")).json() == {"value": 1}
    before = clock.now_ms()
    await clock.advance(hours=1)
    assert clock.now_ms() - before == 3_600_000
    await app.crash()
    assert await counter.increment() == 2

async def test_fresh(counter):
    assert await counter.increment() == 1

def test_plain():
    pass
""",
    )
    assert code == 0, said
    assert "3 passed" in said


def test_a_failure_says_its_seed(project: Path) -> None:
    """The seed comes from the option or, before it, from the mark, and a failing test names it."""
    test = """
import pytest

async def test_option(app):
    assert app.seed == 0

@pytest.mark.stead(seed=9)
async def test_mark(app):
    assert app.seed == 9
    assert False
"""
    code, said = pytest_says(project, test, "--stead-seed", "4")
    assert code == 1
    assert "2 failed" in said, said
    assert "seed 4; to repeat it: pytest --stead-seed 4" in said
    assert "seed 9; to repeat it" in said


def test_the_mark_names_another_manifest(project: Path) -> None:
    """The marked manifest is looked for from the test file."""
    other = project / "other"
    other.mkdir()
    (other / "stead.manifest").write_text(MANIFEST.replace("kit_app", "other_app"))
    (other / "other_app.py").write_text(APP.replace("+= 1", "+= 100"))
    test = """
import pytest

@pytest.mark.stead(manifest="../other/stead.manifest")
async def test_other(app):
    assert await app.env.COUNTER.get("a").increment() == 100

async def test_own(app):
    assert await app.env.COUNTER.get("a").increment() == 1
"""
    code, said = pytest_says(project, test, "--strict-markers")
    assert code == 0, said


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    """Without a manifest the fixture fails with what to do."""
    (tmp_path / "tests").mkdir()
    code, said = pytest_says(tmp_path, "async def test_it(app):\n    pass\n")
    assert code == 1
    assert "found no stead.manifest" in said
    assert "@pytest.mark.stead(manifest=" in said


def test_loading_the_plugin_loads_no_machinery() -> None:
    """pytest loads the plugin in every run: neither the runtime nor SQLite may come with it."""
    heavy = ("apsw", "stead.runtime", "stead.node", "hypothesis")
    code = f"import sys, stead.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
