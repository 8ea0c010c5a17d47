"""SQL identifiers: checked, then quoted. No statement is ever built from data. And DuckDB's errors as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import duckdb

from refresh_pipelines.errors import ContractViolation, InternalError, Interrupted, RefreshError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Result(Protocol):
    """What a statement gave."""

    @property
    def description(self) -> Sequence[Any] | None:
        """For each column a sequence that begins with its name."""

    def fetchall(self) -> list[Any]:
        """Return all rows; of INSERT, UPDATE and DELETE one row with the number of rows they touched."""


class Connection(Protocol):
    """What the warehouses ask of a connection: DuckDB's own, and PostgreSQL's in the same manner.

    Values are `?` with a list, or `$name` with a dictionary.
    """

    def execute(self, statement: str, values: Any = None, /) -> Result:
        """Run a statement."""


def quote(name: str) -> str:
    """Return `name` as a quoted identifier; raise ValueError unless it is a plain name."""
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"not an identifier: {name!r}")
    return f'"{name}"'


def columns(names: list[str] | tuple[str, ...], prefix: str = "") -> str:
    """Return quoted names separated by commas, each with an optional table prefix."""
    return ", ".join(f"{prefix}{quote(name)}" for name in names)


def first_row(connection: Connection, statement: str, values: object = None) -> tuple[Any, ...] | None:
    """Run a statement to its end and return its first row.

    DuckDB 2 refuses further work on a connection whose last result was not read to the end, so
    `fetchone` alone would not do.
    """
    rows = connection.execute(statement, values).fetchall()
    return rows[0] if rows else None


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what DuckDB raises into a RefreshError that says what to do; `where` names the place.

    A signal handler that raises while a statement runs is turned by DuckDB into a bare RuntimeError,
    so a cancelled run would look like a defect: it becomes Interrupted.
    """
    try:
        yield
    except duckdb.Error as error:
        raise _as_ours(error, where) from error
    except RuntimeError as error:
        if "interrupted" not in str(error).lower():
            raise
        raise _interrupted(where) from error


def _as_ours(error: duckdb.Error, where: str) -> RefreshError:
    came = " ".join(str(error).split())[:300]
    if isinstance(error, duckdb.InterruptException):
        return _interrupted(where)
    if isinstance(error, duckdb.DataError | duckdb.IntegrityError):
        return ContractViolation(
            f"{where} cannot hold a value of the payload", came=came, todo="Nothing was loaded. Look at the payload."
        )
    if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
        return InternalError(
            f"{where} could not be read or written",
            came=came,
            todo="Nothing was loaded. Check disk space, memory and rights of REFRESH_DATA_DIR and REFRESH_WAREHOUSE.",
        )
    return InternalError(f"{where} refused a statement", came=came, todo="Nothing was loaded; please report it.")


def _interrupted(where: str) -> Interrupted:
    return Interrupted(f"cancelled while {where} was at work", todo="The table is as it was; run it again.")
