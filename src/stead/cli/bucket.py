"""`stead bucket`: who may use the S3 endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from stead.admin import Units
from stead.cli.console import CommandFailed, Commands, err, new_table, out, print_json, print_table
from stead.cli.options import Json
from stead.cli.units import App, Data, check_unit, find_units, with_units
from stead.manifest import S3_CREDENTIALS

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Let S3 clients use an application's buckets.")


@app.command("create-credential")
def create_credential(
    buckets: Annotated[list[str] | None, typer.Option("--bucket", help="Let it use this bucket only; may be repeated.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let it read and list only.")] = False,
    place: App = Path(),
    data: Data = None,
    json: Json = False,
) -> None:
    """Create a credential. Its secret is shown this once."""

    async def work(units: Units) -> Any:
        for bucket in buckets or ():
            await check_unit(units, "bucket", bucket)
        return await _operate(units, "create", {"buckets": buckets or None, "read_only": read_only})

    made = with_units(place, data, work)
    if json:
        print_json(made)
        return
    out.print(f"access key id      {made['access_key_id']}", markup=False)
    out.print(f"secret access key  {made['secret_access_key']}", markup=False)
    err.print("the secret is shown this once: keep it now", style="dim")


@app.command("list-credentials")
def list_credentials(place: App = Path(), data: Data = None, json: Json = False) -> None:
    """List the credentials, without their secrets."""
    found = with_units(place, data, lambda units: _operate(units, "all", {}))
    lines = [{name: value for name, value in line.items() if name != "secret_access_key"} for line in found]
    if json:
        print_json({"credentials": lines})
        return
    table = new_table("access key id", "buckets", "may", "created (UTC)")
    for line in lines:
        names = "all" if line["buckets"] is None else ", ".join(line["buckets"])
        may = "read" if line["read_only"] else "read and write"
        table.add_row(line["access_key_id"], escape(names), may, line["created_at"][:19].replace("T", " "))
    print_table(table)


@app.command("delete-credential")
def delete_credential(
    access_key_id: Annotated[str, typer.Argument(metavar="ID", help="The access key id.")],
    place: App = Path(),
    data: Data = None,
    json: Json = False,
) -> None:
    """End a credential: requests that it signed are refused from now on."""
    if not with_units(place, data, lambda units: _operate(units, "delete", {"access_key_id": access_key_id})):
        raise CommandFailed(f"there is no credential {access_key_id!r}", "`stead bucket list-credentials` shows those there are")
    if json:
        print_json({"deleted": access_key_id})
    else:
        out.print(f"deleted {access_key_id}", markup=False)


async def _operate(units: Units, operation: str, arguments: dict[str, Any]) -> Any:
    if not await find_units(units, "bucket"):
        raise CommandFailed("the application has no bucket", 'declare one in its manifest: bucket "files" { }')
    return await units.operate(S3_CREDENTIALS.lower(), operation, arguments)
