"""CSV bytes into rows of text: headers, marks at the beginning, quotes, encodings, and rows that do not fit."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import LONGEST, ContractViolation, UpstreamRefused
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.csv import BLOCK, MOST_COLUMNS, read_csv
from refresh_pipelines.spec import Format

BOM = b"\xef\xbb\xbf"


def read(body: bytes, notes: Notes | None = None, **form):
    stream = io.BufferedReader(io.BytesIO(body), 1 << 18)  # as open_payload gives it
    batches = list(read_csv(stream, Format(kind="csv", **form), notes or Notes()))
    return batches[0].schema.names, [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def test_a_header_names_the_columns_and_values_stay_text():
    assert read(b"id, day\n007,1e3\n,\xc3\xa5 \n") == (["id", "day"], [("007", "1e3"), ("", "å ")])


def test_without_a_header_the_declared_fields_name_them_and_the_first_row_is_data():
    assert read(b"1,2\n3,4\n", fields=("a", "b")) == (["a", "b"], [("1", "2"), ("3", "4")])


@pytest.mark.parametrize(
    "body", [b"a,b\r\n1,2\r\n", b"a,b\r1,2\r", b"a,b\n1,2", b"\n\na,b\n\n1,2\n\n", b'"a","b"\n"1","2"\n']
)
def test_line_ends_blank_lines_and_quotes_make_no_difference(body):
    assert read(body) == (["a", "b"], [("1", "2")])


def test_quotes_hold_commas_newlines_and_quotes():
    assert read(b'a,b\n"x, ""y""\nz",2\n') == (["a", "b"], [('x, "y"\nz', "2")])


def test_other_delimiters_and_no_quotes_are_declared():
    assert read(b'a|b\n"1|2"\n', delimiter="|", quote="") == (["a", "b"], [('"1', '2"')])


def test_lines_before_the_header_are_skipped():
    assert read(b"made by,\xff hand\n\na,b\n1,2\n", skip_lines=1) == (["a", "b"], [("1", "2")])


@pytest.mark.parametrize(
    ("body", "came"),
    [
        (b"a,b\n1\n", "Expected 2 columns, got 1"),
        (b"a,b\n1,2\n3,4,5\n", "Expected 2 columns, got 3: 3,4,5"),
        (b"a,b\n1,2\n" * 3 + b"<html>\n", "Expected 2 columns, got 1: <html>"),
    ],
)
def test_a_row_of_another_width_stops_the_load_and_is_shown(body, came):
    with pytest.raises(
        ContractViolation, match=r"the CSV is not regular; expected as many fields .* as in the header"
    ) as caught:
        read(body)
    assert came in str(caught.value)


def test_a_first_row_of_another_width_than_declared_stops_the_load():
    with pytest.raises(ContractViolation, match=r"expected 3 fields \(a … c\); got 2 fields"):
        read(b"1,2\n", fields=("a", "b", "c"))


def test_a_later_row_of_another_width_than_declared_says_how_many_are_due():
    with pytest.raises(ContractViolation, match=r"expected 2 fields in every row; got .*Expected 2 columns, got 1"):
        read(b"1,2\n3\n", fields=("a", "b"))


def test_a_wrong_row_far_down_is_found_too():
    body = b"a,b\n" + b"1,2\n" * (2 * BLOCK // 4) + b"3\n"
    with pytest.raises(ContractViolation, match="not regular"):
        read(body)


def test_a_header_that_names_a_field_twice_is_refused():
    with pytest.raises(ContractViolation, match="names a field twice; expected different names; got a, b"):
        read(b"b,a,c,a , b\n1,2,3,4,5\n")


def test_bytes_of_a_wrong_row_are_shown_without_what_upsets_a_terminal():
    with pytest.raises(ContractViolation, match="not regular") as caught:
        read(b"PK\x03\x04\x1b[2J\n\x00,\x07,\x9b\n")
    assert str(caught.value).isprintable()


def test_a_header_of_names_without_end_is_shown_in_part():
    with pytest.raises(ContractViolation, match="names a field twice") as caught:
        read(b",".join(2 * [b"name %d" % i for i in range(2000)]) + b"\n")
    assert len(str(caught.value)) < 2 * LONGEST


def test_json_on_one_line_is_refused_at_first_sight():
    with pytest.raises(ContractViolation, match=r"got \d+ fields or more"):
        read(b'[{"t": "2015-01-01", "v": [1, 2, 3]}' + b', {"t": "2015-01-01", "v": [1, 2, 3]}' * 20_000 + b"]\n")


def test_commas_in_quotes_are_no_fields():
    shape = b'"POLYGON ((' + b"1 2, " * MOST_COLUMNS + b'3 4))"'
    assert read(b"1," + shape + b"\n", fields=("id", "shape"))[0] == ["id", "shape"]


def test_fields_without_a_name_get_one_by_position():
    assert read(b"a,,\n1,2,3\n")[0] == ["a", "unnamed_2", "unnamed_3"]


def test_a_header_alone_gives_its_names_and_no_rows():
    assert read(b"a,b\n") == (["a", "b"], [])


@pytest.mark.parametrize("body", [b"", b"\n\n\n", b"\r\n", b"   "])
def test_nothing_but_white_space_is_refused(body):
    with pytest.raises(UpstreamRefused, match="the CSV holds nothing"):
        read(body)


def test_more_columns_than_can_be_kept_as_text_are_refused():
    with pytest.raises(ContractViolation, match=f"got {MOST_COLUMNS + 1} fields"):
        read(b",".join(b"c%d" % i for i in range(MOST_COLUMNS + 1)) + b"\n")


def test_stray_latin_1_values_are_read_with_the_fallback_and_counted():
    notes = Notes()
    body = "name,town\nJosé,Zürich\n".encode() + "José,Zürich\n".encode("latin-1") + b"plain,plain\n"
    assert read(body, notes, fallback="latin-1")[1] == [("José", "Zürich"), ("José", "Zürich"), ("plain", "plain")]
    assert notes.fallbacks == 2
    assert notes.texts() == ["2 values were read with the fallback encoding"]


def test_a_header_in_the_fallback_encoding_is_read_too():
    assert read("größe,b\n1,2\n".encode("latin-1"), fallback="latin-1")[0] == ["größe", "b"]


@pytest.mark.parametrize(
    ("body", "where"),
    [(b"a,b\n1,2\n3,\xff\n", "row 2 is not utf-8"), (b"\xff,b\n1,2\n", "the header is not utf-8")],
)
def test_without_a_fallback_bytes_that_are_no_text_stop_the_load(body, where):
    with pytest.raises(ContractViolation, match=where + r".*got b'\\xff' in.*format.encoding"):
        read(body)


def test_bytes_that_neither_encoding_reads_stop_the_load():
    with pytest.raises(ContractViolation, match="row 1 is not utf-8 or cp1252"):
        read(b"a\n\x81\xff\n", fallback="cp1252")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "UTF8", "utf-8-sig"])
def test_a_declared_encoding_is_read(encoding):
    assert read("a,b\nü,ß\n".encode(encoding), encoding=encoding) == (["a", "b"], [("ü", "ß")])


@pytest.mark.parametrize(("encoding", "bad"), [("cp1252", b"a\n\x81\n"), ("utf-16-le", b"a\0\n\0\x00\xd8")])
def test_bytes_outside_a_declared_encoding_stop_the_load(encoding, bad):
    with pytest.raises(ContractViolation, match=f"the CSV is not {encoding}"):
        read(bad * 2, encoding=encoding)


PLAIN = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=8))
def test_whatever_csv_is_written_is_read_back(rows):
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([("a", "b", "c"), *rows])
    assert read(out.getvalue().encode())[1] == rows


@given(st.binary(max_size=200))
def test_no_bytes_are_a_defect(body):
    try:
        names, rows = read(body, fallback="latin-1")
    except (ContractViolation, UpstreamRefused):
        return
    assert all(len(row) == len(names) for row in rows)


def test_batches_are_bounded_however_long_the_file():
    line = b"x" * 999 + b"\n"
    stream = io.BufferedReader(io.BytesIO(b"a\n" + line * 12_000))
    batches = list(read_csv(stream, Format(kind="csv"), Notes()))
    assert sum(batch.num_rows for batch in batches) == 12_000
    assert max(pa.RecordBatch.get_total_buffer_size(batch) for batch in batches) < 2 * BLOCK
