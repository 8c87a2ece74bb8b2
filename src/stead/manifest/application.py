"""A tree of blocks to an `Application`, with everything that is wrong with it.

Three steps. *Fit* (`forms.py`) compares the tree with the table of forms. *Judge* (`checks.py`) asks what no single block can
answer. *Build*, here, runs only where nothing was found, so it has no case for what is missing. Where the text had syntax errors
the tree has holes, and only fit runs: its errors are true whatever the holes held.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from stead.errors import ManifestError
from stead.manifest import schema
from stead.manifest.checks import judge
from stead.manifest.findings import Findings, Full
from stead.manifest.forms import FILE, Found, addresses_of, fit
from stead.manifest.grammar import parse

_UnitT = TypeVar("_UnitT", bound=schema.Unit)


class ManifestErrors(ManifestError):
    """Everything that is wrong with a manifest: `errors` in the order of the file; as a `ManifestError` it is the first of them."""

    def __init__(self, errors: Iterable[ManifestError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.line, error.column)))
        first = self.errors[0]
        super().__init__(first.problem, file=first.file, line=first.line, column=first.column, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def parse_manifest(text: str, file: str) -> schema.Application:
    """The application that `text` declares; `file` is its name in errors. Raises `ManifestErrors` with all that is wrong."""
    findings = Findings()
    try:
        root = parse(text, file, findings)
        is_whole = not findings.errors
        found = fit(root, FILE, "a manifest", findings)
        if is_whole:
            judge(found, findings)
    except Full:
        pass  # the errors there is room for are the answer
    if findings.errors:
        raise ManifestErrors(findings.errors)
    return _build(found.blocks["application"][0])


def _build(found: Found) -> schema.Application:
    blocks = found.blocks
    return schema.Application(
        name=found.name,
        services=tuple(_reachable(schema.Service, block, env=_variables(block)) for block in blocks["service"]),
        actors=tuple(_reachable(schema.Actor, block, placement=_placement(block)) for block in blocks["actor"]),
        observers=tuple(_observer(block) for block in blocks["observer"]),
        queues=tuple(_unit(schema.Queue, block) for block in blocks["queue"]),
        buckets=tuple(_unit(schema.Bucket, block) for block in blocks["bucket"]),
        tasks=tuple(_unit(schema.Task, block) for block in blocks["task"]),
        kv_caches=tuple(_unit(schema.KvCache, block) for block in blocks["kv_cache"]),
        sql_databases=tuple(_unit(schema.SqlDatabase, block) for block in blocks["sql_database"]),
        rate_limits=tuple(_unit(schema.RateLimit, block) for block in blocks["rate_limit"]),
        env=_variables(found),
        position=found.position,
        **found.values,
    )


def _unit(unit: type[_UnitT], block: Found, **more: Any) -> _UnitT:
    settings = {name: value for name, value in block.values.items() if name not in {"type", "domain"}}
    return unit(name=block.name, position=block.position, **settings, **more)


def _reachable(unit: type[_UnitT], block: Found, **more: Any) -> _UnitT:
    """A unit with its address; one that has an address and no visibility of its own is public."""
    addresses = {kind: address for kind, address, _ in addresses_of(block)}
    if addresses and "visibility" not in block.values:
        more["visibility"] = schema.Visibility.PUBLIC
    return _unit(unit, block, **addresses, **more)


def _placement(block: Found) -> schema.Placement:
    return next((schema.Placement(**placement.values) for placement in block.blocks["placement"]), schema.Placement())


def _observer(block: Found) -> schema.Observer:
    source = block.blocks["source"][0]
    rules = [*source.blocks["rule"], *block.blocks["rule"]]
    return _unit(schema.Observer, block, **source.values, rules=tuple(schema.Rule(**rule.values) for rule in rules))


def _variables(block: Found) -> tuple[schema.EnvVariable, ...]:
    return tuple(schema.EnvVariable(name=env.name, position=env.position, **env.values) for env in block.blocks["env"])
