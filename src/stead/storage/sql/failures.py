"""The only place where SQLite's errors become ours."""

from __future__ import annotations

import apsw

from stead.errors import EngineFailed, SqlError, SteadError
from stead.storage.sql.limits import DATABASE_BYTES_MAX

_DAMAGE = (apsw.CorruptError, apsw.NotADBError)
_MEDIUM = (apsw.IOError, apsw.CantOpenError, apsw.NoMemError)
_CONSTRAINTS = {
    code: name.removeprefix("SQLITE_CONSTRAINT_").lower()
    for name, code in apsw.mapping_extended_result_codes.items()
    if isinstance(name, str) and isinstance(code, int) and name.startswith("SQLITE_CONSTRAINT_")
}


def translated(error: Exception, query: str) -> SteadError:
    """What the user is told about an error of apsw's."""
    if isinstance(error, _DAMAGE):
        return EngineFailed(
            f"the actor's SQL database is damaged ({error}): it was not changed; restore the actor from a backup or an export"
        )
    if isinstance(error, _MEDIUM):
        return EngineFailed(f"SQLite could not go on ({error}); try again, and look at the machine's memory and disk")
    if isinstance(error, apsw.FullError):
        return SqlError(f"the actor's SQL database is over {DATABASE_BYTES_MAX} bytes: delete something first", query)
    if isinstance(error, apsw.ReadOnlyError):
        return SqlError("this turn may only read: drop @reads from the method to write", query)
    if isinstance(error, apsw.ConstraintError):
        return SqlError(_message(error), query, _CONSTRAINTS.get(getattr(error, "extendedresult", 0), "other"))
    if isinstance(error, KeyError):
        return SqlError(f"the query names a parameter that the dict lacks: {error.args[0]!r}", query)
    if isinstance(error, UnicodeDecodeError):
        return SqlError("a text in the result is not UTF-8: select it as a blob with CAST(column AS BLOB)", query)
    if isinstance(error, UnicodeEncodeError):
        return SqlError(f"a text is not valid Unicode: {error.reason} at character {error.start}", query)
    if "VACUUM" in str(error):
        return SqlError("VACUUM is not needed: pages that become free are given back at each commit", query)
    return SqlError(_message(error), query)


def _message(error: Exception) -> str:
    return str(error).partition("  Current offset")[0]
