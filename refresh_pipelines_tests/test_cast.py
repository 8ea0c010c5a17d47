"""Text into typed columns: what each type takes, what it refuses, and that nothing is bent to fit."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from refresh_pipelines.cast import arrow_type, cast_text
from refresh_pipelines.rules.values import is_value
from refresh_pipelines.spec import Column

UTC = timezone.utc


def cast(texts, kind, **column):
    """Return the values and which of them are bad."""
    values, bad = cast_text(pa.array(texts, pa.string()), Column(type=kind, **column))
    assert values.type == arrow_type(Column(type=kind).type) and len(values) == len(bad) == len(texts)
    return values.to_pylist(), bad.to_pylist()


def accepts(text, kind, expected, **column):
    assert cast([text], kind, **column) == ([expected], [False])


def refuses(text, kind, **column):
    assert cast([text], kind, **column)[1] == [True], text
    # Beside good values too, where whole columns cannot be cast at once.
    assert cast([text, "", None], kind, **column)[1] == [True, False, False]


@pytest.mark.parametrize(
    "kind", ["text", "int", "bigint", "double", "decimal(9,2)", "bool", "date", "timestamp", "timestamptz", "json"]
)
def test_nothing_is_null_in_every_type_and_is_not_bad(kind):
    assert cast([None, "", "  ", "\t\n"], kind) == ([None] * 4, [False] * 4)
    assert cast([], kind) == ([], [])


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_int_is_read_as_written(number):
    accepts(str(number), "int", number)
    accepts(f"{number:+012d}", "int", number)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_bigint_is_read_as_written(number):
    accepts(str(number), "bigint", number)


@pytest.mark.parametrize(("text", "value"), [("000107693", 107693), ("-0", 0), (" 7 ", 7), ("0" * 40 + "1", 1)])
def test_padded_whole_numbers_are_read(text, value):
    accepts(text, "bigint", value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", str(2**31)), ("int", str(-(2**31) - 1)), ("bigint", str(2**63)), ("bigint", str(-(2**63) - 1))],
)
def test_whole_numbers_out_of_bounds_are_refused(kind, text):
    refuses(text, kind)


@pytest.mark.parametrize(
    "text", ["1.0", "1e3", "0x1f", "1,000", "1_000", "--1", "+", "12,5 bbl", "٣", "1 2", "1\n2", "NaN"]
)
def test_what_is_no_whole_number_is_refused(text):
    refuses(text, "int")
    refuses(text, "bigint")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_read_as_written(number):
    accepts(repr(number), "double", number)


@pytest.mark.parametrize(
    ("text", "value"), [(".5", 0.5), ("5.", 5.0), ("+1.5", 1.5), ("1E-3", 0.001), ("1e-400", 0.0), ("-0.001", -0.001)]
)
def test_doubles_are_read_in_their_usual_forms(text, value):
    accepts(text, "double", value)


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e400", "1,5", "0x10", "1_0", "<2.5", "(1)", "."]
)
def test_doubles_that_are_not_finite_numbers_are_refused(text):
    refuses(text, "double")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-9999999, max_value=9999999))
def test_a_decimal_is_read_as_written(number):
    accepts(str(number), "decimal(9,2)", number)


@pytest.mark.parametrize(
    ("text", "value"), [("1", "1.00"), ("+1.5", "1.50"), ("1e2", "100.00"), (".5", "0.50"), ("1.500", "1.50")]
)
def test_decimals_are_read_in_their_usual_forms(text, value):
    accepts(text, "decimal(9, 2)", Decimal(value))


@pytest.mark.parametrize("text", ["1.555", "12345678.00", "1,5", "NaN", "Infinity", "1e99999999999", "x"])
def test_decimals_that_would_be_rounded_or_do_not_fit_are_refused(text):
    refuses(text, "decimal(9,2)")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("FALSE", False), ("1", True), ("0", False)])
def test_truth_values_are_read(text, value):
    accepts(text, "bool", value)


@pytest.mark.parametrize("text", ["yes", "t", "2", "-1", "wahr"])
def test_other_words_are_no_truth_values(text):
    refuses(text, "bool")


@given(st.dates())
def test_a_date_is_read_as_written(day):
    accepts(day.isoformat(), "date", day)


@pytest.mark.parametrize(
    "text", ["2023-02-31", "2023-02-29", "0000-01-01", "2023-2-5", "20230205", "10000-01-01", "2023-02-05T00:00", "May"]
)
def test_what_is_no_iso_date_is_refused(text):
    refuses(text, "date")


FORMATS = ["%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%d %B %Y", "%Y-%j", "%Y-%m-%d %H:%M"]


@given(st.dates(min_value=date(1000, 1, 1)), st.sampled_from(FORMATS))
def test_a_date_of_any_format_is_read_as_written(day, pattern):
    accepts(day.strftime(pattern), "date", day, format=pattern)
    accepts(day.strftime(pattern).upper(), "date", day, format=pattern)


@pytest.mark.parametrize(
    ("text", "pattern", "value"),
    [
        ("202501", "%Y%m", date(2025, 1, 1)), ("2/5/2023", "%d/%m/%Y", date(2023, 5, 2)),
        ("02/05/2023", "%d/%m/%Y", date(2023, 5, 2)), ("5/2/99", "%d/%m/%y", date(1999, 2, 5)),
        ("OCT-1998", "%b-%Y", date(1998, 10, 1)),
    ],
)  # fmt: skip
def test_zeros_and_capitals_may_differ_from_the_format(text, pattern, value):
    accepts(text, "date", value, format=pattern)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("20230231", "%Y%m%d"), ("31.02.2023", "%d.%m.%Y"), ("202313", "%Y%m"), ("202500", "%Y%m"), ("20231", "%Y%m"),
        ("2023021", "%Y%m%d"), ("2025-01-01", "%Y%m"), ("20250101", "%Y%m"), ("202501x", "%Y%m"),
        ("1.1.0000", "%d.%m.%Y"),
        ("Mon 3 2026", "%a %m %Y"), ("13/05/2023", "%m/%d/%Y"), ("99999-01-01", "%Y-%m-%d"),
    ],
)  # fmt: skip
def test_dates_that_only_parse_by_accident_are_refused(text, pattern):
    refuses(text, "date", format=pattern)


@given(st.datetimes(min_value=datetime(1000, 1, 1)))  # noqa: DTZ001
def test_a_timestamp_is_read_as_written(moment):
    accepts(moment.isoformat(), "timestamp", moment)
    accepts(moment.isoformat(sep=" "), "timestamp", moment)
    whole = moment.replace(microsecond=0)
    accepts(whole.strftime("%d.%m.%Y %H:%M:%S UTC"), "timestamp", whole, format="%d.%m.%Y %H:%M:%S UTC")


@pytest.mark.parametrize(
    "text", ["2023-01-01T10:00:00Z", "2023-01-01T10:00:00+01:00", "2023-01-01T24:00", "2023-02-30T00:00"]
)
def test_a_timestamp_takes_no_offset_and_no_impossible_time(text):
    refuses(text, "timestamp")


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_a_timestamptz_is_the_instant_its_offset_says(moment, minutes):
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    accepts(aware.isoformat(), "timestamptz", aware.astimezone(UTC))


@pytest.mark.parametrize("text", ["2023-01-01T10:00:00Z", "2023-01-01 10:00:00+00", "2023-01-01T12:00+0200"])
def test_offsets_are_read_in_their_usual_forms(text):
    accepts(text, "timestamptz", datetime(2023, 1, 1, 10, tzinfo=UTC))


@pytest.mark.parametrize(
    "text", ["2023-01-01T10:00:00", "2023-01-01", "2023-01-01T10:00:00 CET", "2023-01-01T10:00:00.1234567Z"]
)
def test_a_timestamptz_without_an_offset_is_refused(text):
    refuses(text, "timestamptz")


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '"x"', "1.50", "null", '"\\\\u0000"'])
def test_json_stays_the_text_it_is(text):
    accepts(text, "json", text)


@pytest.mark.parametrize("text", ["{", "x", "NaN", "[Infinity]", '"\\u0000"', '"\\ud800"', "[" * 100_000, '{"a":}'])
def test_json_that_some_warehouse_would_not_take_is_refused(text):
    refuses(text, "json")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


@given(st.recursive(st.none() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_any_document_is_json(value):
    accepts(json.dumps(value), "json", json.dumps(value))


def test_text_with_nul_is_refused():
    refuses("a\0b", "text")


def test_white_space_around_values_goes_unless_it_is_kept():
    assert cast([" a b "], "text")[0] == ["a b"]
    assert cast([" a b ", " ", ""], "text", strip=False)[0] == [" a b ", " ", None]


def test_missing_codes_belong_to_their_column_and_are_exact():
    assert cast([".", " . ", "..", "999", "0"], "double", missing=["."])[0] == [None, None, None, 999.0, 0.0]
    assert cast([".", "..", "999"], "double", missing=["."])[1] == [False, True, False]
    assert cast(["999", "999.0"], "double", missing=["999"])[0] == [None, 999.0]


@pytest.mark.parametrize("kind", ["int", "bigint", "double", "decimal(9,2)"])
def test_bounds_are_part_of_what_is_allowed(kind):
    assert cast(["-1", "0", "31", "32", ""], kind, min=0, max=31)[1] == [True, False, False, True, False]
    assert cast(["-1", "99"], kind, min=0)[1] == [True, False]
    assert cast(["-1", "99"], kind, max=31)[1] == [False, True]


@given(
    st.lists(st.text(max_size=8) | st.none(), max_size=6),
    st.sampled_from(["int", "double", "bool", "date", "timestamptz", "decimal(4,1)", "json"]),
)
def test_no_text_is_a_defect(texts, kind):
    values, bad = cast(texts, kind)
    assert all(value is None for value, wrong in zip(values, bad, strict=True) if wrong)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            {"type": "timestamptz", "format": "%Y-%m-%d"},
            "format cannot be used with timestamptz, because it reads no zone",
        ),
        ({"type": "int", "format": "%Y"}, "format goes with date and timestamp, not with int"),
        ({"type": "text", "format": "%Y"}, "format goes with date and timestamp, not with text"),
        ({"type": "timestamp", "format": "%Y-%m-%dT%H:%M%z"}, "has %z; it may hold %Y %m %d"),
        ({"type": "timestamp", "format": "%S.%f"}, "has %f"),
        ({"type": "date", "format": "YYYYMMDD"}, "has no field"),
        ({"type": "date", "format": "%Y%"}, "has %; it may"),
        ({"type": "date", "min": 3}, "values of it, not 3.0 .such as 2000-01-01."),
        ({"type": "int", "min": "2000-01-01"}, "values of it, not 2000-01-01 .such as 10."),
        ({"type": "int", "min": 3, "max": 2}, "min 3 is greater than max 2"),
        ({"type": "text", "max": 3}, "min and max go with numbers, dates and times, not with text"),
        ({"type": "text", "enum": ["a", 1]}, "holds texts, not 1 .put it in quotes."),
        ({"type": "json", "enum": ["1"]}, "enum does not go with json"),
        ({"type": "int", "pattern": "1"}, "pattern and max_length go with text, not with int"),
        ({"type": "text", "pattern": "("}, "is no regular expression"),
        ({"type": "text", "pattern": "a(?!b)"}, "has .{1,3}!, which RE2 does not know"),
        ({"type": "text", "pattern": r"(a)\1"}, "which RE2 does not know"),
        ({"type": "timestamp", "timezone": "Europe/Paris"}, "timezone goes with timestamptz, not with timestamp"),
        ({"type": "timestamptz", "ambiguous": "first"}, "ambiguous goes with timezone"),
    ],
)
def test_what_cannot_work_together_is_an_error_of_the_spec(column, message):
    with pytest.raises(ValidationError, match=message):
        Column(**column)


# What a column demands of its values.


@pytest.mark.parametrize(
    ("kind", "low", "high", "texts"),
    [
        ("date", "2000-01-01", "2024-12-31", ["1999-12-31", "2000-01-01", "2024-12-31", "2025-01-01"]),
        ("timestamp", "2000-01-01", "2024-12-31T12:00", ["1999-12-31T23:59:59", "2000-01-01", "2024-12-31T12:00:00",
                                                        "2024-12-31T12:00:01"]),
        ("timestamptz", "2000-01-01T00:00:00Z", "2024-12-31T12:00:00+01:00",
         ["1999-12-31T23:59:59Z", "2000-01-01T01:00:00+01:00", "2024-12-31T11:00:00Z", "2024-12-31T11:00:01Z"]),
    ],
)  # fmt: skip
def test_bounds_of_days_and_instants_are_allowed_themselves(kind, low, high, texts):
    assert cast([*texts, ""], kind, min=low, max=high)[1] == [True, False, False, True, False]


def test_a_day_that_yaml_has_read_is_a_bound_and_an_allowed_value():
    assert cast(["1999-12-31", "2000-01-01"], "date", min=date(2000, 1, 1))[1] == [True, False]
    assert cast(["1.1.2000", "2.1.2000"], "date", format="%d.%m.%Y", enum=[date(2000, 1, 1)])[1] == [False, True]


@pytest.mark.parametrize(
    ("kind", "allowed", "good", "bad"),
    [
        ("text", ["M", "F"], ["M", " F "], ["m", "X"]), ("int", [1, 2], ["1", "+2", "02"], ["3"]),
        ("decimal(4,1)", ["1.5"], ["1.50", "1.5"], ["1.6"]), ("bool", [True], ["true", "1"], ["false"]),
        ("timestamptz", ["2024-01-01T00:00:00Z"], ["2024-01-01T01:00:00+01:00"], ["2024-01-01T01:00:00Z"]),
    ],
)  # fmt: skip
def test_only_listed_values_are_allowed_after_they_are_typed(kind, allowed, good, bad):
    assert cast([*good, *bad, "", None], kind, enum=allowed)[1] == [False] * len(good) + [True] * len(bad) + [False] * 2


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[A-Z]{2}\d+", ["AB1"], ["AB1\n2", "xAB1", "AB"]),
        ("a|bc", ["a", "bc"], ["ac", "b"]),
        (r"\+\(1\)", ["+(1)"], ["1"]),
    ],
)
def test_a_pattern_is_that_of_the_whole_text(pattern, good, bad):
    assert cast([*good, *bad, None], "text", pattern=pattern)[1] == [False] * len(good) + [True] * len(bad) + [False]


def test_length_is_counted_in_characters():
    assert cast(["äöü", "äöüß", ""], "text", max_length=3)[1] == [False, True, False]


@given(
    st.text(st.sampled_from("0123456789-+:.TZ eE"), max_size=20) | st.dates().map(str) | st.integers().map(str),
    st.sampled_from(["int", "bigint", "decimal(4,1)", "date", "timestamp", "bool"]),
)
def test_what_the_rules_let_through_can_be_cast(text, kind):
    if is_value(text, kind):
        assert cast([text], kind)[1] == [False]


NEIGHBOURS = ["\u00a0é", "0x1f", "\0", "0" * 90, "0000-01-01", "inf", " ", ""]
WRITTEN = st.text(st.sampled_from("0123456789+-,./ :TZxe\0\té\u00a0"), max_size=12) | st.sampled_from(
    ["", "7", "+5", "-0", "007", "1_0", "2024-02-30", "2024-01-01", "2024-01-01 10:00:00", "0000-01-01", "NaN", "1e5"]
)


@pytest.mark.parametrize(
    "kind", ["text", "int", "bigint", "double", "decimal(9,2)", "bool", "date", "timestamp", "timestamptz"]
)
@given(
    texts=st.lists(st.none() | WRITTEN, max_size=6), missing=st.sampled_from([("",), ("7", "NaN")]), strip=st.booleans()
)
def test_what_a_text_is_read_as_does_not_hang_on_its_neighbours(kind, texts, missing, strip):
    declared = Column(type=kind, missing=missing, strip=strip)
    alone = [cast_text(pa.array([text], pa.string()), declared) for text in texts]
    # A slice of a longer column: its bytes begin and end somewhere within the buffer.
    together = cast_text(
        pa.array([*NEIGHBOURS, *texts, *NEIGHBOURS], pa.string()).slice(len(NEIGHBOURS), len(texts)), declared
    )
    among = cast_text(pa.array([*texts, *NEIGHBOURS], pa.string()), declared)
    for at, one in enumerate(alone):
        for found in (together, among):
            assert repr([part[at].as_py() for part in found]) == repr([part[0].as_py() for part in one])
