"""Both warehouses for the same test, and a person's look and hand in either, past our own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg.types.string import TextLoader

from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines.warehouse.postgres import PostgresWarehouse
from refresh_pipelines_tests.attached import AttachedWarehouse
from refresh_pipelines_tests.workbench import table_of

KINDS = ("duckdb", "postgres")
both = pytest.mark.parametrize("kind", KINDS)
Either = DuckDBWarehouse | PostgresWarehouse


class Addressed(PostgresWarehouse):
    """A warehouse that remembers its address, for the hand of a person."""

    def __init__(self, url: str, lock_timeout: float = 5) -> None:
        super().__init__(url, lock_timeout)
        self.url = url


def opened(kind: str, request: pytest.FixtureRequest, path: Path, *, attached: bool = False) -> Either:
    """An empty warehouse of one kind; a server is only started where one is asked for."""
    if kind == "postgres":
        return Addressed(request.getfixturevalue("postgres"))
    return (AttachedWarehouse if attached else DuckDBWarehouse)(path, 5)


def is_postgres(warehouse: Either) -> bool:
    return isinstance(warehouse, PostgresWarehouse)


def held(warehouse: Either, table: str) -> list[tuple]:
    """Every row with all columns, nulls last."""
    if isinstance(warehouse, DuckDBWarehouse):
        return table_of(warehouse.path, table)
    rows = by_hand(warehouse, f'SELECT * FROM raw."{table}"')
    return sorted(rows, key=lambda row: [(value is None, value) for value in row])


def by_hand(warehouse: Either, *statements: str) -> list[tuple]:
    """What a person does with a client of the database; return the rows of the last statement."""
    with _person(warehouse) as execute:
        for statement in statements:
            rows = execute(statement)
    return rows


@contextmanager
def _person(warehouse: Either) -> Iterator:
    if isinstance(warehouse, DuckDBWarehouse):
        with duckdb.connect(str(warehouse.path)) as connection:
            yield lambda statement: connection.execute(statement).fetchall()
        return
    with psycopg.connect(warehouse.url, autocommit=True, options="-c TimeZone=UTC") as connection:
        connection.adapters.register_loader("jsonb", TextLoader)

        def execute(statement: str) -> list[tuple]:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield execute
