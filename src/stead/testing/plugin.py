"""The pytest plugin: the fixtures `app`, `client` and `clock`, and the loop that `async def` tests with one of them run on.

One `SeededLoop` lives from the first of these fixtures to the end of the test, so time and seed are one for the fixtures and the
test. The application is found from the test file upwards. `@pytest.mark.stead(manifest=…, seed=…)` and `--stead-seed` change both;
the mark wins. Other `async def` tests are left to whoever runs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stead import testing

_MANIFESTS = ("stead.manifest", "raindrop.manifest")
_LOOP: pytest.StashKey[Any] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("stead").addoption(
        "--stead-seed",
        type=int,
        default=0,
        metavar="N",
        help="the seed that orders tasks in Stead tests (0: first in, first out)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "stead(manifest=None, seed=None): the application that the fixture `app` runs, and the seed of the test's loop"
    )


@pytest.fixture
def _stead_loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with testing.SeededLoop(_seed(request.node)) as loop:
        request.node.stash[_LOOP] = loop
        yield loop


@pytest.fixture
def clock(_stead_loop: Any) -> Any:
    """The virtual clock of the test."""
    return _stead_loop.clock


@pytest.fixture
def app(_stead_loop: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The application of the nearest manifest, running in memory: a `stead.testing.TestApp`."""
    app = testing.TestApp(_manifest(request), seed=_stead_loop.seed)
    _stead_loop.run_until_complete(app.__aenter__())
    yield app
    _stead_loop.run_until_complete(app.__aexit__(None, None, None))


@pytest.fixture
def client(app: Any) -> Any:
    """An HTTP client of that application: an `httpx.AsyncClient`."""
    return app.client


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on the loop of its fixtures."""
    loop = pyfuncitem.stash.get(_LOOP, None)
    if loop is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    loop.run_until_complete(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Say with a failure which seed repeats it."""
    report = yield
    loop = item.stash.get(_LOOP, None)
    if report.failed and loop is not None:
        report.sections.append(("stead", f"seed {loop.seed}; to repeat it: pytest --stead-seed {loop.seed} {item.nodeid!r}"))
    return report


def _seed(item: pytest.Item) -> int:
    seed = _marked(item, "seed")
    return int(item.config.getoption("--stead-seed")) if seed is None else int(seed)


def _manifest(request: pytest.FixtureRequest) -> Path:
    """The marked manifest, seen from the test file, or the nearest one above that."""
    place = request.path.parent
    marked = _marked(request.node, "manifest")
    if marked is not None:
        return place / str(marked)
    for directory in (place, *place.parents):
        for name in _MANIFESTS:
            if (directory / name).is_file():
                return directory / name
    raise pytest.UsageError(
        f"the fixture `app` found no stead.manifest in {place} or above; name one with @pytest.mark.stead(manifest=…)"
    )


def _marked(item: pytest.Item, name: str) -> Any:
    mark = item.get_closest_marker("stead")
    return None if mark is None else mark.kwargs.get(name)
