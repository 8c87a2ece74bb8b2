"""The values of the `env` blocks of a manifest, from the environment of the process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stead.errors import ManifestError
from stead.manifest import Application, EnvVariable, ManifestErrors


def application_variables(manifest: Application, environ: Mapping[str, str]) -> dict[str, str]:
    """What every unit sees. Raises `ManifestErrors` naming each variable of the manifest that has neither value nor default."""
    declared = [*manifest.env, *(variable for service in manifest.services for variable in service.env)]
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
    hint = f"set it in the environment: {variable.name}=… stead dev" + (
        "" if variable.secret else ', or give it a default = "…" here'
    )
    return ManifestError(f"{what} {variable.name} has no value", file=file, line=line, column=column, hint=hint)
