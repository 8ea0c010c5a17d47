"""A query over raw tables whose rows go to a file, as text. Reads; changes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import duckdb
import pyarrow as pa

from refresh_pipelines.errors import ContractViolation

_BATCH = 65_536
_ALIAS = re.compile(r"\s+AS\s+.*", re.IGNORECASE | re.DOTALL)
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
        _require_select(connection, query)
        _require_tables(connection, query, tables)
        _write(connection, query, path)
    except _OF_THE_QUERY as error:
        raise ContractViolation(
            "the query cannot be run",
            came=str(error).strip()[:1000],
            todo="Nothing was loaded. Correct derive.query; `refresh sql` shows tables and columns.",
        ) from error


def _require_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    kinds = [statement.type.name for statement in connection.extract_statements(query)]
    if kinds != ["SELECT"]:
        raise ContractViolation(
            "derive.query is not one SELECT", expected="SELECT", came=", ".join(kinds) or "nothing", todo="Correct it."
        )


def _require_tables(connection: duckdb.DuckDBPyConnection, query: str, tables: Collection[str]) -> None:
    """Let no query read what the gate does not watch: its result would change without anybody building it anew."""
    found = {_ALIAS.sub("", name).replace('"', "").lower() for name in connection.get_table_names(query, qualified=True)}
    allowed = {f"raw.{table}" for table in tables}
    if found - allowed:
        raise ContractViolation(
            "the query reads a table that no required source loads",
            expected=", ".join(sorted(allowed)),
            came=", ".join(sorted(found - allowed)),
            todo="Nothing was loaded. Add the table's source to `requires`; tables are named with their schema.",
        )


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    result = connection.sql(query)
    twice = [name for name, count in Counter(name.lower() for name in result.columns).items() if count > 1]
    if twice:
        raise ContractViolation(
            f"the query gives {', '.join(twice)} more than once", todo="Name each column once (… AS name)."
        )
    schema = pa.schema([(name, pa.string()) for name in result.columns])
    reader = result.project("CAST(COLUMNS(*) AS VARCHAR)").to_arrow_reader(_BATCH)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in reader:
            writer.write_batch(pa.RecordBatch.from_arrays([one.cast(pa.string()) for one in batch.columns], schema=schema))
