"""What PostgreSQL and the way to it report: what may be tried again, and the rest as an `EngineFailed` that says what to do.

No message shows a password: addresses come from `shown`, and the driver's own messages hold none.
"""

from __future__ import annotations

import asyncpg

from stead.errors import EngineFailed
from stead.storage.membership import EngineAway

# TimeoutError is an OSError; an InternalClientError is a protocol out of step, as after an end in the middle of an answer.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# What the driver raises for a value that it cannot bind, or the server for one that it does not take: the medium is not at fault.
CONTENT_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    TypeError,
    OverflowError,
)


class Unreached(Exception):
    """No connection could be had: nothing was sent. The cause says why."""


def is_lost(exc: BaseException) -> bool:
    """Whether the connection ended or fell silent under the statement: it may have run."""
    return isinstance(
        exc, OSError | asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError | asyncpg.InternalClientError
    )


def is_conflict(exc: BaseException) -> bool:
    """Whether the server rolled back because of somebody else: the same again may well succeed."""
    return isinstance(exc, asyncpg.TransactionRollbackError)


def is_forgotten(exc: BaseException) -> bool:
    """Whether a pooler gave us another server connection than the one that knows the prepared statement."""
    return isinstance(exc, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError)


def shown(dsn: str) -> str:
    """The address without its password and parameters, also where special characters in the password were not escaped."""
    scheme, _, rest = dsn.partition("://")
    if "password=" in rest:
        return f"{scheme}://…"
    user, at, place = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{place.partition('?')[0]}"


def failure(exc: BaseException, where: str) -> EngineFailed:
    """The error to raise (`from exc`) for what went wrong with the database at `where`."""
    return EngineFailed(_told(_cause(exc), where))


def failure_to_open(exc: BaseException, where: str) -> EngineFailed:
    """The same, where the engine was to be opened: `EngineAway` if no connection could be had, and one may be later."""
    cause = _cause(exc)
    is_away = is_lost(cause) or isinstance(cause, Unreached | asyncpg.TooManyConnectionsError)
    return (EngineAway if is_away else EngineFailed)(_told(cause, where))


def _cause(exc: BaseException) -> BaseException:
    return exc.__cause__ if isinstance(exc, Unreached) and exc.__cause__ is not None else exc


def _told(exc: BaseException, where: str) -> str:
    said = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return f"{where}: {_advice(exc)} ({said})"


def _advice(exc: BaseException) -> str:
    if isinstance(exc, asyncpg.InvalidAuthorizationSpecificationError):
        return "the server refuses the user or the password: check the address, and the server's pg_hba.conf"
    if isinstance(exc, asyncpg.InvalidCatalogNameError):
        return "the server has no such database: create it, or correct the address"
    if isinstance(exc, asyncpg.TooManyConnectionsError):
        return "the server has no connection left: raise max_connections, or put PgBouncer before it"
    if isinstance(exc, asyncpg.CannotConnectNowError):
        return "the server is starting or stopping: a node waits for it and goes on by itself"
    if isinstance(exc, asyncpg.DiskFullError):
        return "the server's disk is full: nothing of this was stored. Make room; the engine goes on by itself"
    if isinstance(exc, asyncpg.ReadOnlySQLTransactionError):
        return "the server takes no writes, as a standby does: give the address of the primary"
    if isinstance(exc, asyncpg.InsufficientPrivilegeError):
        return (
            "the user lacks a right: have an administrator CREATE SCHEMA stead AUTHORIZATION that user, or grant it all on the "
            "schema's tables"
        )
    if isinstance(exc, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError | asyncpg.UndefinedColumnError):
        return "the tables are missing or not ours: was the database restored or dropped? Start the server again to make them"
    if is_lost(exc) or isinstance(exc, Unreached):
        return "the server does not answer: see that it runs and can be reached; a node waits for it and goes on by itself"
    return "the server refuses the statement"
