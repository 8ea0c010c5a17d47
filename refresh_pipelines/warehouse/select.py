"""A query over raw tables whose rows go to a file, as text. Reads; changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.sql import first_row

# What DuckDB refuses for what the query says, and not for the state of disk or memory.
_OF_THE_QUERY = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.InvalidInputException,
    duckdb.DataError,
)


def write_result(connection: duckdb.DuckDBPyConnection, query: str, tables: Collection[str], path: Path) -> None:
    """Write the rows of one SELECT over `tables` of schema raw to an Arrow file, every value as DuckDB's text.

    The query sees neither files nor network.

    Raises:
        ContractViolation: it is no single SELECT, reads other tables, cannot be run, or names a column twice.
    """
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    try:
        _require_tables(connection, query, tables)
        _write(connection, query, path)
    except _OF_THE_QUERY as error:
        raise ContractViolation(
            "the query cannot be run",
            came=str(error).strip()[:1000],
            todo="Nothing was loaded. Correct derive.query; `refresh sql` shows tables and columns.",
        ) from error


def _require_tables(connection: duckdb.DuckDBPyConnection, query: str, tables: Collection[str]) -> None:
    """Let no query read what the gate does not watch: its result would change without anybody building it anew."""
    allowed = {f"raw.{table}" for table in tables}
    foreign = tables_of(connection, query) - allowed
    if foreign:
        raise ContractViolation(
            "the query reads a table that no required source loads",
            expected=", ".join(sorted(allowed)),
            came=", ".join(sorted(foreign)),
            todo="Nothing was loaded. Add the table's source to `requires`; tables are named with their schema.",
        )


def tables_of(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    """Return the tables one SELECT reads, as `schema.table`; of a name without a schema the name alone.

    DuckDB's own parser says so; its `get_table_names` refuses ASOF JOIN.

    Raises:
        ContractViolation: it is no single SELECT.
        duckdb.ParserException: it is no SQL.
    """
    kinds = [statement.type.name for statement in connection.extract_statements(query)]
    if kinds != ["SELECT"]:
        raise ContractViolation(
            "derive.query is not one SELECT", expected="SELECT", came=", ".join(kinds) or "nothing", todo="Correct it."
        )
    row = first_row(connection, "SELECT json_serialize_sql(?::VARCHAR)", [query])
    nodes = list(_nodes(json.loads(row[0]) if row else {}))
    ours = {str(entry["key"]).lower() for node in nodes for entry in _ctes(node)}
    named = {
        ".".join(filter(None, (node.get("schema_name"), node["table_name"]))).lower()
        for node in nodes
        if node.get("type") == "BASE_TABLE"
    }
    return named - ours


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    result = connection.sql(query)
    twice = [name for name, count in Counter(name.lower() for name in result.columns).items() if count > 1]
    if twice:
        raise ContractViolation(
            f"the query gives {', '.join(twice)} more than once", todo="Name each column once (… AS name)."
        )
    schema = pa.schema([(name, pa.string()) for name in result.columns])
    # The Arrow protocol, and not a method: DuckDB 1 and 2 have no name for it in common.
    reader = pa.RecordBatchReader.from_stream(result.project("CAST(COLUMNS(*) AS VARCHAR)"))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in reader:
            writer.write_batch(
                pa.RecordBatch.from_arrays([one.cast(pa.string()) for one in batch.columns], schema=schema)
            )
