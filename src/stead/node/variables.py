"""The values of the `env` blocks of a manifest.

Each comes from the first that has it: the environment of the process, `.env` beside the manifest (in development), the secrets of
the data directory, its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from stead.errors import ManifestError
from stead.manifest import Application, EnvVariable, ManifestErrors
from stead.node.dotenv import read_dotenv
from stead.node.secrets import SecretStore
from stead.redaction import hide

DOTENV = ".env"


class Source(StrEnum):
    """Where a variable has its value from."""

    ENVIRONMENT = "environment"
    DOTENV = ".env"
    SECRETS = "stead secrets"
    DEFAULT = "default"


def declared_variables(manifest: Application) -> list[EnvVariable]:
    """The variables of the application, then those of its services."""
    return [*manifest.env, *(variable for service in manifest.services for variable in service.env)]


def find_values(
    manifest: Application, directory: Path, store: SecretStore, environ: Mapping[str, str], *, is_development: bool
) -> dict[str, tuple[str, Source]]:
    """The variables that have a value other than their default, with where it is from. `directory` is the manifest's.

    Raises `ManifestErrors` for a malformed `.env`, `Invalid` for a secret that cannot be decrypted.
    """
    dotenv = read_dotenv(directory / DOTENV) if is_development else {}
    found: dict[str, tuple[str, Source]] = {}
    for name in dict.fromkeys(variable.name for variable in declared_variables(manifest)):
        if name in environ:
            found[name] = environ[name], Source.ENVIRONMENT
        elif name in dotenv:
            found[name] = dotenv[name], Source.DOTENV
        elif (value := store.get(name)) is not None:
            found[name] = value, Source.SECRETS
    return found


def resolved(
    manifest: Application, directory: Path, data: Path, environ: Mapping[str, str], *, is_development: bool = False
) -> dict[str, str]:
    """The values that `find_values` finds, for a node over the data directory `data`.

    From here on those of secrets are kept out of what the process writes: call it before the application's code is imported.
    """
    found = find_values(manifest, directory, SecretStore(data, environ), environ, is_development=is_development)
    for variable in declared_variables(manifest):
        if variable.secret and variable.name in found:
            hide(variable.name, found[variable.name][0])
    return {name: value for name, (value, _) in found.items()}


def application_variables(manifest: Application, environ: Mapping[str, str]) -> dict[str, str]:
    """What every unit sees. Raises `ManifestErrors` naming each variable of the manifest that has neither value nor default."""
    declared = declared_variables(manifest)
    missing = [variable for variable in declared if _value(variable, environ) is None]
    if missing:
        raise ManifestErrors([_missing(variable) for variable in missing])
    return _values(manifest.env, environ)


def service_variables(manifest: Application, environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a service sees beyond that, by the service's name; the same name wins over the application's."""
    return {service.name: _values(service.env, environ) for service in manifest.services}


def _values(variables: Iterable[EnvVariable], environ: Mapping[str, str]) -> dict[str, str]:
    return {variable.name: value for variable in variables if (value := _value(variable, environ)) is not None}


def _value(variable: EnvVariable, environ: Mapping[str, str]) -> str | None:
    return environ.get(variable.name, variable.default)


def _missing(variable: EnvVariable) -> ManifestError:
    file, line, column = variable.position
    what = "secret" if variable.secret else "variable"
    ways = [f"stead secrets set {variable.name}", f"{variable.name}=… in the environment, or in .env for stead dev"]
    if not variable.secret:
        ways = [ways[1], 'a default = "…" here']
    return ManifestError(f"{what} {variable.name} has no value", file=file, line=line, column=column, hint="; or ".join(ways))
