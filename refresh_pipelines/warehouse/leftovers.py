"""What a source has in the warehouse, and its removal, inside an open transaction."""

from __future__ import annotations

from dataclasses import replace

from refresh_pipelines.sql import Connection, first_row, quote
from refresh_pipelines.warehouse.base import Holding, Remains
from refresh_pipelines.warehouse.evolved import forget_evolved
from refresh_pipelines.warehouse.history import count_versions, forget_versions, hide
from refresh_pipelines.warehouse.ledger import remove_files
from refresh_pipelines.warehouse.rejects import count_rejected, forget_rejected, quarantine_tables
from refresh_pipelines.warehouse.state import exists, made_tables


def find_remains(connection: Connection, source: str) -> Remains:
    """Count the load states and rows of a source; see `Warehouse.remains`."""
    if not exists(connection, "refresh", "load_state"):
        return Remains(source)
    result = connection.execute("SELECT * FROM refresh.load_state WHERE source = ?", [source])
    names = [column[0] for column in result.description or ()]
    states = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    own = {state.get("table") for state in states}
    holdings = [_holding(connection, source, table) for table in made_tables(connection)]
    mine = [held for held in holdings if held.rows or (held.table in own and not held.others)]
    versions = count_versions(connection, source)
    mine = [replace(held, versions=versions.get(held.table, 0)) for held in mine]
    rejected = sum(count_rejected(connection, source, table) for table in quarantine_tables(connection))
    return Remains(source, len(states), tuple(mine), rejected)


def remove(connection: Connection, remains: Remains) -> None:
    """Delete a source's rows and load states; drop the tables in which no other row is left."""
    for holding in remains.holdings:
        if holding.others:
            statement = f"DELETE FROM raw.{quote(holding.table)} WHERE _source = ?"  # noqa: S608 - quoted identifier
            connection.execute(statement, [remains.source])
        else:
            hide(connection, holding.table)
            connection.execute(f"DROP TABLE raw.{quote(holding.table)}")
            connection.execute('DELETE FROM refresh.tables WHERE "table" = ?', [holding.table])
    connection.execute("DELETE FROM refresh.load_state WHERE source = ?", [remains.source])
    remove_files(connection, remains.source)
    forget_versions(connection, remains.source)
    forget_rejected(connection, remains.source)
    forget_evolved(connection, remains.source)


def loaded_sources(connection: Connection) -> set[str]:
    """Return the names of all sources that have load state or rows; see `Warehouse.sources`."""
    if not exists(connection, "refresh", "load_state"):
        return set()
    queries = ["SELECT source FROM refresh.load_state"]
    queries += [f"SELECT DISTINCT _source FROM raw.{quote(table)}" for table in made_tables(connection)]  # noqa: S608 - quoted
    return {name for query in queries for (name,) in connection.execute(query).fetchall() if name}


def _holding(connection: Connection, source: str, table: str) -> Holding:
    query = f"SELECT count(*) FILTER (WHERE _source = ?), count(*) FROM raw.{quote(table)}"  # noqa: S608 - quoted identifier
    rows, all_rows = first_row(connection, query, [source]) or (0, 0)
    return Holding(table, int(rows), int(all_rows - rows))
