"""The table of forms: which block may stand where, with which attributes and values; and what of a tree fits it.

What does not fit is reported and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stead.manifest import values
from stead.manifest.findings import Findings
from stead.manifest.tree import Block, Position, Value


@dataclass(frozen=True)
class Form:
    """What a kind of block may hold; a block without a name may not have one."""

    attributes: Mapping[str, Callable[[Value], object]] = field(default_factory=dict)
    blocks: Mapping[str, Form] = field(default_factory=dict)
    is_named: bool = True
    is_single: bool = False  # may stand once in its parent


@dataclass(frozen=True)
class Found:
    """A block as far as it fits."""

    kind: str
    name: str
    position: Position
    values: dict[str, Any]  # of attributes, in their final types
    places: dict[str, Position]  # of every attribute that is there, right or wrong
    blocks: dict[str, list[Found]]  # by kind; every kind that may be there has a list

    def all(self) -> Iterator[Found]:
        for blocks in self.blocks.values():
            yield from blocks


_DOMAIN = Form({"cname": values.dns_label, "fqdn": values.host_name}, is_named=False, is_single=True)
_PLACEMENT = Form({"region": values.region, "labels": values.labels, "strict": values.truth}, is_named=False, is_single=True)
_ENV = Form({"secret": values.truth, "default": values.text})
_RULE = Form({"actions": values.actions, "prefix": values.text, "suffix": values.text}, is_named=False)
_SOURCE = Form({"bucket": values.text, "queue": values.text}, {"rule": _RULE}, is_named=False, is_single=True)
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
_UNITS: dict[str, Form] = {
    "service": Form(_REACHABLE, {"domain": _DOMAIN, "env": _ENV}),
    "actor": Form(_REACHABLE, {"domain": _DOMAIN, "placement": _PLACEMENT}),
    "observer": Form({"handler": values.handler, "max_concurrency": values.count}, {"source": _SOURCE, "rule": _RULE}),
    "queue": Form(_QUEUE),
    "bucket": Form({"visibility": values.visibility}),
    "task": Form(_TASK),
    "kv_cache": Form({"cache_ttl_s": values.seconds}),
    "sql_database": Form(),
    "rate_limit": Form(_RATE_LIMIT),
}
_APPLICATION = Form({"module": values.module}, {**_UNITS, "env": _ENV}, is_single=True)
FILE = Form({}, {"application": _APPLICATION}, is_named=False)
_NOT_SUPPORTED = {"vector_index", "smartbucket", "smartsql", "smartmemory", "mcp_service"}
_HOMES = {  # where a block may stand, for those who put it elsewhere
    "application": "the file itself",
    **dict.fromkeys([*_UNITS, "env"], "`application`"),
    "domain": "`service` or `actor`",
    "placement": "`actor`",
    "source": "`observer`",
    "rule": "`observer` or its `source`",
}


def fit(block: Block, form: Form, where: str, findings: Findings) -> Found:
    """The block without what does not fit the form; that is reported, `where` saying what it was found in."""
    found = Found(block.kind, block.labels[0] if block.labels else "", block.position, {}, {}, {kind: [] for kind in form.blocks})
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
            found.blocks[inner.kind].append(fit(inner, known, f"`{inner.kind}`", findings))
    return found


def _fit_labels(block: Block, form: Form, findings: Findings) -> None:
    if form.is_named and not (block.labels and block.labels[0]):
        findings.add(block.position, f"`{block.kind}` needs a name", f'write {block.kind} "name" {{ }}')
    elif len(block.labels) > form.is_named:
        many = "one name only" if form.is_named else "no name"
        findings.add(block.position, f"`{block.kind}` takes {many}", f"remove {values.describe(block.labels[-1])}")


def _attribute_hint(name: str, form: Form) -> str:
    if name in form.blocks:
        label = ' "name"' if form.blocks[name].is_named else ""
        return f"it is a block: write {name}{label} {{ }}"
    return _known_hint(name, form.attributes, "attributes")


def _block_hint(kind: str, form: Form) -> str:
    if kind in form.attributes:
        return f"it is an attribute: write {kind} = value"
    if kind in _HOMES:
        return f"it belongs in {_HOMES[kind]}"
    return _known_hint(kind, form.blocks, "blocks")


def _known_hint(word: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    match = values.nearest(word, names)
    return f"did you mean `{match}`?" if match else f"it may hold {', '.join(names)}" if names else f"it holds no {what}: remove it"


def addresses_of(unit: Found) -> Iterator[tuple[str, str, Position]]:
    """What a unit says of where it answers: "fqdn" or "cname", the name, and where it stands."""
    if "domain" in unit.values:
        yield "fqdn", unit.values["domain"], unit.places["domain"]
    for domain in unit.blocks["domain"]:
        for kind, address in domain.values.items():
            yield kind, address, domain.places[kind]
