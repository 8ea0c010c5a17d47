"""What a commit would do, seen in a transaction that is rolled back: rows, columns, and the verdict on the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refresh_pipelines.differences import Row, shown
from refresh_pipelines.effects import Effects
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import Commit
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.merge import Place
from refresh_pipelines.warehouse.modes import leaving
from refresh_pipelines.warehouse.state import columns_of
from refresh_pipelines.warehouse.statements import Statements


def seen(connection: Connection, commit: Commit, place: Place, examples: int) -> Effects:
    """Return what the merge of a commit will do to rows; to be asked before it. Changes nothing.

    Args:
        examples: how many rows of each kind.
    """
    with dialect_of(connection).stage(connection, commit.spec, commit.staged):
        look = _Look(Statements(connection, commit, place.table), examples)
        appends = commit.spec.load.mode == "append"
        counted = {} if appends else look.changed_columns()
        return Effects(look.added(), look.updated() if counted else (), look.deleted(commit), counted)


def with_columns(connection: Connection, commit: Commit, before: Mapping[str, str], effects: Effects) -> Effects:
    """Return the effects with the columns that the table has now and did not have before."""
    after = columns_at(connection, commit)
    new = {name: kind for name, kind in after.items() if name not in before and not name.startswith("_")}
    return replace(effects, new_columns=new, creates=not before)


def columns_at(connection: Connection, commit: Commit) -> dict[str, str]:
    """Return name and type of each column of the raw table; {} where there is none yet."""
    return {name: kind for name, kind, _ in columns_of(connection, "raw", commit.spec.raw_table)}


class _Look:
    """Queries beside a merge."""

    def __init__(self, step: Statements, examples: int) -> None:
        self.step, self.examples = step, examples
        self.key, self.names = step.spec.merge_key, tuple(step.spec.columns)
        self.order = ", ".join(quote(name) for name in self.key)

    def changed_columns(self) -> dict[str, int]:
        """Count the rows that will change, by column."""
        compared = self.step.compared
        if not compared:
            return {}
        counts = ", ".join(f"count(*) FILTER (WHERE t.{quote(n)} IS DISTINCT FROM s.{quote(n)})" for n in compared)
        query = f"SELECT {counts} FROM {self.step.table} t, staged s WHERE {self.step.outdated}"  # noqa: S608 - quoted
        row = first_row(self.step.connection, query, self.step.named(query)) or ()
        return {name: int(count) for name, count in zip(compared, row, strict=True) if count}

    def added(self) -> list[dict[str, str]]:
        """Return rows whose key is new."""
        return self._rows(f"SELECT {columns(self.names, 's.')} FROM staged s WHERE {self.step.new}")  # noqa: S608

    def deleted(self, commit: Commit) -> list[dict[str, str]]:
        """Return rows that will leave the table."""
        out = leaving(self.step, commit)
        if out.condition is None:
            return []
        query = f"SELECT {columns(self.names, 't.')} FROM {self.step.table} t WHERE {out.condition}"  # noqa: S608
        return self._rows(query, out.keys)

    def updated(self) -> list[Row]:
        """Return rows that will change, with each column that does, old and new."""
        compared, key = self.step.compared, self.key
        pairs = ", ".join(f"t.{quote(n)}, s.{quote(n)}, t.{quote(n)} IS DISTINCT FROM s.{quote(n)}" for n in compared)
        query = (
            f"SELECT {columns(key, 's.')}, {pairs} FROM {self.step.table} t, staged s WHERE {self.step.outdated}"  # noqa: S608
            f" ORDER BY {', '.join(str(n + 1) for n in range(len(key)))} LIMIT {self.examples}"
        )
        rows = []
        for row in self.step.connection.execute(query, self.step.named(query)).fetchall():
            cells = row[len(key) :]
            differing = zip(compared, cells[::3], cells[1::3], cells[2::3], strict=True)
            changes = {name: (shown(old), shown(new)) for name, old, new, differs in differing if differs}
            rows.append(Row({name: shown(value) for name, value in zip(key, row, strict=False)}, changes))
        return rows

    def _rows(self, query: str, keys: object = ()) -> list[dict[str, str]]:
        limited = f"SELECT * FROM ({query}) r ORDER BY {self.order} LIMIT {self.examples}"  # noqa: S608 - own queries
        found = self.step.connection.execute(limited, self.step.named(limited, keys)).fetchall()
        return [{name: shown(value) for name, value in zip(self.names, row, strict=True)} for row in found]
