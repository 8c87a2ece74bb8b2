"""What a command gives the variables of a manifest, known before the application's code is imported."""

from __future__ import annotations

import os
from pathlib import Path

from stead.manifest import load_manifest
from stead.node import manifest_path, resolved


def values_of(place: Path, data: Path, *, is_development: bool = False) -> dict[str, str]:
    """The values of the application at `place`, from the environment and the other places that have them."""
    path = manifest_path(place)
    return resolved(load_manifest(path), path.parent, data, os.environ, is_development=is_development)
