"""An application as found on disk: what its manifest declares, and the classes and ASGI applications behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from starlette.types import ASGIApp

from stead.api import Actor, Env, Observer, Service, Task
from stead.bindings import Binding
from stead.errors import Invalid, ManifestError
from stead.manifest import Application, ManifestErrors, Unit, find_manifest, load_manifest
from stead.node.data import data_services
from stead.node.migrations import read_migrations
from stead.node.modules import import_module, is_beside
from stead.node.resolution import actor_class, observer_class, service_handler, task_class

T = TypeVar("T")
U = TypeVar("U", bound=Unit)


@dataclass(frozen=True)
class LoadedApplication:
    """A manifest with everything it names, by the unit's name. `bindings` are its data services."""

    directory: Path
    manifest: Application
    actors: dict[str, type[Actor]]
    services: dict[str, type[Service] | ASGIApp]
    observers: dict[str, type[Observer]] = field(default_factory=dict)
    tasks: dict[str, type[Task]] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)

    @property
    def every_actor(self) -> dict[str, type[Actor]]:
        """The application's own classes and those of its data services."""
        return {**self.actors, **{unit: binding.actor for unit, binding in self.bindings.items()}}

    @property
    def every_service(self) -> dict[str, type[Service] | ASGIApp]:
        services = dict(self.services)
        for binding in self.bindings.values():
            services.update(binding.services)
        return services

    @property
    def clients(self) -> dict[str, Callable[[Any, Env], Any]]:
        """What stands in `env` for the namespace of a data service."""
        return {unit: binding.client for unit, binding in self.bindings.items()}


def manifest_path(place: Path) -> Path:
    """The manifest that `place` is, or that is in the directory `place`. Raises `ManifestErrors` if there is none."""
    return place if place.is_file() else find_manifest(place)


def load_application(place: Path) -> LoadedApplication:
    """The application of a manifest, given by its file or its directory, with its code imported.

    Raises `ManifestErrors` with everything that is wrong with the manifest, or else with its classes, and `LoadFailed` if the
    application's code raises while it is imported.
    """
    path = manifest_path(place)
    manifest = load_manifest(path)
    directory = path.resolve().parent
    module = _application_module(manifest, path, directory)
    errors: list[ManifestError] = []

    def found(units: Iterable[U], find: Callable[[U, ModuleType, Path], T]) -> dict[str, T]:
        targets: dict[str, T] = {}
        for unit in units:
            try:
                targets[unit.name] = find(unit, module, directory)
            except ManifestError as exc:
                errors.append(exc)
        return targets

    actors = found(manifest.actors, actor_class)
    services = found(manifest.services, service_handler)
    observers = found(manifest.observers, observer_class)
    tasks = found(manifest.tasks, task_class)
    migrations = found(manifest.sql_databases, lambda unit, module, directory: read_migrations(unit, directory))
    if errors:
        raise ManifestErrors(errors)
    bindings = data_services(manifest, observers, tasks, migrations)
    return LoadedApplication(directory, manifest, actors, services, observers, tasks, bindings)


def _application_module(manifest: Application, path: Path, directory: Path) -> ModuleType:
    """The module in which classes are looked for: an empty one where every unit names its handler and there is none."""
    file, line, column = manifest.position
    base = directory.joinpath(*manifest.module.split("."))
    if not base.with_suffix(".py").is_file() and not base.is_dir():
        handlers = [unit.handler for unit in (*manifest.actors, *manifest.services)]
        handlers += [unit.handler for unit in manifest.observers] + [unit.handler for unit in manifest.tasks]
        if None not in handlers:
            return ModuleType(manifest.module)
        hint = f'put the classes into {base.name}.py, or name their module with module = "…"'
        problem = f"there is no {base.name}.py and no package {base.name} beside {path.name}"
        raise ManifestErrors([ManifestError(problem, file=file or str(path), line=line, column=column, hint=hint)])
    try:
        module = import_module(manifest.module, directory)
    except Invalid as exc:
        raise ManifestErrors([ManifestError(str(exc), file=file or str(path), line=line, column=column)]) from exc
    if not is_beside(module, directory):
        problem = f"module {manifest.module!r} is {module.__file__}, not the application's own"
        hint = 'rename the application\'s module, and say so with module = "…"'
        raise ManifestErrors([ManifestError(problem, file=file or str(path), line=line, column=column, hint=hint)])
    return module
