"""SQL identifiers: checked, then quoted. No statement is ever built from data."""

from __future__ import annotations

import re
from typing import Any

import duckdb

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def quote(name: str) -> str:
    """Return `name` as a quoted identifier; raise ValueError unless it is a plain name."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"not an identifier: {name!r}")
    return f'"{name}"'


def columns(names: list[str] | tuple[str, ...], prefix: str = "") -> str:
    """Return quoted names separated by commas, each with an optional table prefix."""
    return ", ".join(f"{prefix}{quote(name)}" for name in names)


def first_row(connection: duckdb.DuckDBPyConnection, statement: str, values: object = None) -> tuple[Any, ...] | None:
    """Run a statement to its end and return its first row.

    DuckDB 2 refuses further work on a connection whose last result was not read to the end, so
    `fetchone` alone would not do.
    """
    rows = connection.execute(statement, values).fetchall()
    return rows[0] if rows else None
