"""Random sequences of payloads against a plain-Python model of what the table must hold."""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.warehouse.merge import merge
from refresh_pipelines.warehouse.state import ensure_state_tables, read_states, write_state
from refresh_pipelines_tests.workbench import NOW, commit_of, spec_of

COLUMNS = {
    "name": (
        {"type": "text", "nullable": False, "strip": False},
        ["a", "A", "ä", "\U0001f327 x", "'; DROP TABLE raw.t; --"],
    ),
    "number": ({"type": "int", "nullable": False}, ["0", "-2147483648", "2147483647"]),
    "value": ({"type": "double"}, [None, "0.0", "-0.0", "5e-324", "1.7976931348623157e308", "0.1"]),
    "amount": ({"type": "decimal(20,2)"}, [None, "0.00", "-0.01", "999999999999999999.99"]),
    "big": ({"type": "bigint"}, [None, "-9223372036854775808", "9223372036854775807"]),
    "flag": ({"type": "bool"}, [None, "true", "false"]),
    "day": ({"type": "date"}, [None, "0001-01-01", "9999-12-31"]),
    "at": ({"type": "timestamptz"}, [None, "2026-01-31T23:59:59.999999Z", "1899-12-31T00:00:00Z"]),
    "note": ({"type": "text", "strip": False}, [None, "NULL", "ü\n'\"\\", " ", "日本語"]),
    "noise": ({"type": "int"}, [None, "1", "2"]),
}
READ = {
    "int": int, "bigint": int, "double": float, "text": str, "date": date.fromisoformat,
    "decimal(20,2)": Decimal, "bool": "true".__eq__,
    "timestamptz": lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")),
}  # fmt: skip
KEY, VOLATILE = ("name", "number"), "noise"
SPECS = {
    (source, mode): spec_of(
        source,
        table="t",
        columns={name: declared for name, (declared, _) in COLUMNS.items()},
        merge_key=KEY,
        load={"mode": mode, "volatile": [VOLATILE]},
    )
    for source in ("one", "two")
    for mode in ("merge", "replace_partition")
}

# Few values a column, so that keys meet again, across payloads, partitions and sources.
row = st.fixed_dictionaries({name: st.sampled_from(values) for name, (_, values) in COLUMNS.items()})
payload = st.lists(row, max_size=4).flatmap(
    lambda rows: st.lists(st.sampled_from(rows), max_size=2).map(lambda again: rows + again) if rows else st.just(rows)
)
step = st.tuples(st.sampled_from(["one", "one", "two"]), st.sampled_from([None, "2026-01-01", "p|é"]), payload)


def typed(raw: dict) -> tuple:
    return tuple(
        None if raw[name] is None else READ[declared["type"]](raw[name]) for name, (declared, _) in COLUMNS.items()
    )


class Model:
    """The table as a dictionary: key -> [values, source, partition, first seen, updated, run]."""

    def __init__(self, mode: str) -> None:
        self.mode, self.rows = mode, {}

    def apply(self, source, partition, payload, now, run):
        """Return the counts, or None for a payload that must be refused."""
        distinct = {typed(raw): None for raw in payload}
        new = {values[:2]: values for values in distinct}
        if len(new) < len(distinct) or any(self._foreign(key, source, partition) for key in new):
            return None
        deleted = [key for key in self.rows if self._vanished(key, new, source, partition)]
        for key in deleted:
            del self.rows[key]
        added = updated = 0
        for key, values in new.items():
            old = self.rows.get(key)
            if old is None:
                self.rows[key], added = [values, source, partition, now, now, run], added + 1
            elif old[0][:-1] != values[:-1]:
                self.rows[key], updated = [values, source, partition, old[3], now, run], updated + 1
        duplicates = len(payload) - len(new)
        return len(payload), added, updated, len(new) - added - updated, len(deleted), duplicates

    def _foreign(self, key, source, partition):
        old = self.rows.get(key)
        return old and (old[1] != source or (self.mode == "replace_partition" and old[2] != partition))

    def _vanished(self, key, new, source, partition):
        return self.mode == "replace_partition" and key not in new and self.rows[key][1:3] == [source, partition]

    def table(self):
        return sorted(((*values, *rest) for values, *rest in self.rows.values()), key=repr)


@pytest.mark.parametrize("mode", ["merge", "replace_partition"])
@settings(max_examples=12)
@given(steps=st.lists(step, min_size=1, max_size=5))
def test_after_each_payload_the_table_and_the_counts_are_those_of_the_model(mode, steps):
    model = Model(mode)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        ensure_state_tables(connection)
        for number, (source, partition, payload) in enumerate(steps):
            now, run = NOW + timedelta(hours=number), f"run-{number}"
            expected = model.apply(source, partition, payload, now, run)
            counts = load(connection, SPECS[source, mode], partition, payload, Path(folder), now, run)
            assert counts == expected
            assert table(connection) == model.table()


def load(connection, spec, partition, payload, folder, now, run):
    connection.begin()
    try:
        commit = commit_of(spec, payload, folder, partition, run_id=run, at=now)
        merged = merge(connection, commit, 0)
        write_state(connection, merged.state)
    except ContractViolation:
        connection.rollback()
        return None
    connection.commit()
    counts = merged.state.counts
    assert counts.balanced()
    assert read_states(connection, spec.source)[partition or ""] == merged.state
    mine = connection.execute(
        "SELECT count(*) FROM raw.t WHERE _source = ? AND _partition IS NOT DISTINCT FROM ?", [spec.source, partition]
    ).fetchall()
    assert (merged.partition_rows, merged.table_rows) == (mine[0][0], len(table(connection)))
    return counts.fetched, counts.added, counts.updated, counts.unchanged, counts.deleted, counts.duplicates


def table(connection):
    try:
        rows = connection.execute("SELECT * FROM raw.t").fetchall()
    except duckdb.CatalogException:
        return []  # no payload was accepted yet
    utc = [tuple(v.astimezone(timezone.utc) if isinstance(v, datetime) else v for v in row) for row in rows]
    return sorted(utc, key=repr)
