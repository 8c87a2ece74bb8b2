"""`stead secrets`: the values of the manifest's variables that are nobody else's business."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from stead.cli.console import CommandFailed, Commands, new_table, out, print_json, print_table
from stead.cli.options import Json
from stead.cli.units import App, Data, data_of
from stead.manifest import Application, load_manifest
from stead.node import SecretStore, declared_variables, find_values, manifest_path

_RESTART = "a server that runs sees it after its next start"

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Set secrets, list their names, and delete them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The variable's name in the manifest.")]


@app.command("set")
def set_(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Keep a secret, encrypted. Its value is read from standard input, or asked for; it is never an argument."""
    _check_declared(load_manifest(manifest_path(place)), name)
    _store(place, data).set(name, _read_value(name))
    if json:
        print_json({"set": name})
    else:
        out.print(f"set {name}; {_RESTART}", markup=False)


@app.command("list")
def list_secrets(place: App = Path(), data: Data = None, json: Json = False) -> None:
    """List the manifest's variables and the secrets that are kept, with where each has its value from. Values are not shown."""
    path = manifest_path(place)
    manifest, store = load_manifest(path), _store(place, data)
    found = find_values(manifest, path.parent, store, os.environ, is_development=True)
    stored = store.names()
    variables = {variable.name: variable for variable in reversed(declared_variables(manifest))}
    lines = []
    for name in sorted({*variables, *stored}):
        variable = variables.get(name)
        default = "default" if variable is not None and variable.default is not None else None
        source = found[name][1].value if name in found else default
        set_at = stored[name].isoformat(timespec="seconds") if name in stored else None
        is_secret = variable is not None and variable.secret
        lines.append({"name": name, "secret": is_secret, "declared": variable is not None, "source": source, "set_at": set_at})
    if json:
        print_json({"variables": lines})
        return
    table = new_table("name", "kind", "value from", "kept since (UTC)")
    for line in lines:
        kind = "secret" if line["secret"] else "variable" if line["declared"] else "not in the manifest"
        table.add_row(str(line["name"]), kind, str(line["source"] or "nowhere"), str(line["set_at"] or "")[:19].replace("T", " "))
    print_table(table)


@app.command()
def delete(name: Name, place: App = Path(), data: Data = None, json: Json = False) -> None:
    """Forget a secret."""
    if not _store(place, data).delete(name):
        raise CommandFailed(f"there is no secret {name}", "`stead secrets list` shows those there are")
    if json:
        print_json({"deleted": name})
    else:
        out.print(f"deleted {name}; {_RESTART}", markup=False)


def _store(place: Path, data: Path | None) -> SecretStore:
    return SecretStore(data_of(place, data), os.environ)


def _check_declared(manifest: Application, name: str) -> None:
    known = [variable.name for variable in declared_variables(manifest)]
    if name not in known:
        hint = f"there are: {', '.join(known)}" if known else f'declare it first: env "{name}" {{ secret = true }}'
        raise CommandFailed(f"the manifest has no variable {name}", hint)


def _read_value(name: str) -> str:
    if sys.stdin.isatty():
        value: str = typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return value
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CommandFailed(f"the value of {name} is not UTF-8 text", "encode it, in base64 for instance") from None
