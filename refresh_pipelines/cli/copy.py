"""`refresh copy`: move a warehouse to another place, from DuckDB to PostgreSQL or back."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.settings import SettingsError, read_warehouse
from refresh_pipelines.warehouse import open_warehouse


@click.command()
@click.option("--to", "url", required=True, help="The warehouse to fill: postgresql://… or duckdb:///path.")
@click.option("--replace", "empty", is_flag=True, help="Remove first what refreshes have made there.")
@json_option
def copy(url: str, empty: bool, as_json: bool) -> None:
    """Copy the warehouse to another place: tables, load states, file ledger.

    One transaction, verified table by table with row counts and hashes before it ends. The warehouse that is
    copied stays as it is; refreshes wait for a DuckDB file meanwhile, and those of PostgreSQL that end later
    are not in the copy. Set REFRESH_WAREHOUSE to the new address afterwards.
    """
    from refresh_pipelines.warehouse.copy import TargetNotEmpty, copy_warehouse  # noqa: PLC0415 - loads both drivers

    settings = load_settings()
    try:
        other = replace(settings, warehouse=read_warehouse(url, settings.root, settings.data_dir))
    except SettingsError as error:
        raise click.UsageError(str(error).replace("REFRESH_WAREHOUSE", "--to")) from error
    if other.warehouse == settings.warehouse:
        raise click.UsageError("--to is the warehouse in use")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.data_dir, prefix="copy-") as folder:
        try:
            done = copy_warehouse(
                open_warehouse(settings),
                open_warehouse(other),
                Path(folder),
                replace=empty,
                step=lambda table: None if as_json else click.echo(f"raw.{table} …", err=True),
            )
        except TargetNotEmpty as error:
            raise click.UsageError(f"{error}: {other.warehouse_name}; --replace removes them first") from error
    if as_json:
        print_json([asdict(one) for one in done], ok=True)
        return
    print_table(["TABLE", "ROWS", "HASH"], [(f"raw.{one.table}", one.rows, one.hash) for one in done])
    click.echo(f"\nCopied and compared. To use it: REFRESH_WAREHOUSE={other.warehouse_name} (with its password)")
