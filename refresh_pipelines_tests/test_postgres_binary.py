"""Rows through binary COPY: what PostgreSQL then holds is what Arrow held, of every type."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Context, Decimal

import psycopg
import psycopg.types.string
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refresh_pipelines.cast import arrow_type
from refresh_pipelines.warehouse.postgres_binary import binary_blocks
from refresh_pipelines.warehouse.postgres_sql import POSTGRES

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
EXACT = Context(prec=60)
days, times = st.dates(), st.datetimes()


def decimals(precision, scale):
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-scale, EXACT))


VALUES = {
    "text": texts,
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "date": days,
    "timestamp": times,
    "timestamptz": times.map(lambda at: at.replace(tzinfo=timezone.utc)),
    "json": st.dictionaries(texts, st.none() | texts, max_size=2).map(json.dumps),
    "decimal(9,2)": decimals(9, 2),
    "decimal(38,0)": decimals(38, 0),
    "decimal(38,38)": decimals(38, 38),
    "decimal(5,5)": decimals(5, 5),
    "decimal(22,7)": decimals(22, 7),
}
ENDS = {
    "date": [date.min, date.max],
    "timestamp": [datetime.min, datetime.max],  # noqa: DTZ901 - of a type without a zone
    "double": [-0.0, 5e-324, 1.7976931348623157e308],
    "decimal(9,2)": [Decimal("0.00"), Decimal("-0.01"), Decimal("9999999.99")],
}


@pytest.fixture(scope="module")
def connection(postgres_server):
    with postgres_server.database() as name, psycopg.connect(postgres_server.url(name), autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        kinds = ", ".join(f'"{kind}" {POSTGRES.type(kind)}' for kind in VALUES)
        connection.execute(f"CREATE TABLE rows (number int, {kinds})")
        for kind in ("json", "jsonb"):
            connection.adapters.register_loader(kind, psycopg.types.string.TextLoader)
        yield connection


def through(connection, batches):
    connection.execute("TRUNCATE rows")
    with connection.cursor().copy("COPY rows FROM STDIN (FORMAT binary)") as copy:
        for block in binary_blocks(iter(batches), frozenset(["json"])):
            copy.write(block)
    return [list(row[1:]) for row in connection.execute("SELECT * FROM rows ORDER BY number").fetchall()]


def batch_of(rows, first=0):
    numbers = pa.array(range(first, first + len(rows)), pa.int32())
    columns = [pa.array([row[at] for row in rows], arrow_type(kind)) for at, kind in enumerate(VALUES)]
    return pa.RecordBatch.from_arrays([numbers, *columns], names=["number", *VALUES])


def plain(row):
    at = list(VALUES).index("json")
    return [value if place != at or value is None else json.loads(value) for place, value in enumerate(row)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(*(st.none() | values for values in VALUES.values())), max_size=6), st.integers(0, 6))
def test_every_value_arrives_as_it_was(connection, rows, cut):
    # In two batches, of which the second is a slice: its buffers do not begin with its first row.
    whole = batch_of(rows)
    came = through(connection, [whole.slice(0, cut), whole.slice(cut)])
    assert [plain(row) for row in came] == [plain(row) for row in rows]
    assert repr([row[3] for row in came]) == repr([row[3] for row in rows])  # minus nought equals nought


def test_the_ends_of_each_type_arrive_as_they_were(connection):
    most = max(map(len, ENDS.values()))
    ends = [ENDS.get(kind, []) + [None] * (most - len(ENDS.get(kind, []))) for kind in VALUES]
    rows = [list(row) for row in zip(*ends, strict=True)]
    assert repr(through(connection, [batch_of(rows)])) == repr(rows)


def test_more_rows_than_a_block_holds_arrive_in_their_order(connection):
    rows = [[str(n), n, None, None, None, None, None, None, None, None, None, None, None, None] for n in range(40_000)]
    assert [row[:2] for row in through(connection, [batch_of(rows)])] == [row[:2] for row in rows]
