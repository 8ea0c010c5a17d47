"""Which rows a payload would add, change and lack, asked of staged rows beside the table. Changes nothing of it."""

from __future__ import annotations

from refresh_pipelines.differences import EXAMPLES, Differences, Row, shown
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import Commit
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.merge import prepare
from refresh_pipelines.warehouse.statements import Statements

_MINE = "t._source = $source AND t._partition IS NOT DISTINCT FROM $partition"


def differences(connection: Connection, commit: Commit) -> Differences:
    """Return a few rows of each kind, in the order of the merge key; the transaction is to be rolled back."""
    place = prepare(connection, commit)
    with dialect_of(connection).stage(connection, commit.spec, commit.staged):
        step = Statements(connection, commit, place.table)
        return Differences(_added(step), _updated(step), _gone(step, commit), _number_gone(step, commit))


def _added(step: Statements) -> list[Row]:
    key = step.spec.merge_key
    query = (
        f"SELECT {columns(key, 's.')} FROM staged s"  # noqa: S608 - quoted identifiers
        f" WHERE NOT EXISTS (SELECT 1 FROM {step.table} t WHERE {step.same_key})"
        f" ORDER BY {_order(key)} LIMIT {EXAMPLES}"
    )
    return [Row(_key(key, row), {}) for row in step.connection.execute(query).fetchall()]


def _updated(step: Statements) -> list[Row]:
    key, compared = step.spec.merge_key, step.compared
    if not compared:
        return []
    pairs = ", ".join(f"t.{quote(name)}, s.{quote(name)}" for name in compared)
    query = (
        f"SELECT {columns(key, 's.')}, {pairs} FROM {step.table} t JOIN staged s ON {step.same_key}"  # noqa: S608
        f" WHERE {step.differs} ORDER BY {_order(key)} LIMIT {EXAMPLES}"
    )
    found = []
    for row in step.connection.execute(query).fetchall():
        values = row[len(key) :]
        changed = zip(compared, values[::2], values[1::2], strict=True)
        changes = {name: (shown(old), shown(new)) for name, old, new in changed if old != new}
        found.append(Row(_key(key, row), changes))
    return found


def _gone(step: Statements, commit: Commit) -> list[Row]:
    key = step.spec.merge_key
    query = (
        f"SELECT {columns(key, 't.')} FROM {step.table} t WHERE {_only_there(step, commit)}"  # noqa: S608 - quoted
        f" ORDER BY {_order(key)} LIMIT {EXAMPLES}"
    )
    return [Row(_key(key, row), {}) for row in step.connection.execute(query, _values(step, commit)).fetchall()]


def _number_gone(step: Statements, commit: Commit) -> int:
    query = f"SELECT count(*) FROM {step.table} t WHERE {_only_there(step, commit)}"  # noqa: S608 - quoted identifiers
    found = first_row(step.connection, query, _values(step, commit))
    return int(found[0]) if found else 0


def _only_there(step: Statements, commit: Commit) -> str:
    """Return the condition on rows of the table that the payload lacks, from its own first instant on."""
    weight = commit.weight
    since = f" AND t.{quote(weight.time)} >= $first" if weight and weight.time and _first(commit) is not None else ""
    return f"{_MINE}{since} AND {step.gone}"


def _values(step: Statements, commit: Commit) -> dict[str, object]:
    first = {"first": _first(commit)} if _first(commit) is not None else {}
    return {"source": step.spec.source, "partition": commit.partition, **first}


def _first(commit: Commit) -> object:
    """Return where the payload begins, None for one whose missing rows would be deleted wherever they are."""
    return None if commit.weight is None or commit.spec.replaces else commit.weight.first


def _order(key: tuple[str, ...]) -> str:
    return ", ".join(str(number + 1) for number in range(len(key)))


def _key(key: tuple[str, ...], row: tuple[object, ...]) -> dict[str, str]:
    return {name: shown(value) for name, value in zip(key, row, strict=False)}
