"""Keeping secrets out of what a process writes.

The node says which values are secret when it has resolved them; whoever writes for people (log lines, errors, problem responses,
JSON of commands, errors kept in a history) passes the text through `redacted`. A process has one set of outputs, so the values
are the process's, too. It finds a value as it is, as JSON or Python spell it, and percent-encoded; it does not find one that was
cut, encoded in other ways, or is shorter than LENGTH_MIN.
"""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

LENGTH_MIN = 6  # a shorter value is part of too many words

_masks: dict[str, str] = {}  # by what is replaced, the longest first


def hide(name: str, value: str) -> None:
    """From now on the secret `name` is replaced wherever `redacted` meets its value."""
    spellings = {value, repr(value)[1:-1], quote(value, safe=""), quote_plus(value)}
    spellings |= {json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    masks = {**_masks, **dict.fromkeys((text for text in spellings if len(text) >= LENGTH_MIN), f"[secret {name}]")}
    _masks.clear()
    _masks.update(sorted(masks.items(), key=lambda item: -len(item[0])))


def redacted(text: str) -> str:
    """`text` with the names of secrets where their values were."""
    for value, mask in _masks.items():
        if value in text:
            text = text.replace(value, mask)
    return text
