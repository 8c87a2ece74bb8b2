"""The files that make a database what the application needs, and the ledger of those that were applied.

A file runs once, in the order of the numbers in their names, in a transaction that also writes its line of the ledger. So whatever
dies when, a file is applied whole or not at all, and the ledger says which. A file that was applied is history: it may
neither change nor go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

import msgspec

from stead.errors import Invalid


class Migration(msgspec.Struct, frozen=True):
    """One file: its name without the suffix, where it is, and what it says."""

    name: str  # NNNN_description
    file: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text without what line ends differ in between machines."""
        return sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def number(self) -> int:
        return int(self.name.partition("_")[0])


class Applied(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    name: str
    checksum: str
    applied_at: datetime

    @property
    def number(self) -> int:
        return int(self.name.partition("_")[0])


def pending(files: Sequence[Migration], ledger: Sequence[Applied], database: str) -> list[Migration]:
    """What is to be applied, in order. Raises `Invalid` if files and ledger contradict each other, saying what to do."""
    by_name = {file.name: file for file in files}
    for line in ledger:
        file = by_name.get(line.name)
        when = f"was applied to {database!r} on {line.applied_at:%Y-%m-%d %H:%M} UTC"
        if file is None:
            hint = "put the file back; to undo what it did, add a new file"
            raise Invalid(f"the migration {line.name}.sql {when} and is missing\n  hint: {hint}")
        if file.checksum != line.checksum:
            hint = "restore the file as it was, and put the change into a new one"
            raise Invalid(f"{file.file}: this migration {when} and has been changed since\n  hint: {hint}")
    applied = {line.name for line in ledger}
    last = max(ledger, key=lambda line: line.number, default=None)
    waiting = sorted((file for file in files if file.name not in applied), key=lambda file: file.number)
    if last is not None and waiting and waiting[0].number < last.number:
        hint = f"give it a number above {last.number:04}"
        raise Invalid(f"{waiting[0].file}: this migration comes before {last.name}.sql, which was applied\n  hint: {hint}")
    return waiting
