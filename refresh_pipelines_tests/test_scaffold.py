"""What `refresh new` makes of payloads: format, types, names, merge key, address. No files but the payload's."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pytest

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.scaffold.address import Address, AddressError, read_address, variable_for
from refresh_pipelines.scaffold.columns import guess, plain_names
from refresh_pipelines.scaffold.plan import Place, probe_of
from refresh_pipelines.scaffold.reading import read_payload
from refresh_pipelines.scaffold.recognise import Hints
from refresh_pipelines.scaffold.samples import ROWS, cut

TABLE = "day;station;value\n2026-01-01;007;1.5\n2026-01-02;007;.\n"


def read(tmp_path, body, key=(), **hints):
    path = tmp_path / "payload"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    probe = probe_of(Place(tmp_path / "catalog", "group", "made"), Address("https://example.org/x"))
    return read_payload(path, probe, Hints(**hints), key)


def zipped(*names, body=TABLE):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, body)
    return out.getvalue()


def types(reading):
    return {guess.name: guess.column.type for guess in reading.columns}


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_makes_rows_of_one_width(tmp_path, mark):
    reading = read(tmp_path, TABLE.replace(";", mark))
    assert reading.form.delimiter == mark
    assert types(reading) == {"day": "date", "station": "text", "value": "double"}


def test_decimal_commas_do_not_pass_for_delimiters(tmp_path):
    reading = read(tmp_path, "a;b\n1,5;2,5\n3,5;4,5\n")
    assert reading.form.delimiter == ";"
    assert {guess.remark for guess in reading.columns} == {"numbers with a decimal comma, which are read as text"}


@pytest.mark.parametrize(
    ("encoding", "form"),
    [("utf-8", {}), ("utf-8-sig", {}), ("latin-1", {"encoding": "latin-1"}), ("utf-16", {"encoding": "utf-16"})],
)
def test_the_encoding_is_found(tmp_path, encoding, form):
    reading = read(tmp_path, "day,town\n2026-01-01,Orléans\n".encode(encoding))
    assert reading.form.model_dump(include={"encoding"}, exclude_defaults=True) == form
    assert list(types(reading)) == ["day", "town"]


def test_single_values_in_latin_1_do_not_make_the_file_latin_1(tmp_path):
    body = "town\nCotonou é\n".encode() + "Orléans\n".encode("latin-1")
    assert read(tmp_path, b"n," + body.replace(b"\n", b"\n1,", 2)).form.fallback == "latin-1"


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ("name,2019,2020\n", True),
        ("a,b,c\n", True),
        ("x,1.5,2026-01-01\n", False),
        ("5,6,7\n", False),
    ],
)
def test_a_header_is_a_first_row_of_texts_or_of_years(tmp_path, first, named):
    reading = read(tmp_path, first + "Benin,12.5,13\nTogo,14,15\n")
    assert (reading.form.fields == ()) is named
    assert reading.rows == (2 if named else 3)


def test_a_person_knows_better_whether_there_is_a_header(tmp_path):
    assert read(tmp_path, "a,b\nc,d\n", header=False).rows == 2
    reading = read(tmp_path, "1,2\n3,4\n", header=True)
    assert ([guess.field for guess in reading.columns], reading.rows) == (["1", "2"], 1)


def test_a_header_that_names_a_field_twice_is_read_by_position(tmp_path):
    reading = read(tmp_path, "day,value,value\n2026-01-01,1,2\n")
    assert reading.form.fields == ("day", "value", "value_2")
    assert reading.rows == 1


def test_lines_before_the_table_are_skipped(tmp_path):
    reading = read(tmp_path, "Prices of fuel\n\nmade on a Monday\nday,litre\n2026-01-01,1.5\n2026-01-02,1.6\n")
    assert reading.form.skip_lines == 3
    assert types(reading) == {"day": "date", "litre": "double"}


def test_archives_are_looked_into(tmp_path):
    assert read(tmp_path, gzip.compress(TABLE.encode())).form.archive == "gzip"
    one = read(tmp_path, zipped("folder/data.csv")).form
    assert (one.archive, one.member) == ("zip", "*")
    assert read(tmp_path, zipped("data.csv", "readme.pdf")).form.member == "*.csv"
    assert read(tmp_path, zipped("a.csv", "b.csv"), member="b*").form.member == "b*"


def test_the_one_list_of_objects_is_found_wherever_it_is(tmp_path):
    rows = [{"id": 1, "at": {"lat": 1.5, "lon": 2}}, {"id": 2, "at": {"lat": 1.75, "lon": None}}]
    for path, document in {"": rows, "a.b": {"n": 2, "a": {"b": rows}}, "1": [{"page": 1, "of": 9}, rows]}.items():
        reading = read(tmp_path, json.dumps(document))
        assert reading.form.rows == path
        assert types(reading) == {"id": "text", "at_lat": "double", "at_lon": "int"}


def test_of_several_lists_a_person_chooses_one(tmp_path):
    document = json.dumps({"areas": [{"id": "a"}], "values": [{"id": "b"}]})
    with pytest.raises(RefreshError, match=r"holds 2 lists.*'areas', 'values'.*--rows"):
        read(tmp_path, document)
    assert read(tmp_path, document, rows="values").form.rows == "values"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"<!DOCTYPE html><p>Sign in", "web page or XML"),
        (b"<?xml version='1.0'?><a/>", "web page or XML"),
        (zipped("xl/workbook.xml"), "is a workbook.*by hand, with `format: xlsx`"),
        (zipped("content.xml"), "spreadsheet"),
        (zipped("a.csv", "b.csv"), r"holds 2 files.*--member"),
        (b"PK\x03\x04 but no more", "begins like a ZIP"),
        (b"PAR1\x00\x01", "is a Parquet file.*by hand, with `format: parquet`"),
        (b"\x00\x01PAR1", "is binary"),
        (b'{"a": 1}\n{"a": 2}\n', "one JSON document a line.*by hand, with `format: jsonl`"),
        (b'{"a": [{"b": 1}', "no complete JSON"),
        (b'{"a": 1}', "no list of objects"),
        (b"#YY  MM DD  WDIR\n2026 01 01  310\n", "lined up by spaces"),
        (b"day,value\n", "no rows to learn from"),
        (b"day,value\n,\n", "no rows to learn from"),
        (b"a,b\n1,2\n1,2,3\n4,5\n", "no regular table"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, body, said):
    with pytest.raises(RefreshError, match=said):
        read(tmp_path, body)


@pytest.mark.parametrize(
    ("values", "kind", "pattern"),
    [
        (["1", "-20", "+3"], "int", None),
        (["1", "12345678901"], "bigint", None),
        (["1", "007"], "text", None),
        (["99999999999999999999.5"], "decimal(25,1)", None),
        (["1.5", "2", "1e-3"], "double", None),
        (["1,5"], "text", None),
        (["true", "FALSE"], "bool", None),
        (["0", "1"], "int", None),
        (["yes", "no"], "text", None),
        (["2026-01-31"], "date", None),
        (["2026-02-31"], "text", None),
        (["20260131"], "date", "%Y%m%d"),
        (["31.01.2026"], "date", "%d.%m.%Y"),
        (["01/31/2026", "2/1/2026"], "date", "%m/%d/%Y"),
        (["01/02/2026", "03/04/2026"], "text", None),
        (["Jan 31, 2026"], "date", "%b %d, %Y"),
        (["2026-01-31 10:00"], "timestamp", None),
        (["31/01/2026 10:00"], "timestamp", "%d/%m/%Y %H:%M"),
        (["2026-01-31T10:00:00+02:00", "2026-01-31T10:00:00Z"], "timestamptz", None),
        (["2026-01-31T10:00:00", "2026-01-31T10:00:00Z"], "text", None),
        (["[1, 2]", "{}"], "json", None),
        (["", None], "text", None),
    ],
)
def test_a_type_is_chosen_only_if_every_value_has_it(values, kind, pattern):
    column, _ = guess(pa.array(values, pa.string()), "date")
    assert (column.type, column.format) == (kind, pattern)


def test_codes_for_no_value_count_only_beside_numbers_and_dates():
    assert guess(pa.array(["1.5", ".", "N/A"]), "value")[0].missing == (".", "N/A")
    assert guess(pa.array(["a", ".", "N/A"]), "value")[0].missing == ("",)
    assert guess(pa.array([".", "."]), "value")[0].type == "text"


def test_numbers_that_name_things_stay_text():
    assert [guess(pa.array(["123", "456"]), name)[0].type for name in ("site_id", "code", "fips", "value")] == [
        "text", "text", "text", "int",
    ]  # fmt: skip


def test_eight_digits_are_a_date_only_under_the_name_of_one():
    assert guess(pa.array(["20260131"]), "amount")[0].type == "int"


def test_names_become_plain_and_stay_different():
    fields = ["Report Date", "Été", "2019", "_x", "a", "A", "%", "SiteNo", "x" * 80]
    assert plain_names(fields) == ["report_date", "ete", "n_2019", "x", "a", "a_2", "column_7", "site_no", "x" * 50]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ("value,day\n1,2026-01-01\n2,2026-01-02\n", ("day",)),
        ("value,day,station\n1,2026-01-01,a\n2,2026-01-01,b\n3,2026-01-02,a\n", ("day", "station")),
        ("id,name\n7,x\n8,y\n", ("id",)),
        ("year,month,population\n2025,1,10\n2025,2,20\n2026,1,30\n", ("year", "month")),
    ],
)
def test_the_key_is_small_and_made_of_ids_and_dates(tmp_path, body, key):
    found = read(tmp_path, body).key
    assert (found.columns, found.unique, found.filled) == (key, True, True)


def test_rows_that_are_repeated_do_not_spoil_a_key(tmp_path):
    found = read(tmp_path, "id,v\na,1\na,1\nb,2\n").key
    assert found.columns == ("id",)
    assert "1 rows are identical to another one" in found.seen


def test_a_row_of_commas_is_no_row(tmp_path):
    reading = read(tmp_path, "id,v\na,1\n,\nb,2\n")
    assert (reading.rows, reading.key.columns, reading.key.filled) == (2, ("id",), True)


def test_without_any_key_all_is_said_and_the_last_row_wins(tmp_path):
    found = read(tmp_path, "id,v\na,1\na,\nb,2\n").key
    assert (found.columns, found.unique, found.filled) == (("id",), False, True)
    assert found.seen == "no set of columns names each row: id take 2 values in 3 different rows"


def test_a_key_that_somebody_names_is_taken_and_judged(tmp_path):
    found = read(tmp_path, "Day,Site,v\n2026-01-01,a,1\n2026-01-01,b,2\n", key=["Day", "site"]).key
    assert (found.columns, found.unique) == (("day", "site"), True)
    assert not read(tmp_path, "Day,Site,v\n2026-01-01,a,1\n2026-01-01,b,2\n", key=["day"]).key.unique
    with pytest.raises(RefreshError, match=r"--key names no column town; got day, v"):
        read(tmp_path, "day,v\n2026-01-01,1\n", key=["town"])


def test_a_json_member_that_most_rows_lack_may_be_missing_from_an_answer(tmp_path):
    reading = read(tmp_path, json.dumps([{"id": "a", "v": 1, "note": "x"}, {"id": "b", "v": 2}, {"id": "c", "v": 3}]))
    assert {guess.name: guess.column.optional for guess in reading.columns} == {"id": False, "v": False, "note": True}


def test_a_credential_in_an_address_becomes_a_variable():
    address = read_address("https://api.data.gov.uk/v1?site=7&api_key=hush5hush&x=")
    assert address.url == "https://api.data.gov.uk/v1?site=7&x="
    assert (address.env, address.query, address.secret) == ("DATA_API_KEY", "api_key", "hush5hush")
    assert "hush5hush" not in repr(address)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/a", "https://me:hush5hush@example.org/", "https://e.org/?key=hush5hush&token=b",
     "https://example.org/{year}.csv", "https://e xample.org/", "https://[", "data.csv"],
)  # fmt: skip
def test_an_address_no_source_may_have_is_refused_without_its_credential(url):
    with pytest.raises(AddressError) as caught:
        read_address(url)
    assert "hush5hush" not in str(caught.value)


def test_addresses_are_made_fit_for_the_rules():
    assert read_address("http://example.org/a").url == "https://example.org/a"
    private = read_address("http://127.0.0.1:8000/a.csv")
    assert (private.url, private.private) == ("http://127.0.0.1:8000/a.csv", True)
    assert variable_for("api.stlouisfed.org", "api_key") == "STLOUISFED_API_KEY"
    assert variable_for("127.0.0.1", "token") == "KEY_0_TOKEN"


def test_a_sample_is_the_first_rows_packed_as_the_payload_is(tmp_path):
    rows = [f"2026-01-01,{number},{'x' * 400}" for number in range(1000)]
    body = "\n".join(["day,id,note", *rows])
    path = tmp_path / "payload"
    for packed in (body.encode(), gzip.compress(body.encode()), zipped("data.csv", body=body)):
        reading = read(tmp_path, packed)
        path.write_bytes(cut(path, reading.form, 10**9, ""))
        assert read(tmp_path, path.read_bytes()).rows == ROWS
        assert read(tmp_path, path.read_bytes()).form == reading.form


def test_a_sample_of_json_keeps_rows_that_have_what_no_other_has(tmp_path):
    rows = [{"id": number, "note": "x" * 400} for number in range(1000)]
    rows[700]["rare"] = {"deep": 1}
    reading = read(tmp_path, json.dumps({"data": rows}))
    kept = json.loads(cut(tmp_path / "payload", reading.form, 10**9, ""))["data"]
    assert len(kept) == ROWS + 1
    assert kept[-1]["rare"] == {"deep": 1}


def test_a_credential_that_the_answer_repeats_is_not_in_the_sample(tmp_path):
    reading = read(tmp_path, '{"asked": "key=hush%2Fhush", "rows": [{"id": "hush/hush"}]}')
    sample = cut(tmp_path / "payload", reading.form, 10**9, "hush/hush")
    assert json.loads(sample) == {"asked": "key=***", "rows": [{"id": "***"}]}
