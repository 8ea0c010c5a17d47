"""The raw tables as they were at an instant, for one SELECT that names them as ever.

Of a source with `load.history` a row was there at an instant if a version of it was valid then: the present one, which
began with `_updated_at`, or one that has ended since.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timezone

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.sql import Connection, columns, quote
from refresh_pipelines.warehouse.history import past_of
from refresh_pipelines.warehouse.state import columns_of, exists, made_tables

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Past:
    """What is known at an instant of the raw tables that a statement names.

    Attributes:
        selects: by table, the SELECT that gives its rows, of those that keep versions.
        since: by table, from when on all versions are known; None: from its first load on.
        without: tables that keep none, each with the sources that would have to.
        keeping: all tables that keep versions, named or not.
    """

    at: datetime
    selects: dict[str, str]
    since: dict[str, datetime | None]
    without: dict[str, list[str]]
    keeping: Sequence[str]

    def notes(self) -> list[str]:
        """Say which tables are not wholly known at the instant."""
        return [
            f"raw.{table}: all versions are kept since {since:%Y-%m-%d %H:%M:%S} UTC; of the time before, rows that "
            "have changed or were deleted by then are missing"
            for table, since in self.since.items()
            if since and since > self.at
        ]

    def refused(self, came: str) -> ContractViolation:
        """Return the error of a statement that cannot be run: because it reads tables without versions, or at all."""
        if not self.without:
            return ContractViolation("the statement cannot be run", expected="one SELECT", came=came)
        sources = sorted({source for lacking in self.without.values() for source in lacking})
        known = ", ".join(f"raw.{table}" for table in self.keeping) or "none yet"
        return ContractViolation(
            f"no versions are kept of {', '.join(f'raw.{table}' for table in self.without)}",
            expected=f"a table whose sources have load.history: true ({known})",
            todo=f"Write it into the YAML of {', '.join(sources)}: versions are kept from the next refresh on.",
        )


def instant_of(text: str) -> datetime:
    """Read a day, which means its end, or an instant; without an offset both are UTC.

    Raises:
        ValueError: it is neither.
    """
    if _DAY.fullmatch(text):
        return datetime.combine(date.fromisoformat(text), time.max, timezone.utc)
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at.replace(tzinfo=at.tzinfo or timezone.utc).astimezone(timezone.utc)


def look_back(connection: Connection, statement: str, at: datetime, raw: str, history: str) -> Past:
    """Find out what is known at `at` of the raw tables that a statement names.

    Args:
        raw: what stands before the names of raw tables in the SELECTs; `history` before those of past versions.
    """
    known: dict[str, dict[str, datetime | None]] = {}
    if exists(connection, "refresh", "histories"):
        for source, table, since in connection.execute("SELECT * FROM refresh.histories ORDER BY 1").fetchall():
            known.setdefault(table, {})[source] = since
    past = Past(at, {}, {}, {}, sorted(known))
    made = made_tables(connection) if exists(connection, "refresh", "tables") else []
    for table in [table for table in made if _named(statement, table)]:
        lacking = _lacking(connection, table, known.get(table, {}))
        if lacking or table not in known:
            past.without[table] = lacking
            continue
        past.selects[table] = _select(connection, table, at, raw, history)
        past.since[table] = max((one for one in known[table].values() if one), default=None)
    return past


def _lacking(connection: Connection, table: str, known: dict[str, datetime | None]) -> list[str]:
    """Return the sources that have rows in a table and keep no versions."""
    query = f"SELECT DISTINCT _source FROM raw.{quote(table)} ORDER BY 1"  # noqa: S608 - quoted identifier
    return [source or "nobody we know" for (source,) in connection.execute(query).fetchall() if source not in known]


def _select(connection: Connection, table: str, at: datetime, raw: str, history: str) -> str:
    names: Sequence[str] = [name for name, *_ in columns_of(connection, "raw", table)]
    instant = f"TIMESTAMPTZ '{at.isoformat()}'"
    past = past_of(table).removeprefix("history.")
    return (
        f"SELECT {columns(tuple(names))} FROM {raw}.{quote(table)} WHERE _updated_at <= {instant}"  # noqa: S608 - quoted
        f" UNION ALL SELECT {columns(tuple(names))} FROM {history}.{past}"
        f" WHERE _updated_at <= {instant} AND _valid_to > {instant}"
    )


def _named(statement: str, table: str) -> bool:
    return re.search(rf'\braw"?\s*\.\s*"?{table}\b', statement, re.IGNORECASE) is not None
