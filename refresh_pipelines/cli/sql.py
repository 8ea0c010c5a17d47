"""`refresh sql`: a question to the warehouse, read only, in turn with the refreshes."""

from __future__ import annotations

import click
import duckdb

from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.warehouse import open_warehouse


@click.command()
@click.argument("statement")
@json_option
def sql(statement: str, as_json: bool) -> None:
    """Ask the warehouse a question in SQL, read only.

    Tables lie in schema raw, load state in schema refresh: `refresh sql "SELECT * FROM
    raw.fred_economic LIMIT 5"`. Waits while a refresh is writing, and holds refreshes up for as
    long as the statement runs.
    """
    try:
        names, rows = open_warehouse(load_settings()).query(statement)
    except (duckdb.Error, RefreshError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows], ok=True)
    else:
        print_table(names, rows)
