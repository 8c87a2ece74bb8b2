"""`stead db`: running SQL in an application's databases, migrating them, and taking them out and in as files."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TextIO

import apsw
import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn

from stead.admin import IMPORTS, prepare_database
from stead.bindings import DATABASE
from stead.cli.actors import operator_of, progress_of
from stead.cli.console import CommandFailed, Commands, new_table, out, print_json, print_table
from stead.cli.options import Engine, Json
from stead.cli.units import App, Data, data_of, operate
from stead.errors import Invalid
from stead.ids import ActorId, Chance, named_id
from stead.manifest import SqlDatabase, load_manifest
from stead.node import SQLITE, manifest_path, read_migrations

_STEAD_TABLES = ("stead_keys", "stead_attributes", "stead_alarms")  # which the export of an actor adds

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Run SQL in databases, migrate, export and import them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The database's name in the manifest.")]


@app.command()
def execute(
    name: Name,
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="Statements; from standard input without.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of statements.")] = None,
    place: App = Path(),
    data: Data = None,
    json: Json = False,
) -> None:
    """Run statements as one transaction, and print what they give."""
    results = operate(place, data, "sql_database", name, "execute", script=_script(sql, file))
    if json:
        print_json({"database": name, "results": results})
        return
    for result in results:
        _print_result(result)


@app.command()
def migrate(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Apply the migrations of db/NAME that were not applied. The start of a server does the same."""
    path = manifest_path(place)
    unit = next((unit for unit in load_manifest(path).sql_databases if unit.name == name), SqlDatabase(name=name))
    files = read_migrations(unit, path.resolve().parent)
    applied = operate(place, data, "sql_database", name, "migrate", migrations=msgspec.to_builtins(files))
    if json:
        print_json({"database": name, "applied": applied})
    else:
        out.print("\n".join(f"applied {migration}" for migration in applied) or "nothing to apply", markup=False)


@app.command()
def export(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make: a .sqlite database or a .sql dump.")],
    place: App = Path(),
    data: Data = None,
    engine: Engine = SQLITE,
    json: Json = False,
) -> None:
    """Write a database to a normal SQLite file, or to a dump in SQL. Nothing is overwritten."""
    if file.suffix not in {".sqlite", ".db", ".sql"}:
        raise CommandFailed(f"{file} ends in neither .sqlite nor .sql", "the ending says what to write")
    if file.exists():
        raise CommandFailed(f"{file} exists, and an export never overwrites", "choose another name or remove it")
    with TemporaryDirectory(prefix="stead-export-") as directory:
        copy = Path(directory) / "database.sqlite"
        asyncio.run(_export(data_of(place, data), engine, named_id(name, DATABASE), copy))
        with closing(apsw.Connection(str(copy))) as connection:
            for table in _STEAD_TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
        partial = file.with_name(file.name + ".partial")
        try:
            if file.suffix == ".sql":
                _dump(copy, partial)
            else:
                shutil.copyfile(copy, partial)
            partial.rename(file)
        except OSError as exc:
            raise CommandFailed(f"{file} cannot be written: {exc.strerror or exc}") from exc
        finally:
            partial.unlink(missing_ok=True)
    if json:
        print_json({"database": name, "file": str(file), "size_bytes": file.stat().st_size})
    else:
        out.print(f"wrote {name} to {file}, {file.stat().st_size:,} bytes", markup=False)


@app.command("import")
def import_(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A SQLite database, or a dump in SQL.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the database holds.")] = False,
    place: App = Path(),
    data: Data = None,
    engine: Engine = SQLITE,
    json: Json = False,
) -> None:
    """Make a file the database, all of it in one commit."""
    known = [unit.name for unit in load_manifest(manifest_path(place)).sql_databases]
    if name not in known:
        hint = f"there are: {', '.join(known)}" if known else "the manifest has no sql_database"
        raise CommandFailed(f"there is no sql_database {name!r}", hint)
    if not file.is_file():
        raise CommandFailed(f"there is no file {file}", "give a SQLite database, or a dump in SQL")
    directory = data_of(place, data)
    directory.mkdir(parents=True, exist_ok=True)
    size_bytes = asyncio.run(_import(directory, engine, named_id(name, DATABASE), file, overwrite))
    if json:
        print_json({"database": name, "file": str(file), "size_bytes": size_bytes})
    else:
        out.print(f"imported {file} into {name}, {size_bytes:,} bytes", markup=False)


def _script(sql: str | None, file: Path | None) -> str:
    if sql is not None and file is not None:
        raise CommandFailed("there are statements and a file", "give either SQL or --file")
    if sql is not None:
        return sql
    try:
        return sys.stdin.read() if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandFailed(f"{file or 'standard input'} cannot be read: {exc}") from exc


def _print_result(result: dict[str, Any]) -> None:
    rows, meta = result["results"], result["meta"]
    if rows:
        table = new_table(*(escape(column) for column in rows[0]))
        for row in rows:
            table.add_row(*("NULL" if value is None else escape(str(value)) for value in row.values()))
        print_table(table)
    else:
        out.print(f"{meta['changes']:,} rows changed, {meta['duration']:.1f} ms", markup=False)


async def _export(data: Path, engine: str, actor: ActorId, file: Path) -> None:
    async with operator_of(data, engine, writes=False) as operator:
        try:
            view = await operator.show(actor)
        except Invalid as exc:
            hint = "the sql_database blocks of the manifest name those there are; one that was never used holds nothing yet"
            raise CommandFailed(f"no database {actor.unit!r} holds anything", hint) from exc
        with progress_of(BarColumn(), DownloadColumn()) as progress:
            task = progress.add_task("exporting", total=view.line.size_bytes)
            await operator.export(actor, file, lambda size_bytes: progress.advance(task, size_bytes))


async def _import(data: Path, engine: str, actor: ActorId, source: Path, overwrite: bool) -> int:
    """Prepare the file where a server finds it, and have it committed."""
    folder = data / IMPORTS
    folder.mkdir(exist_ok=True)
    prepared = folder / f"{Chance().hex(8)}.sqlite"
    try:
        with progress_of(BarColumn(), DownloadColumn()) as progress:
            task = progress.add_task("reading", total=source.stat().st_size)
            await asyncio.to_thread(
                prepare_database, source, prepared, lambda size_bytes: progress.update(task, completed=size_bytes)
            )
            progress.update(task, description="committing", total=None)
            async with operator_of(data, engine, writes=True) as operator:
                await operator.import_sql(actor, prepared, overwrite)
        return prepared.stat().st_size
    finally:
        prepared.unlink(missing_ok=True)


def _dump(database: Path, file: Path) -> None:
    """Write the statements that make the database."""
    import apsw.shell  # noqa: PLC0415 - every command would wait for it

    with closing(apsw.Connection(str(database))) as connection, file.open("w", encoding="utf-8") as stream:
        written: Any = _Statements(stream)  # all that the shell asks of a stream
        shell: Any = apsw.shell.Shell(stdout=written, db=connection)
        shell.process_command(".dump")


class _Statements:
    """What a dump is written to, without its first lines: they tell of the machine and the user that made it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_begun = False

    def write(self, text: str) -> None:
        self._has_begun = self._has_begun or text.startswith("PRAGMA ")
        if self._has_begun:
            self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False
