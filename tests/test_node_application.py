"""Loading an application: its module, its classes, and what is said when they are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stead import Actor, Service
from stead.manifest import ManifestErrors
from stead.node import LoadedApplication, LoadFailed, load_application

CART = 'application "shop" {\n  service "api" { visibility = "public" }\n  actor "shopping-cart" {}\n}\n'
API = "class Api(Service):\n    async def fetch(self, request): return 'ok'\n"
IMPORTS = "from stead import Actor, Service, durable, reads, route\n"


def make(directory: Path, manifest: str, **modules: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "stead.manifest").write_text(manifest)
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(IMPORTS + text)
    return directory


def refusals(directory: Path) -> list[str]:
    with pytest.raises(ManifestErrors) as caught:
        load_application(directory)
    return [f"{error.line}:{error.column} {error.problem} | {error.hint}" for error in caught.value.errors]


def load_actor(directory: Path, text: str) -> type[Actor]:
    return load_application(make(directory, CART, app=API + text)).actors["shopping-cart"]


@pytest.mark.parametrize("name", ["ShoppingCart", "ShoppingCartActor", "Basket"])
def test_a_class_is_found_by_the_units_name(tmp_path: Path, name: str) -> None:
    """The unit's name, the name with the kind, or the only class of that kind."""
    assert load_actor(tmp_path, f"class {name}(Actor): pass\n").__name__ == name


def test_the_exact_name_wins(tmp_path: Path) -> None:
    """Where several would do, the plain name is taken."""
    text = "class Other(Actor): pass\nclass ShoppingCartActor(Actor): pass\nclass ShoppingCart(Actor): pass\n"
    assert load_actor(tmp_path, text).__name__ == "ShoppingCart"


def test_a_handler_names_any_class(tmp_path: Path) -> None:
    """`handler` wins over names, and may lead to another module."""
    manifest = CART.replace('actor "shopping-cart" {}', 'actor "shopping-cart" { handler = "carts:Basket" }')
    text = API + "class ShoppingCart(Actor): pass\n"
    application = load_application(make(tmp_path, manifest, app=text, carts="class Basket(Actor): pass\n"))
    assert application.actors["shopping-cart"].__name__ == "Basket"


def test_a_service_may_be_an_asgi_application(tmp_path: Path) -> None:
    """A handler that is callable is mounted as it is, and no application module is needed then."""
    manifest = 'application "a" { service "web" { visibility = "public" handler = "web:app" } }'
    application = load_application(make(tmp_path, manifest, web="async def app(scope, receive, send): pass\n"))
    assert callable(application.services["web"]) and not isinstance(application.services["web"], type)


def test_all_missing_classes_are_listed_with_candidates(tmp_path: Path) -> None:
    """Every unit without a class is an error at its own line, and names the classes there are."""
    manifest = 'application "a" {\n  actor "one" {}\n  actor "two" {}\n  service "api" {}\n}\n'
    found = refusals(make(tmp_path, manifest, app="class Red(Actor): pass\nclass Blue(Actor): pass\n"))
    assert [line.partition(" ")[0] for line in found] == ["2:3", "3:3", "4:3"]
    assert "Actor classes there: Blue, Red" in found[0] and "class One(Actor)" in found[0]
    assert "there is no Service class" in found[2]


def test_a_missing_module_says_what_to_create(tmp_path: Path) -> None:
    """Without app.py the error names the file that is expected."""
    (line,) = refusals(make(tmp_path, CART))
    assert "there is no app.py and no package app" in line and "module = " in line


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        ("nowhere:App", "no module 'nowhere'"),
        ("app:Nothing", "no 'Nothing'"),
        ("app:NUMBER", "no subclass"),
    ],
)
def test_a_wrong_handler_is_explained(tmp_path: Path, handler: str, problem: str) -> None:
    """A handler that leads nowhere says which part of it is wrong."""
    manifest = CART.replace('actor "shopping-cart" {}', f'actor "shopping-cart" {{ handler = "{handler}" }}')
    (line,) = refusals(make(tmp_path, manifest, app=API + "NUMBER = 1\n"))
    assert problem in line and line.startswith("3:3")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("storage = 1", "ShoppingCart.storage hides"),
        ("id: str = durable('')", "ShoppingCart.id hides"),
        ("def alarm(self, alarm): pass", "ShoppingCart.alarm is not async"),
        ("@reads\n    def show(self): pass", "marked @reads but is not async"),
        ("def __init__(self, size): pass", "__init__ needs size"),
        ("turn_limit_s = -1", "turn_limit_s must be a positive number"),
        ("async def add(self, x: Missing): pass", "annotation"),
    ],
)
def test_an_actor_that_cannot_work_is_refused(tmp_path: Path, body: str, problem: str) -> None:
    """What would fail at the first event is said before the start."""
    make(tmp_path, CART, app=f"from __future__ import annotations\n{IMPORTS}{API}class ShoppingCart(Actor):\n    {body}\n")
    (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text().removeprefix(IMPORTS))
    (line,) = refusals(tmp_path)
    assert problem in line


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("pass", "answers nothing"),
        ("def fetch(self, request): pass", "fetch"),
        ("@route('GET', '/{a:nope}')\n    async def show(self, request, a): pass", "/{a:nope}"),
        ("@route('GET', '/{a}')\n    async def show(self, request): pass", "must accept"),
    ],
)
def test_a_service_that_cannot_work_is_refused(tmp_path: Path, body: str, problem: str) -> None:
    """A public service without fetch or routes, or with a route that its method cannot take, is refused at its line."""
    text = f"class ShoppingCart(Actor): pass\nclass Api(Service):\n    {body}\n"
    (line,) = refusals(make(tmp_path, CART, app=text))
    assert problem in line and line.startswith("2:3")


