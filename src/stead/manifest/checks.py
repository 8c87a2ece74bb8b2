"""What no single block can answer: names, addresses, references between units, and what may not be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from stead.ids import ANSWERS_UNIT, binding_name
from stead.manifest import schema, values
from stead.manifest.findings import Findings
from stead.manifest.forms import Found, addresses_of
from stead.manifest.tree import Position

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # as in `ids.UNIT_PATTERN`: a unit's name is part of its actors' ids
NAME_CHARS_MAX = 128  # it stands in every id and log line
_ENV_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {schema.LOGGER, schema.MEM, schema.S3_CREDENTIALS, binding_name(ANSWERS_UNIT)}
_NEEDED = (
    ("task", "cron", 'say when it runs: cron = "0 2 * * *" or "@daily"'),
    ("rate_limit", "limit", "say how many may pass: limit = 100"),
    ("rate_limit", "period_s", "say in how many seconds: period_s = 60"),
)

_Names: TypeAlias = Mapping[str, Mapping[str, None]]  # of units by kind, in the order of the file


def judge(file: Found, findings: Findings) -> None:
    """Report what is wrong with a file whose blocks fit."""
    if not file.blocks["application"]:
        findings.add(file.position, "there is no `application`", 'write application "name" { } around everything')
    for application in file.blocks["application"][:1]:
        _check_name(application, findings)
        _check_bindings(application, findings)
        _check_addresses(application, findings)
        names = {kind: {block.name: None for block in application.blocks[kind]} for kind in ("bucket", "queue")}
        _check_sources(application, names, findings)
        for queue in application.blocks["queue"]:
            _check_dead_letters(queue, names, findings)
        for actor in application.blocks["actor"]:
            _check_placement(actor, findings)
        for kind, attribute, hint in _NEEDED:
            for unit in application.blocks[kind]:
                if attribute not in unit.places:
                    findings.add(unit.position, f'the {kind} "{unit.name}" has no `{attribute}`', hint)


def _check_name(block: Found, findings: Findings) -> None:
    if not block.name or (len(block.name) <= NAME_CHARS_MAX and NAME.fullmatch(block.name)):
        return  # that it is missing has been said
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", block.name[: values.WORD_CHARS_MAX])
    better = re.sub(r"[^a-z0-9_-]+", "-", words.lower()).strip("-_") or block.kind
    problem = f"{values.describe(block.name)} is no name for a unit"
    findings.add(block.position, problem, f'lower-case letters, digits, - and _, {NAME_CHARS_MAX} at most, such as "{better}"')


def _check_bindings(application: Found, findings: Findings) -> None:
    taken: dict[str, Found] = {}
    for block in sorted(application.all(), key=lambda block: block.position):
        if block.kind == "env":
            _check_env(block, findings)
        else:
            _check_name(block, findings)
        _take_binding(block, taken, findings)
    units = {binding: block for binding, block in taken.items() if block.kind != "env"}
    for service in application.blocks["service"]:
        own: dict[str, Found] = {}
        for variable in service.blocks["env"]:
            _check_env(variable, findings)
            _take_binding(variable, own, findings, units)


def _take_binding(block: Found, taken: dict[str, Found], findings: Findings, units: Mapping[str, Found] | None = None) -> None:
    binding = binding_name(block.name)
    other = taken.get(binding) or (units or {}).get(binding)
    if binding in _RESERVED:
        findings.add(
            block.position, f'the name "{block.name}" is reserved', f"every unit has `{binding.lower()}` already; rename this one"
        )
    elif other is not None and block.name:
        same = (
            f'duplicate name "{block.name}"'
            if other.name == block.name
            else f'"{block.name}" and "{other.name}" are both env.{binding}'
        )
        hint = f"the {other.kind} on line {other.position.line} has it; rename one, for all units share one namespace"
        findings.add(block.position, same[: 2 * values.WORD_CHARS_MAX], hint)
    else:
        taken[binding] = block


def _check_env(variable: Found, findings: Findings) -> None:
    if variable.name and not _ENV_NAME.fullmatch(variable.name[: NAME_CHARS_MAX + 1]) or len(variable.name) > NAME_CHARS_MAX:
        problem = f"{values.describe(variable.name)} is no name for a variable"
        findings.add(variable.position, problem, 'letters, digits and _, a letter first, such as "API_KEY"')
    if variable.values.get("secret") and "default" in variable.places:
        hint = "a manifest is no place for secrets: remove `default`, or `secret` if it is none"
        findings.add(variable.places["default"], f'the secret "{variable.name}" has a default', hint)


def _check_addresses(application: Found, findings: Findings) -> None:
    taken: dict[tuple[str, str], Found] = {}
    for unit in sorted([*application.blocks["service"], *application.blocks["actor"]], key=lambda unit: unit.position):
        for domain in unit.blocks["domain"]:
            if len(domain.places) != 1:
                findings.add(domain.position, "`domain` needs exactly one of `cname` and `fqdn`", 'such as cname = "shop"')
            if "domain" in unit.places:
                findings.add(domain.position, f"a second `domain` in `{unit.kind}`", "keep the block or the attribute")
        for kind, address, place in _hosts(unit):
            other = taken.setdefault((kind, address), unit)
            if kind == "cname" and address == schema.S3_LABEL and application.blocks["bucket"]:
                hint = "choose another; S3 clients of the buckets speak to it"
                if place == unit.position:
                    hint = f'the {unit.kind} has it by its name; add domain {{ cname = "files" }}, or rename it'
                findings.add(place, f'the cname "{address}" is that of the S3 endpoint', hint)
            if other is not unit:
                hint = f'the {other.kind} "{other.name}" on line {other.position.line} answers there; choose another'
                findings.add(place, f'two units at {kind} "{address}"', hint)


def _hosts(unit: Found) -> Iterator[tuple[str, str, Position]]:
    """The addresses of a unit; a public service that has none answers at its name."""
    addresses = list(addresses_of(unit))
    if not addresses and unit.kind == "service" and unit.values.get("visibility") is schema.Visibility.PUBLIC:
        addresses.append(("cname", unit.name, unit.position))
    yield from addresses


def _check_sources(application: Found, names: _Names, findings: Findings) -> None:
    watched: dict[str, Found] = {}
    for observer in application.blocks["observer"]:
        if not observer.blocks["source"]:
            problem = f'the observer "{observer.name}" has no `source`'
            findings.add(observer.position, problem, 'write source { bucket = "name" } or source { queue = "name" }')
        for source in observer.blocks["source"][:1]:
            if len(source.places) != 1:
                findings.add(source.position, "`source` needs exactly one of `bucket` and `queue`", "one observer for each source")
                continue
            for kind, name in source.values.items():
                _check_reference(kind, name, source.places[kind], names, findings)
            if "queue" in source.places:
                _check_queue_source(observer, source, watched, findings)


def _check_queue_source(observer: Found, source: Found, watched: dict[str, Found], findings: Findings) -> None:
    for rule in [*source.blocks["rule"], *observer.blocks["rule"]]:
        findings.add(rule.position, "a `rule` chooses among the events of a bucket, and this source is a queue", "remove the rule")
    other = watched.setdefault(source.values.get("queue", ""), observer)
    if other is not observer and "queue" in source.values:
        hint = f'the observer "{other.name}" on line {other.position.line} has it; a message goes to one observer'
        findings.add(source.places["queue"], f'two observers on the queue "{source.values["queue"]}"', hint)


def _check_dead_letters(queue: Found, names: _Names, findings: Findings) -> None:
    name = queue.values.get("dead_letter_queue")
    if name is None:
        return
    place = queue.places["dead_letter_queue"]
    if name == queue.name:
        findings.add(place, f'the queue "{name}" is its own dead-letter queue', f'add one, such as queue "{name}-dead" {{ }}')
    else:
        _check_reference("queue", name, place, names, findings)


def _check_placement(actor: Found, findings: Findings) -> None:
    for placement in actor.blocks["placement"]:
        if not {"region", "labels"} & set(placement.places):
            problem = "`placement` says neither `region` nor `labels`"
            findings.add(placement.position, problem, 'such as region = "eu"; without `placement` any node may have the actors')


def _check_reference(kind: str, name: str, place: Position, names: _Names, findings: Findings) -> None:
    if name not in names[kind]:
        match = values.nearest(name, names[kind])
        hint = f'did you mean "{match}"?' if match else f'add {kind} "{name[: values.WORD_CHARS_MAX]}" {{ }} to the application'
        findings.add(place, f"there is no {kind} {values.describe(name)}", hint)
