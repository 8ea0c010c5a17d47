"""`refresh sql`: a question to the warehouse, read only, in turn with the refreshes; also about the past."""

from __future__ import annotations

from datetime import datetime, timezone

import click
import duckdb

from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.warehouse.asof import instant_of


@click.command()
@click.argument("statement")
@click.option(
    "--as-of", metavar="DAY|TIME", help="See the raw tables as they were: at the end of a day, or at a time, in UTC."
)
@json_option
def sql(statement: str, as_of: str | None, as_json: bool) -> None:
    """Ask the warehouse a question in SQL, read only.

    Tables lie in schema raw, load state in schema refresh, every version of rows in schema history:
    `refresh sql "SELECT * FROM raw.fred_economic LIMIT 5"`. Waits while a refresh is writing, and holds
    refreshes up for as long as the statement runs.

    --as-of 2026-01-31 shows the tables of schema raw as they were when that day ended in UTC; --as-of
    "2026-01-31 08:00" and 2026-01-31T08:00+01:00 are instants, in UTC where no offset is written. It is for
    sources with `load.history: true`.
    """
    at = _instant(as_of) if as_of else None
    notes: list[str] = []
    try:
        warehouse = open_warehouse(load_settings())
        if at is None:
            names, rows = warehouse.query(statement)
        else:
            found = warehouse.query_as_of(statement, at)
            names, rows, notes = found.names, found.rows, found.notes
    except (duckdb.Error, RefreshError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    if at is not None:
        click.echo(f"raw tables as they were at {at:%Y-%m-%d %H:%M:%S.%f} UTC", err=True)
        for note in notes:
            click.echo(note, err=True)
    if as_json:
        more = {"as_of": at.isoformat(), "notes": notes} if at else {}
        print_json([dict(zip(names, row, strict=True)) for row in rows], ok=True, **more)
    else:
        print_table(names, rows)


def _instant(text: str) -> datetime:
    try:
        at = instant_of(text)
    except ValueError as error:
        raise click.UsageError(
            f"--as-of {text}: expected a day such as 2026-01-31, or a time such as '2026-01-31 08:00'"
        ) from error
    if at.date() > datetime.now(timezone.utc).date():
        raise click.UsageError(f"--as-of {text} lies in the future")
    return at
