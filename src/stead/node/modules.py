"""Importing the module of an application from the directory of its manifest.

The module keeps its own name and may import its siblings, because the directory comes first on `sys.path`. Two applications in one
process may both have a module `app`: the modules of one directory at a time are in `sys.modules`, and those of the other are set
aside until it is its turn again, so that a class is the same class each time it is looked up.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from stead.errors import Invalid
from stead.node.traces import LoadFailed, is_own_file

_set_aside: dict[Path, dict[str, ModuleType]] = {}
_current: list[Path] = []  # the directory whose modules are in sys.modules; at most one


def import_module(name: str, directory: Path) -> ModuleType:
    """The module `name` as seen from `directory`. Raises `Invalid` if there is none, `LoadFailed` if its code raises."""
    _switch(directory)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise Invalid(f"there is no module {name!r} in {directory}") from exc
        raise LoadFailed(f"importing {name!r}", exc, directory) from exc
    except (Exception, SystemExit) as exc:  # the application's code runs here: it may raise anything
        raise LoadFailed(f"importing {name!r}", exc, directory) from exc
    return module


def is_beside(module: ModuleType, directory: Path) -> bool:
    """Whether the module's source is the application's own, and of a package without `__init__.py` all of its places are."""
    file = getattr(module, "__file__", None)
    try:
        places = [file] if file else list(getattr(module, "__path__", []))
    except KeyError:  # such a package asks for its parent, which is not loaded (any more)
        return False
    return bool(places) and all(is_own_file(place, directory) for place in places)


def _switch(directory: Path) -> None:
    if _current == [directory]:
        return
    for previous in _current:
        own = {name: module for name, module in list(sys.modules.items()) if name != "__main__" and is_beside(module, previous)}
        for name in own:
            del sys.modules[name]
        _set_aside[previous] = own
        if str(previous) in sys.path:
            sys.path.remove(str(previous))
    _current[:] = [directory]
    sys.path.insert(0, str(directory))
    sys.modules.update(_set_aside.pop(directory, {}))
