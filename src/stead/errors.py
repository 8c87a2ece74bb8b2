"""The error tree, named by what the caller may do.

Every error that Stead raises is a `SteadError`. The direct subclasses answer the one question a caller has after a failure:
did it run, and may I try again? The class docstring is the message a user reads where an error carries none of its own.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Ambiguous",
    "AppError",
    "Aborted",
    "Deadlock",
    "DurabilityLost",
    "EngineFailed",
    "Invalid",
    "ManifestError",
    "Overloaded",
    "SqlError",
    "SteadError",
    "TransactionLost",
    "TurnTimeout",
    "Unavailable",
]

QUERY_CHARS_MAX = 200  # of a statement that an error shows


class SteadError(Exception):
    """Something in Stead failed."""

    status: ClassVar[int] = 500  # the HTTP status a gateway answers where nobody caught the error

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").partition("\n")[0]


class AppError(SteadError):
    """The application raised an error of a type that cannot be imported here.

    An error of a type that can be imported arrives as itself. `type_name` is the original type's dotted name.
    """

    def __init__(self, message: str = "", type_name: str = "Exception") -> None:
        super().__init__(message)
        self.type_name = type_name


class Invalid(SteadError):
    """The call is wrong and nothing ran: fix the call."""

    status = 400


class SqlError(Invalid):
    """SQLite refused the statement; it changed nothing and the turn can go on.

    `query` is the statement, cut to QUERY_CHARS_MAX. `constraint` is the kind of constraint that was violated ("unique",
    "foreignkey", "notnull", "check", "primarykey" …), None if it was something else.
    """

    def __init__(self, message: str = "", query: str = "", constraint: str | None = None) -> None:
        super().__init__(message)
        self.query = query if len(query) <= QUERY_CHARS_MAX else query[:QUERY_CHARS_MAX] + "…"
        self.constraint = constraint

    def __str__(self) -> str:
        return super().__str__() + (f" (in: {self.query})" if self.query else "")


class TransactionLost(SqlError):
    """SQLite rolled back everything that this turn had written with SQL, so the turn cannot be committed."""


class Unavailable(SteadError):
    """Nothing ran; it is safe to try again."""

    status = 503


class Overloaded(Unavailable):
    """Too much work is waiting and nothing ran; try again after `retry_after_s` seconds."""

    def __init__(self, message: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Ambiguous(SteadError):
    """It may have run: read the state before you try again."""

    status = 504


class DurabilityLost(SteadError):
    """It ran, but what it wrote could not be made durable and was undone."""

    status = 503


class TurnTimeout(SteadError):
    """The turn was over its time limit, was cancelled and left no trace."""

    status = 504


class Aborted(SteadError):
    """The actor was reset with `ctx.abort()`; what the turn had written is gone."""


class Deadlock(SteadError):
    """Calls wait for each other in a circle; the message names it."""

    status = 508


class EngineFailed(SteadError):
    """The storage engine could not do what it was asked; the message says which file and what to do."""

    status = 503


class ManifestError(SteadError):
    """The manifest is wrong.

    `file`, `line` and `column` (both from 1) say where, `problem` what is wrong and `hint` what to do about it.
    """

    status = 400

    def __init__(self, problem: str, *, file: str = "", line: int = 1, column: int = 1, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.file, self.line, self.column, self.hint = problem, file, line, column, hint

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        return f"{where}{self.problem}" + (f"\n  hint: {self.hint}" if self.hint else "")
