"""Parquet into rows of text: every type as it would be written, legacy times, nested values, damage, row groups."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.parquet import BATCH, read_parquet
from refresh_pipelines.stage import stage
from refresh_pipelines.window import Window
from refresh_pipelines_tests.recorded import recorded
from refresh_pipelines_tests.workbench import spec_of

SPEC = spec_of(format="parquet")
UTC = dt.timezone.utc


def written(table, **how) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table if isinstance(table, pa.Table) else pa.table(table), out, **how)
    return out.getvalue()


def rows(body: bytes, spec=SPEC):
    return [row for batch in read_parquet(io.BytesIO(body), spec) for row in batch.to_pylist()]


def texts(values: pa.Array, spec=SPEC, **how):
    return [row["v"] for row in rows(written({"v": values}, **how), spec)]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([1, -2, None], pa.int32()), ["1", "-2", None]),
        (pa.array([2**63 - 1], pa.int64()), ["9223372036854775807"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([7], pa.int8()), ["7"]),
        (pa.array([19.2, 0.1, 1e22, -0.5]), ["19.2", "0.1", "1e+22", "-0.5"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([1.5], pa.float16()), ["1.5"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["007", "", "é"]), ["007", "", "é"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([b"bytes"], pa.binary()), ["bytes"]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array([Decimal("12.30"), Decimal("-0.05")], pa.decimal128(9, 2)), ["12.30", "-0.05"]),
        (pa.array([Decimal("0.0000000001")], pa.decimal128(12, 10)), ["0.0000000001"]),
        (pa.array([Decimal(10**40)], pa.decimal256(45, 0)), [str(10**40)]),
        (pa.array([dt.date(2026, 1, 31), dt.date(1, 1, 1)]), ["2026-01-31", "0001-01-01"]),
        (pa.array([dt.date(2026, 1, 31)], pa.date64()), ["2026-01-31"]),
        (pa.array([dt.time(12, 30)], pa.time64("us")), ["12:30:00"]),
        (pa.array([dt.timedelta(seconds=2)], pa.duration("ms")), ["2000"]),
        (pa.nulls(2), [None, None]),
        (pa.array([[1, None], []]), ["[1,null]", "[]"]),
        (pa.array([{"a": "é", "b": {"c": 1.5}}, None]), ['{"a":"é","b":{"c":1.5}}', None]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), ['{"k":1}']),
        (pa.array([[Decimal("1.0"), None]], pa.list_(pa.decimal128(4, 1))), ['["1.0",null]']),
        (pa.array([[float("nan")]]), ["[null]"]),
    ],
)  # fmt: skip
def test_a_value_of_any_type_is_the_text_it_would_be_written_as(values, wanted):
    assert texts(values) == wanted


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_an_instant_is_written_in_utc_and_a_time_without_a_zone_without_one(unit):
    at = dt.datetime(2026, 3, 29, 1, 30, 15, 250_000, UTC)
    paris = pa.array([at, None], pa.timestamp(unit, "Europe/Paris"))
    assert texts(paris) == ["2026-03-29 01:30:15.25Z", None]
    assert texts(pa.array([at], pa.timestamp(unit))) == ["2026-03-29 01:30:15.25"]
    assert texts(pa.array([at.replace(microsecond=0)], pa.timestamp(unit))) == ["2026-03-29 01:30:15"]


@pytest.mark.parametrize("year", [1677, 2026, 2300])
def test_legacy_int96_times_are_right_also_outside_the_range_of_nanoseconds(year):
    at = pa.array([dt.datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC)], pa.timestamp("us"))
    assert texts(at, use_deprecated_int96_timestamps=True) == [f"{year}-01-02 03:04:05"]


def test_a_legacy_time_is_utc_where_an_instant_is_wanted():
    at = pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)], pa.timestamp("us"))
    instant = spec_of(columns={"v": {"type": "timestamptz"}}, merge_key=["v"])
    assert texts(at, instant, use_deprecated_int96_timestamps=True) == ["2026-01-02 03:04:05Z"]
    assert texts(at, instant) == ["2026-01-02 03:04:05"]


def test_int32_int64_double_and_text_of_one_column_load_as_the_same_rows(tmp_path):
    hashes = set()
    for number, kind in enumerate([pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.decimal128(20, 0)]):
        values = pa.array([1, 2]).cast(pa.int64() if kind != pa.string() else kind).cast(kind)
        file = tmp_path / f"{number}.parquet"
        file.write_bytes(written({"k": ["a", "b"], "n": values, "t": pa.nulls(2, pa.string())}))
        hashes.add(stage(SPEC, [file], Window(), tmp_path / "rows.arrow", Notes()).content_hash)
    assert len(hashes) == 1


def test_dotted_paths_lead_into_structs_and_a_renamed_member_is_missing(tmp_path):
    spec = spec_of(format="parquet", columns={"k": {"type": "text", "from": "who.name.first"}}, merge_key=["k"])
    file = tmp_path / "a.parquet"
    file.write_bytes(written({"who": [{"name": {"first": "Ada"}}, {"name": {"first": "Bo"}}]}))
    staged = stage(spec, [file], Window(), tmp_path / "rows.arrow", Notes())
    assert staged.table()["k"].to_pylist() == ["Ada", "Bo"]
    file.write_bytes(written({"who": [{"name": {"given": "Ada"}}]}))
    with pytest.raises(ContractViolation, match=r"'k' \(read from 'who\.name\.first'\) is missing"):
        stage(spec, [file], Window(), tmp_path / "rows.arrow", Notes())


def test_a_uuid_is_written_with_its_hyphens():
    one = uuid.UUID(int=1)
    storage = pa.array([one.bytes, None], pa.binary(16))
    assert texts(pa.ExtensionArray.from_storage(pa.uuid(), storage)) == [str(one), None]


def test_bytes_that_are_no_text_are_refused_with_the_column():
    with pytest.raises(ContractViolation, match="column 'v' of the Parquet file has no text"):
        texts(pa.array([b"\xff\xfe"], pa.binary()))


def test_a_file_without_rows_still_names_its_columns():
    [batch] = read_parquet(io.BytesIO(written({"k": pa.array([], pa.string())})), SPEC)
    assert (batch.num_rows, batch.schema.names) == (0, ["k"])


def test_a_file_of_many_row_groups_comes_in_batches():
    body = written({"v": pa.array(range(BATCH * 2 + 5))}, row_group_size=BATCH + 1)
    sizes = [batch.num_rows for batch in read_parquet(io.BytesIO(body), SPEC)]
    assert sum(sizes) == BATCH * 2 + 5 and max(sizes) <= BATCH


def test_a_file_that_unpacks_to_more_than_allowed_is_refused_before_it_is_read():
    body = written({"v": pa.array(["x" * 1000] * 1000)}, use_dictionary=False)
    small = spec_of(request={"url": "https://example.org/a", "max_unpacked": "100KB"})
    with pytest.raises(UpstreamRefused, match="unpacks to more than request"):
        rows(body, small)


WHOLE = written({"k": ["a", "b"] * 50, "n": list(range(100))})


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_transient(length):
    with pytest.raises(UpstreamUnavailable, match="truncated or damaged"):
        rows(WHOLE[:length])


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_one_of_our_errors_or_read(hits):
    body = bytearray(WHOLE)
    for place, change in hits:
        body[place] ^= change
    with contextlib.suppress(UpstreamUnavailable, UpstreamRefused, ContractViolation):
        rows(bytes(body))


def test_a_recorded_file_gives_every_value_of_every_row():
    for path in recorded("s3-events/ocean.parquet"):
        ours = rows(path.read_bytes())
        theirs = parquet.read_table(path).to_pylist()
        assert len(ours) == len(theirs) == 1073
        for mine, row in zip(ours, theirs, strict=True):
            assert mine.pop("timestamp") == str(row.pop("timestamp"))
            assert {k: None if v is None else float(v) for k, v in mine.items()} == row
