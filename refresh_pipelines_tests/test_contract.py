"""Rows against the declared columns and the period asked for: what is kept, dropped, rejected, and what is said."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from refresh_pipelines.contract import Contract
from refresh_pipelines.errors import ContractViolation, WrongPeriod
from refresh_pipelines.parse import Notes
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.workbench import spec_of

COLUMNS = {"day": {"type": "date", "nullable": False}, "n": {"type": "int", "min": 0}, "t": {"type": "text"}}
JANUARY = {"time": "month", "start": "2025-01-01", "column": "day"}


def spec(columns=None, **changes):
    columns = columns or COLUMNS
    return spec_of(**{"columns": columns, "merge_key": [next(iter(columns))], **changes})


def batch(**columns):
    return pa.RecordBatch.from_pydict({name: pa.array(values, pa.string()) for name, values in columns.items()})


def apply(source, *batches, window=None, notes=None):
    """Return the rows that pass and what was counted."""
    contract = Contract(source, window or Window(), notes or Notes())
    rows = [row for typed in contract.apply(batches) for row in typed.to_pylist()]
    return rows, contract.tally


def test_good_rows_come_out_typed_in_the_declared_order_and_counted():
    rows, tally = apply(spec(), batch(t=["x", None], n=["1", ""], day=["2025-01-01", "2025-01-02"]))
    assert rows == [{"day": date(2025, 1, 1), "n": 1, "t": "x"}, {"day": date(2025, 1, 2), "n": None, "t": None}]
    assert list(rows[0]) == ["day", "n", "t"]
    assert (tally.fetched, tally.rejected, tally.filtered) == (2, 0, 0)


def test_a_missing_field_names_both_sides():
    columns = {**COLUMNS, "v": {"type": "int", "from": "value"}}
    with pytest.raises(ContractViolation) as caught:
        apply(spec(columns), batch(day=["2025-01-01"], val=["1"], n=["1"]))
    text = str(caught.value)
    assert "column 't' (read from 't'), 'v' (read from 'value') is missing from the payload" in text
    assert "expected fields day, n, t, value; got fields day, val, n." in text
    assert "samples/mini/" in text


def test_a_field_that_a_later_batch_has_not_is_missing_too():
    with pytest.raises(ContractViolation, match=r"'t' .* is missing from the payload"):
        apply(spec(), batch(day=["2025-01-01"], n=["1"], t=["x"]), batch(day=["2025-01-02"], n=["1"]))


def test_fields_nobody_declared_are_ignored_and_noted_once():
    notes = Notes()
    one = batch(day=["2025-01-01"], n=["1"], t=["x"], extra=["?"])
    two = batch(day=["2025-01-02"], n=["1"], t=["x"], extra=["?"], more=["?"])
    apply(spec(), one, one, two, notes=notes)
    assert notes.ignored == ["extra", "more"]
    assert notes.texts() == ["fields that are not declared: extra, more"]


def test_the_parent_of_a_dotted_path_is_not_called_ignored():
    notes = Notes()
    apply(spec({"k": {"type": "text", "from": "a.b"}}), batch(**{"a": ["{}"], "a.b": ["1"]}), notes=notes)
    assert notes.ignored == []


def rejected(source, *batches, window=None):
    with pytest.raises(ContractViolation) as caught:
        apply(source, *batches, window=window)
    return caught.value


def test_bad_values_stop_the_load_with_counts_and_row_numbers_across_batches():
    good = batch(day=["2025-01-01"] * 10, n=["1"] * 10, t=["x"] * 10)
    bad = batch(day=["2025-01-02", "2025-02-31", ""], n=["1", "many", "2"], t=["x"] * 3)
    error = rejected(spec(), good, bad, good)
    assert (error.fetched, error.rejected) == (23, 2)
    text = str(error)
    assert "2 of 23 rows do not fit the declared columns" in text
    assert "row 12: day='2025-02-31' is no date, not empty" in text
    assert "row 12: n='many' is no int, at least 0" in text
    assert "row 13: day='' is no date, not empty" in text


def test_three_examples_are_enough():
    error = rejected(spec(), batch(day=["x"] * 1000, n=["1"] * 1000, t=["y"] * 1000))
    assert error.rejected == 1000 and error.came.count("row ") == 3


def test_out_of_range_is_rejected():
    assert rejected(spec(), batch(day=["2025-01-01"], n=["-1"], t=[""])).rejected == 1


@pytest.mark.parametrize("value", [None, "", "  ", "n/a"])
def test_no_value_in_a_column_that_needs_one_is_rejected(value):
    columns = {"k": {"type": "text"}, "n": {"type": "text", "nullable": False, "missing": ["n/a"]}}
    assert rejected(spec(columns), batch(k=["a"], n=[value])).rejected == 1


def test_a_merge_key_needs_a_value_whether_or_not_it_says_so():
    assert rejected(spec({"k": {"type": "text"}}), batch(k=[None])).rejected == 1


def test_rows_without_a_needed_value_are_filtered_and_not_fetched():
    source = spec(load={"skip_missing": ["n"]})
    rows, tally = apply(
        source, batch(day=["2025-01-01", "2025-01-02", "2025-01-03"], n=["1", "", None], t=["", "", ""])
    )
    assert len(rows) == 1
    assert (tally.fetched, tally.filtered, tally.rejected) == (1, 2, 0)


def test_a_value_that_cannot_be_read_is_rejected_and_not_taken_for_missing():
    error = rejected(spec(load={"skip_missing": ["n"]}), batch(day=["2025-01-01"] * 2, n=["many", ""], t=["", ""]))
    assert (error.fetched, error.rejected) == (1, 1)


def test_no_batch_at_all_is_no_row():
    assert apply(spec())[1].fetched == 0


def month(outside="refuse", **more):
    return spec(partitions={**JANUARY, "outside": outside, **more})


def days(*values):
    return batch(day=list(values), n=["1"] * len(values), t=[""] * len(values))


def test_the_bounds_of_a_period_are_its_first_day_and_the_first_after_it():
    window = window_of(month(), "2025-02-01")
    rows, tally = apply(month("drop"), days("2025-01-31", "2025-02-01", "2025-02-28", "2025-03-01"), window=window)
    assert [row["day"].day for row in rows] == [1, 28]
    assert (tally.fetched, tally.filtered, tally.outside) == (2, 2, 2)


@pytest.mark.parametrize("outside", ["refuse", "drop"])
@pytest.mark.parametrize(
    ("values", "earlier"),
    [
        (["2025-01-05", "2025-01-31"], True),
        (["2025-03-01", "2025-04-01"], False),
        (["2025-01-31", "2025-03-01"], False),
    ],
)
def test_only_rows_of_other_periods_are_the_wrong_period(outside, values, earlier):
    with pytest.raises(WrongPeriod, match="holds only rows of another period") as caught:
        apply(month(outside), days(*values), window=window_of(month(), "2025-02-01"))
    assert caught.value.earlier is earlier
    assert f"expected day from 2025-02-01 to before 2025-03-01; got 2 rows from {values[0]} to {values[1]}." in str(
        caught.value
    )


def test_single_rows_of_other_periods_are_refused_or_dropped():
    window, mixed = window_of(month(), "2025-02-01"), days("2025-01-31", "2025-02-01")
    with pytest.raises(WrongPeriod, match="holds also rows of another period") as caught:
        apply(month(), mixed, window=window)
    assert not caught.value.earlier
    assert apply(month("drop"), mixed, window=window)[1].filtered == 1


def test_the_extent_of_other_periods_is_taken_over_all_batches():
    with pytest.raises(WrongPeriod, match="3 rows from 2024-11-30 to 2025-01-31"):
        apply(month(), days("2025-01-31"), days("2024-11-30", "2025-01-01"), window=window_of(month(), "2025-02-01"))


def test_examples_of_bad_rows_are_not_lost_behind_rows_that_are_dropped():
    dropped = batch(day=["2025-01-01"] * 5 + ["2025-02-01"], n=["x"] * 6, t=[""] * 6)
    error = rejected(month("drop"), dropped, window=window_of(month(), "2025-02-01"))
    assert (error.fetched, error.rejected) == (1, 1) and "row 6: n='x'" in error.came


def test_a_bad_date_of_the_period_is_rejected_and_not_of_another_period():
    error = rejected(month("drop"), days("2025-02-01", "2025-02-31"), window=window_of(month(), "2025-02-01"))
    assert (error.fetched, error.rejected) == (2, 1) and not isinstance(error, WrongPeriod)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "timestamptz",
            ["2025-02-01T05:59:59Z", "2025-02-01T07:00:00+01:00", "2025-02-01T06:59:59Z", "2025-02-01T07:00Z"],
        ),
        ("timestamp", ["2025-02-01T05:59:59", "2025-02-01T06:00:00", "2025-02-01T06:59:59", "2025-02-01T07:00"]),
    ],
)
def test_hours_are_bounded_by_the_instant(kind, texts):
    source = spec(
        {"at": {"type": kind}}, partitions={"time": "hour", "start": "2025-01-01", "column": "at", "outside": "drop"}
    )
    rows, tally = apply(source, batch(at=texts), window=window_of(source, "2025-02-01-06:00"))
    assert (len(rows), tally.filtered) == (2, 2)
    with pytest.raises(WrongPeriod, match="from 2025-02-01T06:00:00Z to before 2025-02-01T07:00:00Z"):
        apply(source, batch(at=texts[:1]), window=window_of(source, "2025-02-01-06:00"))


def test_static_partitions_take_rows_of_any_time():
    source = spec(partitions={"static": {"site": ["a"]}, "column": "day", "start": "2025-01-01", "lookback": "45d"})
    assert apply(source, days("1971-01-04", "2025-02-01"), window=window_of(source, "a"))[1].fetched == 2


PLACED = {
    "site": {"type": "text", "from": "{site}", "nullable": False},
    "since": {"type": "date", "from": "{start}"},
    "n": {"type": "int"},
}


def test_columns_are_filled_from_the_window():
    start = datetime(2025, 2, 1, tzinfo=timezone.utc)
    window = Window("x", start, start + timedelta(days=1), {"site": "44013"})
    assert apply(spec(PLACED), batch(n=["1"]), window=window)[0] == [
        {"site": "44013", "since": date(2025, 2, 1), "n": 1}
    ]


def test_columns_of_a_window_that_has_not_the_name_stay_empty():
    assert apply(spec(PLACED), batch(n=["1"]))[0] == [{"site": None, "since": None, "n": 1}]


def test_a_value_of_the_window_that_does_not_fit_the_column_is_rejected():
    source = spec({"k": {"type": "int", "from": "{site}"}, "n": {"type": "int"}})
    assert "k=" not in rejected(source, batch(n=["1"]), window=Window(names={"site": "x"})).came
    assert "{site}='x' is no int" in rejected(source, batch(n=["1"]), window=Window(names={"site": "x"})).came


# One value from several fields, and fields that need not be there.

JOINED = {"month": {"type": "date", "from": ["year", "month"], "format": "%Y %m"}, "n": {"type": "int"}}


def test_several_fields_are_joined_by_one_space():
    rows, _ = apply(spec(JOINED), batch(year=["2025", " 2025 "], month=["1", "12"], n=["1", "2"]))
    assert [row["month"] for row in rows] == [date(2025, 1, 1), date(2025, 12, 1)]


@pytest.mark.parametrize("parts", [("2025", ""), ("", "1"), ("2025", None), ("  ", "1"), (None, None)])
def test_a_value_of_which_a_part_is_missing_is_missing(parts):
    columns = {"k": {"type": "text"}, "at": {"type": "text", "from": ["year", "month"]}}
    assert apply(spec(columns), batch(k=["a"], year=[parts[0]], month=[parts[1]]))[0] == [{"k": "a", "at": None}]


def test_a_joined_value_that_will_not_do_is_told_with_both_fields():
    error = rejected(spec(JOINED), batch(year=["2025", "2025"], month=["13", ""], n=["1", "1"]))
    assert error.rejected == 2
    assert "row 1: year month='2025 13' is no date" in error.came and "row 2: year month=None is no date" in error.came


def test_the_codes_of_missing_are_those_of_the_joined_text():
    columns = {"k": {"type": "text"}, "at": {"type": "text", "from": ["a", "b"], "missing": ["0 0"]}}
    rows, _ = apply(spec(columns), batch(k=["x", "y"], a=["0", "0"], b=["0", "1"]))
    assert [row["at"] for row in rows] == [None, "0 1"]


def test_each_field_that_is_joined_must_be_there():
    with pytest.raises(ContractViolation, match=r"column 'month' \(read from 'year'\) is missing from the payload"):
        apply(spec(JOINED), batch(month=["1"], n=["1"]))


OPTIONAL = {
    "k": {"type": "text"},
    "n": {"type": "int", "optional": True},
    "at": {"type": "text", "from": ["y", "m"], "optional": True},
}


@pytest.mark.parametrize("fields", [{}, {"y": ["2025"]}, {"m": ["1"]}])
def test_a_payload_may_lack_an_optional_field_or_part_of_one(fields):
    assert apply(spec(OPTIONAL), batch(k=["a"], **fields))[0] == [{"k": "a", "n": None, "at": None}]


def test_an_optional_field_that_is_there_must_fit():
    assert rejected(spec(OPTIONAL), batch(k=["a"], n=["many"])).came == "row 1: n='many' is no int"


def test_a_field_may_be_there_in_some_batches_only_if_it_is_optional():
    rows, _ = apply(spec(OPTIONAL), batch(k=["a"], n=["1"]), batch(k=["b"]), batch(k=["c"], n=["3"], y=["1"], m=["2"]))
    assert [(row["n"], row["at"]) for row in rows] == [(1, None), (None, None), (3, "1 2")]


# Rows of nothing.


def test_a_blank_row_of_a_csv_is_no_row_and_one_of_json_is():
    columns = {"k": {"type": "text"}, "n": {"type": "int"}}
    blank = batch(k=["a", "", " ", None], n=["1", "", "", None])
    rows, tally = apply(spec(columns, format="csv"), blank)
    assert (len(rows), tally.fetched, tally.filtered) == (1, 1, 3)
    assert rejected(spec(columns), blank).rejected == 3


def test_a_row_with_any_value_is_a_row_also_if_the_value_will_not_do():
    columns = {"k": {"type": "text"}, "n": {"type": "int"}}
    error = rejected(spec(columns, format="csv"), batch(k=["", ""], n=["many", "1"]))
    assert (error.fetched, error.rejected) == (2, 2)


def test_what_the_partition_fills_does_not_make_a_row_of_commas_one():
    source = spec({"site": {"type": "text", "from": "{site}"}, "n": {"type": "int"}}, format="csv")
    rows, tally = apply(source, batch(n=["1", ""]), window=Window(names={"site": "a"}))
    assert (len(rows), tally.filtered) == (1, 1)


# Several payloads of one refresh.


def test_rows_are_counted_and_named_by_the_payload_they_came_in():
    source = spec({"k": {"type": "text", "from": "{series}"}, "n": {"type": "int"}})
    contract = Contract(source, Window(), Notes(), {"series"})
    for series, values in (("a", ["1", "2"]), ("b", ["3", "many"])):
        list(contract.take([batch(n=values)], {"series": series}))
    with pytest.raises(ContractViolation) as caught:
        contract.conclude()
    assert (caught.value.fetched, caught.value.rejected) == (4, 1)
    assert caught.value.came == "series=b row 2: n='many' is no int"
