"""XML in and out. What comes from outside is read by expat without document types, so there are no entities to expand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, tostring
from xml.parsers import expat

from stead.gateway.s3.errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DEPTH_MAX = 8  # of elements: what S3 takes has four

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2

Tree = dict[str, Any]
"""Elements by name: text, a tree, or a list of either for elements that repeat."""


def write(name: str, tree: Tree, namespace: str | None = NAMESPACE) -> bytes:
    root = Element(name, {"xmlns": namespace} if namespace else {})
    _fill(root, tree)
    text: str = tostring(root, encoding="unicode")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


def _fill(parent: Element, tree: Tree) -> None:
    for name, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            child = SubElement(parent, name)
            if isinstance(item, str):
                child.text = _NOT_XML.sub("\ufffd", item)
            else:
                _fill(child, item)


def read(data: bytes, name: str) -> Element:
    """The root element, named `name`, with all names without their namespace. Raises `MalformedXML`."""
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise S3Error("MalformedXML")
        builder.start(_local(tag), attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(tag))

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
        root: Element = builder.close()
    except (expat.ExpatError, AssertionError, ValueError) as exc:
        raise S3Error("MalformedXML") from exc
    if root.tag != name:
        raise S3Error("MalformedXML", f"The XML is a {root.tag[:40]}, not a {name}.")
    return root


def texts(parent: Element, names: Iterable[str]) -> dict[str, str]:
    """The texts of those of the named children that are there."""
    return {name: found.strip() for name in names if (found := parent.findtext(name)) is not None}


def _local(tag: str) -> str:
    return tag.rpartition(":")[2]


def _refuse(*declaration: object) -> NoReturn:
    raise S3Error("MalformedXML", "A document type is not allowed here.")