def test_a_private_service_may_answer_calls_only(tmp_path: Path) -> None:
    """Without visibility a service is reached through its binding, so it needs no fetch."""
    manifest = 'application "a" { service "api" {} }'
    application = load_application(make(tmp_path, manifest, app="class Api(Service):\n    async def add(self): pass\n"))
    assert issubclass(application.services["api"], Service)  # type: ignore[arg-type]


def test_broken_code_shows_the_users_line(tmp_path: Path) -> None:
    """An exception while importing is told with the application's file and line, not with Stead's."""
    with pytest.raises(LoadFailed) as caught:
        load_application(make(tmp_path, CART, app="\n\ndef prepare():\n    return {}['shop']\n\nprepare()\n"))
    text = str(caught.value)
    assert "KeyError: 'shop'" in text and text.index("app.py:5, in prepare") < text.index("app.py:7")
    assert "importlib" not in text and "modules.py" not in text


@pytest.mark.parametrize("text", ["x = (", "import nosuchmodule", "raise SystemExit(3)"])
def test_code_that_cannot_be_imported_is_one_error(tmp_path: Path, text: str) -> None:
    """Syntax errors, missing dependencies and exits are the application's failure, with its file."""
    with pytest.raises(LoadFailed, match=r"app\.py"):
        load_application(make(tmp_path, CART, app=text))


def test_a_corrected_module_loads_after_it_failed(tmp_path: Path) -> None:
    """Nothing of a failed import stays behind."""
    with pytest.raises(LoadFailed):
        load_application(make(tmp_path, CART, app="import carts\n", carts="raise ValueError\n"))
    make(tmp_path, CART, app=API + "from carts import ShoppingCart\n", carts="class ShoppingCart(Actor): pass\n")
    assert load_application(tmp_path).actors["shopping-cart"].__name__ == "ShoppingCart"


def load_pair(tmp_path: Path) -> tuple[LoadedApplication, LoadedApplication]:
    for name in ("one", "two"):
        text = API + f"from carts import ShoppingCart, PLACE\nassert PLACE == '{name}'\n"
        make(tmp_path / name, CART, app=text, carts=f"PLACE = '{name}'\nclass ShoppingCart(Actor): place = PLACE\n")
    return load_application(tmp_path / "one"), load_application(tmp_path / "two")


def test_two_applications_with_one_module_name_stay_apart(tmp_path: Path) -> None:
    """Each imports its own `app` and its own siblings."""
    one, two = load_pair(tmp_path)
    assert [getattr(app.actors["shopping-cart"], "place", None) for app in (one, two)] == ["one", "two"]


def test_a_class_keeps_its_identity(tmp_path: Path) -> None:
    """Loading again gives the same classes, also after another application was loaded in between."""
    one, two = load_pair(tmp_path)
    assert load_application(tmp_path / "one").actors == one.actors
    assert sys.modules["app"] is sys.modules[one.services["api"].__module__]
    assert load_application(tmp_path / "two").actors == two.actors


def test_a_manifest_is_given_by_file_or_directory(tmp_path: Path) -> None:
    """Both ways lead to the same application."""
    make(tmp_path, CART, app=API + "class ShoppingCart(Actor): pass\n")
    assert load_application(tmp_path).directory == load_application(tmp_path / "stead.manifest").directory == tmp_path.resolve()


def test_a_module_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    """A module name that means another module already is refused with advice."""
    manifest = CART.replace("{\n  service", '{\n  module = "json"\n  service', 1)
    (line,) = refusals(make(tmp_path, manifest, json=API))
    assert "not the application's own" in line
