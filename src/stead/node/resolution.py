"""Which class or ASGI application stands behind each unit of a manifest.

A handler that is given is taken. Otherwise the unit `shopping-cart` is the class `ShoppingCart` of the application's module, or
`ShoppingCartActor` (with the kind as suffix), or the only class of that kind there is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from starlette.types import ASGIApp

from stead.api import Actor, Observer, Service, Task
from stead.errors import Invalid, ManifestError
from stead.manifest import Visibility, schema
from stead.node.modules import import_module
from stead.runtime.classes import ActorClass
from stead.runtime.routes import Routes

B = TypeVar("B", Actor, Service, Observer, Task)
_GIVEN = frozenset({"alarms", "ctx", "env", "id", "sql", "storage"})  # what an actor's instance is given
_HOOKS = ("on_start", "fetch", "alarm")


def actor_class(unit: schema.Actor, module: ModuleType, directory: Path) -> type[Actor]:
    """The class of an actor. Raises `ManifestError` at the unit if there is none or it cannot work."""
    cls = _find(unit, module, directory, Actor)
    if not (isinstance(cls, type) and issubclass(cls, Actor)):
        raise _at(unit, f"handler {unit.handler!r} is no subclass of stead.Actor", "name a class that derives from stead.Actor")
    _check_actor(unit, cls)
    return cls


def service_handler(unit: schema.Service, module: ModuleType, directory: Path) -> type[Service] | ASGIApp:
    """The class or ASGI application of a service. Raises `ManifestError` at the unit if there is none or it cannot work."""
    handler = _find(unit, module, directory, Service)
    if isinstance(handler, type) and issubclass(handler, Service):
        _check_service(unit, handler)
        return handler
    if isinstance(handler, type) or not callable(handler):
        hint = "name a class that derives from stead.Service, or an ASGI application such as a FastAPI object"
        raise _at(unit, f"handler {unit.handler!r} is neither a service nor an ASGI application", hint)
    return handler  # type: ignore[no-any-return]


def observer_class(unit: schema.Observer, module: ModuleType, directory: Path) -> type[Observer]:
    """The class of an observer. Raises `ManifestError` at the unit if there is none or it cannot work."""
    cls = _find(unit, module, directory, Observer)
    if not (isinstance(cls, type) and issubclass(cls, Observer)):
        raise _at(
            unit, f"handler {unit.handler!r} is no subclass of stead.Observer", "name a class that derives from stead.Observer"
        )
    _check_instance(unit, cls)
    hooks = ("process", "process_batch")
    if all(getattr(cls, hook) is getattr(Observer, hook) for hook in hooks):
        raise _at(unit, f"{cls.__name__} does nothing", "give it `async def process(self, message)`, or process_batch")
    for hook in hooks:
        if not inspect.iscoroutinefunction(inspect.getattr_static(cls, hook)):
            raise _at(unit, f"{cls.__name__}.{hook} is not async", f"write `async def {hook}`")
    return cls


def task_class(unit: schema.Task, module: ModuleType, directory: Path) -> type[Task]:
    """The class of a task. Raises `ManifestError` at the unit if there is none or it cannot work."""
    cls = _find(unit, module, directory, Task)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise _at(unit, f"handler {unit.handler!r} is no subclass of stead.Task", "name a class that derives from stead.Task")
    _check_instance(unit, cls)
    if cls.run is Task.run:
        raise _at(unit, f"{cls.__name__} does nothing", "give it `async def run(self, tick)`")
    if not inspect.iscoroutinefunction(inspect.getattr_static(cls, "run")):
        raise _at(unit, f"{cls.__name__}.run is not async", "write `async def run`")
    return cls


def class_names(unit: schema.Unit) -> tuple[str, str]:
    """The names that the class of a unit may have: `ShoppingCart` and `ShoppingCartActor` for the actor `shopping-cart`."""
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[-_]", unit.name))
    return name, name + unit.kind.capitalize()


def _find(unit: schema.Reachable | schema.Observer | schema.Task, module: ModuleType, directory: Path, base: type[B]) -> Any:
    if unit.handler is not None:
        return _named(unit, unit.handler, directory)
    own = {name: value for name, value in vars(module).items() if _is_subclass(value, base) and not name.startswith("_")}
    folded = {name.lower(): value for name, value in own.items()}  # the unit "chatroom" may be the class ChatRoom
    for names, spelled in ((own, class_names(unit)), (folded, map(str.lower, class_names(unit)))):
        for name in spelled:
            if name in names:
                return names[name]
    candidates = set(own.values())
    if len(candidates) == 1:
        return candidates.pop()
    return _no_class(unit, module, own, base)


def _no_class(unit: schema.Unit, module: ModuleType, own: Iterable[str], base: type[Any]) -> Any:
    found = ", ".join(sorted(own))
    there = f"; {base.__name__} classes there: {found}" if found else f"; there is no {base.__name__} class"
    name, suffixed = class_names(unit)
    raise _at(
        unit,
        f"no class for {unit.kind} {unit.name!r} in module {module.__name__!r}{there}",
        f'define `class {name}({base.__name__})` (or {suffixed}), or name the class with handler = "module:Class"',
    )


def _named(unit: schema.Unit, handler: str, directory: Path) -> Any:
    name, _, path = handler.partition(":")  # the manifest has checked the form
    try:
        value: Any = import_module(name, directory)
    except Invalid as exc:
        raise _at(unit, f"handler {handler!r}: {exc}", "create the module, or correct its name") from exc
    for part in path.split("."):
        if not hasattr(value, part):
            raise _at(unit, f"handler {handler!r}: there is no {part!r} in {name!r}", "correct the name after the colon")
        value = getattr(value, part)
    return value


def _check_actor(unit: schema.Actor, cls: type[Actor]) -> None:
    _check_instance(unit, cls)
    for hook in _HOOKS:
        if not inspect.iscoroutinefunction(inspect.getattr_static(cls, hook)):
            raise _at(unit, f"{cls.__name__}.{hook} is not async", f"write `async def {hook}`")
    for name, function in inspect.getmembers_static(cls, inspect.isfunction):
        if getattr(function, "stead_reads", False) and not inspect.iscoroutinefunction(function):
            raise _at(unit, f"{cls.__name__}.{name} is marked @reads but is not async", f"write `async def {name}`")
    for name in sorted(_GIVEN):
        if inspect.getattr_static(cls, name, None) is not None:
            raise _at(unit, f"{cls.__name__}.{name} hides what Stead gives every actor", f"rename the attribute or method {name!r}")
    try:
        ActorClass(unit.name, cls)
    except Invalid as exc:
        raise _at(unit, str(exc), f"correct the class {cls.__name__}") from exc


def _check_service(unit: schema.Service, cls: type[Service]) -> None:
    _check_instance(unit, cls)
    try:
        Routes(cls)
    except Invalid as exc:
        raise _at(unit, str(exc), f"correct the class {cls.__name__}") from exc
    routed = any(hasattr(function, "stead_routes") for _, function in inspect.getmembers_static(cls))
    if unit.visibility is not Visibility.PRIVATE and not routed and cls.fetch is Service.fetch:
        raise _at(
            unit, f"{unit.visibility.value} service {unit.name!r} answers nothing", f"give {cls.__name__} a fetch() or an @route"
        )
    if not inspect.iscoroutinefunction(inspect.getattr_static(cls, "fetch")):
        raise _at(unit, f"{cls.__name__}.fetch is not async", "write `async def fetch`")


def _check_instance(unit: schema.Unit, cls: type[Any]) -> None:
    if inspect.isabstract(cls):
        methods = ", ".join(sorted(cls.__abstractmethods__))
        raise _at(unit, f"{cls.__name__} is abstract: {methods}", "define these methods, or name another class with handler")
    needed = [
        parameter.name
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        hint = "Stead makes instances without arguments; give them defaults, or prepare in on_start()"
        raise _at(unit, f"{cls.__name__}.__init__ needs {', '.join(needed)}", hint)


def _is_subclass(value: object, base: type[Any]) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base


def _at(unit: schema.Unit, problem: str, hint: str) -> ManifestError:
    file, line, column = unit.position
    return ManifestError(problem, file=file, line=line, column=column, hint=hint)
