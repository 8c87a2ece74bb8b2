"""A tree of blocks to an `Application`, with everything that is wrong with it.

Three steps. *Fit* compares the tree with the table of forms: which block may stand where, with which attributes and values;
what does not fit is reported and left out. *Judge* asks what no single block can answer: names, addresses, references. *Build*
runs only where nothing was found, so it has no case for what is missing. Where the text had syntax errors the tree has holes, and
only fit runs: its errors are true whatever the holes held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from stead.errors import ManifestError
from stead.ids import ANSWERS_UNIT, binding_name
from stead.manifest import schema, values
from stead.manifest.findings import Findings, Full
from stead.manifest.grammar import parse
from stead.manifest.tree import Block, Position, Value

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # as in `ids.UNIT_PATTERN`: a unit's name is part of its actors' ids
NAME_CHARS_MAX = 128  # it stands in every id and log line
_ENV_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {schema.LOGGER, schema.MEM, schema.S3_CREDENTIALS, binding_name(ANSWERS_UNIT)}
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
        found = _fit(root, _FILE, "a manifest", findings)
        if is_whole:
            _judge(found, findings)
    except Full:
        pass  # the errors there is room for are the answer
    if findings.errors:
        raise ManifestErrors(findings.errors)
    return _build(found.blocks["application"][0])


# -- fit


@dataclass(frozen=True)
class _Form:
    """What a kind of block may hold; a block without a name may not have one."""

    attributes: Mapping[str, Callable[[Value], object]] = field(default_factory=dict)
    blocks: Mapping[str, _Form] = field(default_factory=dict)
    is_named: bool = True
    is_single: bool = False  # may stand once in its parent


@dataclass(frozen=True)
class _Found:
    """A block as far as it fits."""

    kind: str
    name: str
    position: Position
    values: dict[str, Any]  # of attributes, in their final types
    places: dict[str, Position]  # of every attribute that is there, right or wrong
    blocks: dict[str, list[_Found]]  # by kind; every kind that may be there has a list

    def all(self) -> Iterator[_Found]:
        for blocks in self.blocks.values():
            yield from blocks


_DOMAIN = _Form({"cname": values.dns_label, "fqdn": values.host_name}, is_named=False, is_single=True)
_PLACEMENT = _Form({"region": values.region, "labels": values.labels, "strict": values.truth}, is_named=False, is_single=True)
_ENV = _Form({"secret": values.truth, "default": values.text})
_RULE = _Form({"actions": values.actions, "prefix": values.text, "suffix": values.text}, is_named=False)
_SOURCE = _Form({"bucket": values.text, "queue": values.text}, {"rule": _RULE}, is_named=False, is_single=True)
_REACHABLE = {"visibility": values.visibility, "domain": values.host_name, "handler": values.handler}
_QUEUE: dict[str, Callable[[Value], object]] = {
    "max_batch_size": values.count,
    "max_batch_timeout_s": values.seconds,
    "max_retries": values.number,
    "retry_delay_s": values.delay,
    "dead_letter_queue": values.text,
    "retention_s": values.seconds,
    "shards": values.count,
}
_RATE_LIMIT: dict[str, Callable[[Value], object]] = {
    "limit": values.count,
    "period_s": values.seconds,
    "algorithm": values.algorithm,
}
_TASK = {"type": values.task_type, "cron": values.cron, "timezone": values.timezone, "handler": values.handler}
_UNITS: dict[str, _Form] = {
    "service": _Form(_REACHABLE, {"domain": _DOMAIN, "env": _ENV}),
    "actor": _Form(_REACHABLE, {"domain": _DOMAIN, "placement": _PLACEMENT}),
    "observer": _Form({"handler": values.handler, "max_concurrency": values.count}, {"source": _SOURCE, "rule": _RULE}),
    "queue": _Form(_QUEUE),
    "bucket": _Form({"visibility": values.visibility}),
    "task": _Form(_TASK),
    "kv_cache": _Form({"cache_ttl_s": values.seconds}),
    "sql_database": _Form(),
    "rate_limit": _Form(_RATE_LIMIT),
}
_NEEDED = (
    ("task", "cron", 'say when it runs: cron = "0 2 * * *" or "@daily"'),
    ("rate_limit", "limit", "say how many may pass: limit = 100"),
    ("rate_limit", "period_s", "say in how many seconds: period_s = 60"),
)
_APPLICATION = _Form({"module": values.module}, {**_UNITS, "env": _ENV}, is_single=True)
_FILE = _Form({}, {"application": _APPLICATION}, is_named=False)
_NOT_SUPPORTED = {"vector_index", "smartbucket", "smartsql", "smartmemory", "mcp_service"}
_HOMES = {  # where a block may stand, for those who put it elsewhere
    "application": "the file itself",
    **dict.fromkeys([*_UNITS, "env"], "`application`"),
    "domain": "`service` or `actor`",
    "placement": "`actor`",
    "source": "`observer`",
    "rule": "`observer` or its `source`",
}


def _fit(block: Block, form: _Form, where: str, findings: Findings) -> _Found:
    found = _Found(block.kind, block.labels[0] if block.labels else "", block.position, {}, {}, {kind: [] for kind in form.blocks})
    for attribute in block.attributes:
        read = form.attributes.get(attribute.name)
        if read is None:
            problem = f"unknown attribute `{attribute.name[: values.WORD_CHARS_MAX]}` in {where}"
            findings.add(attribute.position, problem, _attribute_hint(attribute.name, form))
        elif attribute.name in found.places:
            findings.add(attribute.position, f"a second `{attribute.name}` in {where}", "keep one of them")
        else:
            found.places[attribute.name] = attribute.position
            try:
                found.values[attribute.name] = read(attribute.value)
            except values.Wrong as wrong:
                findings.add(attribute.position, f"`{attribute.name}` {wrong.problem}", wrong.hint)
    for inner in block.blocks:
        known = form.blocks.get(inner.kind)
        if inner.kind in _NOT_SUPPORTED:
            findings.add(inner.position, f"`{inner.kind}` is not supported yet", "remove this block; a later release will read it")
        elif known is None:
            problem = f"unknown block `{inner.kind[: values.WORD_CHARS_MAX]}` in {where}"
            findings.add(inner.position, problem, _block_hint(inner.kind, form))
        else:
            if known.is_single and found.blocks[inner.kind]:
                findings.add(inner.position, f"a second `{inner.kind}` in {where}", "keep one of them")
            _fit_labels(inner, known, findings)
            found.blocks[inner.kind].append(_fit(inner, known, f"`{inner.kind}`", findings))
    return found


def _fit_labels(block: Block, form: _Form, findings: Findings) -> None:
    if form.is_named and not (block.labels and block.labels[0]):
        findings.add(block.position, f"`{block.kind}` needs a name", f'write {block.kind} "name" {{ }}')
    elif len(block.labels) > form.is_named:
        many = "one name only" if form.is_named else "no name"
        findings.add(block.position, f"`{block.kind}` takes {many}", f"remove {values.describe(block.labels[-1])}")


def _attribute_hint(name: str, form: _Form) -> str:
    if name in form.blocks:
        label = ' "name"' if form.blocks[name].is_named else ""
        return f"it is a block: write {name}{label} {{ }}"
    return _known_hint(name, form.attributes, "attributes")


def _block_hint(kind: str, form: _Form) -> str:
    if kind in form.attributes:
        return f"it is an attribute: write {kind} = value"
    if kind in _HOMES:
        return f"it belongs in {_HOMES[kind]}"
    return _known_hint(kind, form.blocks, "blocks")


def _known_hint(word: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    match = values.nearest(word, names)
    return f"did you mean `{match}`?" if match else f"it may hold {', '.join(names)}" if names else f"it holds no {what}: remove it"


# -- judge

_Names: TypeAlias = Mapping[str, Mapping[str, None]]  # of units by kind, in the order of the file


def _judge(file: _Found, findings: Findings) -> None:
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


def _check_name(block: _Found, findings: Findings) -> None:
    if not block.name or (len(block.name) <= NAME_CHARS_MAX and NAME.fullmatch(block.name)):
        return  # that it is missing has been said
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", block.name[: values.WORD_CHARS_MAX])
    better = re.sub(r"[^a-z0-9_-]+", "-", words.lower()).strip("-_") or block.kind
    problem = f"{values.describe(block.name)} is no name for a unit"
    findings.add(block.position, problem, f'lower-case letters, digits, - and _, {NAME_CHARS_MAX} at most, such as "{better}"')


def _check_bindings(application: _Found, findings: Findings) -> None:
    taken: dict[str, _Found] = {}
    for block in sorted(application.all(), key=lambda block: block.position):
        if block.kind == "env":
            _check_env(block, findings)
        else:
            _check_name(block, findings)
        _take_binding(block, taken, findings)
    units = {binding: block for binding, block in taken.items() if block.kind != "env"}
    for service in application.blocks["service"]:
        own: dict[str, _Found] = {}
        for variable in service.blocks["env"]:
            _check_env(variable, findings)
            _take_binding(variable, own, findings, units)


def _take_binding(block: _Found, taken: dict[str, _Found], findings: Findings, units: Mapping[str, _Found] | None = None) -> None:
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


def _check_env(variable: _Found, findings: Findings) -> None:
    if variable.name and not _ENV_NAME.fullmatch(variable.name[: NAME_CHARS_MAX + 1]) or len(variable.name) > NAME_CHARS_MAX:
        problem = f"{values.describe(variable.name)} is no name for a variable"
        findings.add(variable.position, problem, 'letters, digits and _, a letter first, such as "API_KEY"')
    if variable.values.get("secret") and "default" in variable.places:
        hint = "a manifest is no place for secrets: remove `default`, or `secret` if it is none"
        findings.add(variable.places["default"], f'the secret "{variable.name}" has a default', hint)


def _check_addresses(application: _Found, findings: Findings) -> None:
    taken: dict[tuple[str, str], _Found] = {}
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


def _hosts(unit: _Found) -> Iterator[tuple[str, str, Position]]:
    """The addresses of a unit; a public service that has none answers at its name."""
    addresses = list(_addresses(unit))
    if not addresses and unit.kind == "service" and unit.values.get("visibility") is schema.Visibility.PUBLIC:
        addresses.append(("cname", unit.name, unit.position))
    yield from addresses


def _addresses(unit: _Found) -> Iterator[tuple[str, str, Position]]:
    if "domain" in unit.values:
        yield "fqdn", unit.values["domain"], unit.places["domain"]
    for domain in unit.blocks["domain"]:
        for kind, address in domain.values.items():
            yield kind, address, domain.places[kind]


def _check_sources(application: _Found, names: _Names, findings: Findings) -> None:
    watched: dict[str, _Found] = {}
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


def _check_queue_source(observer: _Found, source: _Found, watched: dict[str, _Found], findings: Findings) -> None:
    for rule in [*source.blocks["rule"], *observer.blocks["rule"]]:
        findings.add(rule.position, "a `rule` chooses among the events of a bucket, and this source is a queue", "remove the rule")
    other = watched.setdefault(source.values.get("queue", ""), observer)
    if other is not observer and "queue" in source.values:
        hint = f'the observer "{other.name}" on line {other.position.line} has it; a message goes to one observer'
        findings.add(source.places["queue"], f'two observers on the queue "{source.values["queue"]}"', hint)


def _check_dead_letters(queue: _Found, names: _Names, findings: Findings) -> None:
    name = queue.values.get("dead_letter_queue")
    if name is None:
        return
    place = queue.places["dead_letter_queue"]
    if name == queue.name:
        findings.add(place, f'the queue "{name}" is its own dead-letter queue', f'add one, such as queue "{name}-dead" {{ }}')
    else:
        _check_reference("queue", name, place, names, findings)


def _check_placement(actor: _Found, findings: Findings) -> None:
    for placement in actor.blocks["placement"]:
        if not {"region", "labels"} & set(placement.places):
            problem = "`placement` says neither `region` nor `labels`"
            findings.add(placement.position, problem, 'such as region = "eu"; without `placement` any node may have the actors')


def _check_reference(kind: str, name: str, place: Position, names: _Names, findings: Findings) -> None:
    if name not in names[kind]:
        match = values.nearest(name, names[kind])
        hint = f'did you mean "{match}"?' if match else f'add {kind} "{name[: values.WORD_CHARS_MAX]}" {{ }} to the application'
        findings.add(place, f"there is no {kind} {values.describe(name)}", hint)


# -- build


def _build(found: _Found) -> schema.Application:
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


def _unit(unit: type[_UnitT], block: _Found, **more: Any) -> _UnitT:
    settings = {name: value for name, value in block.values.items() if name not in {"type", "domain"}}
    return unit(name=block.name, position=block.position, **settings, **more)


def _reachable(unit: type[_UnitT], block: _Found, **more: Any) -> _UnitT:
    """A unit with its address; one that has an address and no visibility of its own is public."""
    addresses = {kind: address for kind, address, _ in _addresses(block)}
    if addresses and "visibility" not in block.values:
        more["visibility"] = schema.Visibility.PUBLIC
    return _unit(unit, block, **addresses, **more)


def _placement(block: _Found) -> schema.Placement:
    return next((schema.Placement(**placement.values) for placement in block.blocks["placement"]), schema.Placement())


def _observer(block: _Found) -> schema.Observer:
    source = block.blocks["source"][0]
    rules = [*source.blocks["rule"], *block.blocks["rule"]]
    return _unit(schema.Observer, block, **source.values, rules=tuple(schema.Rule(**rule.values) for rule in rules))


def _variables(block: _Found) -> tuple[schema.EnvVariable, ...]:
    return tuple(schema.EnvVariable(name=env.name, position=env.position, **env.values) for env in block.blocks["env"])
