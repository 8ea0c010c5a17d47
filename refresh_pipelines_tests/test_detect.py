"""What a file is by its bytes, whatever its name says: JSON, JSON lines, CSV, Parquet, workbook, or none of them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.parse.detect import detect
from refresh_pipelines.spec import Format
from refresh_pipelines.window import Window
from refresh_pipelines_tests.make_survey_samples import crops
from refresh_pipelines_tests.workbench import spec_of

EVERY = ("json", "jsonl", "csv", "parquet", "xlsx")
ROWS = [{"k": "a", "n": "1", "t": "x"}, {"k": "b", "n": "2", "t": "y"}]
CSV = "k,n,t\na,1,x\nb,2,y\n"
LINES = '{"k":"a","n":1,"t":"x"}\n{"k":"b","n":2,"t":"y"}\n'
BOM = "\ufeff"


def parquet_of(rows):
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


BODIES = {
    "csv": CSV.encode(),
    "jsonl": LINES.encode(),
    "json": json.dumps(ROWS).encode(),
    "parquet": parquet_of(ROWS),
}


@pytest.fixture
def read(tmp_path):
    def rows(body: bytes, name="payload", notes=None, **form):
        path = tmp_path / "staged"
        path.write_bytes(body)
        spec = spec_of(format={"kind": "detect", "of": EVERY, **form})
        window = Window(names={"file": name})
        return [row for batch in parse(spec, path, window, notes or Notes()) for row in batch.to_pylist()]

    return rows


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", BODIES)
def test_a_file_is_read_as_what_it_is_packed_or_not(read, kind, packed):
    body = gzip.compress(BODIES[kind], mtime=0) if packed else BODIES[kind]
    assert [{k: row[k] for k in "knt"} for row in read(body)] == ROWS


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("csv", "a/b.json", "a/b.json is a CSV by its content, whatever its name says"),
        ("jsonl", "b.csv.gz", "b.csv.gz is a file of JSON lines by its content, whatever its name says"),
        ("parquet", "B.JSONL", "B.JSONL is a Parquet file by its content, whatever its name says"),
        ("json", "rows.jsonl", "rows.jsonl is a JSON by its content, whatever its name says"),
    ],
)
def test_a_wrong_name_loads_all_the_same_and_is_said(read, kind, name, said):
    notes = Notes()
    assert len(read(BODIES[kind], name, notes)) == 2
    assert notes.texts() == [said]


@pytest.mark.parametrize(
    ("kind", "name"), [("csv", "a.csv"), ("csv", "a"), ("csv", "a.dat"), ("jsonl", "a.json"), ("json", "a.json.gz")]
)
def test_a_name_that_fits_or_promises_nothing_is_no_remark(read, kind, name):
    notes = Notes()
    read(BODIES[kind], name, notes)
    assert notes.texts() == []


def kind_of(body: bytes, tmp_path, **form) -> str:
    path = tmp_path / "a"
    path.write_bytes(body)
    return detect(Format(kind="detect", **{"of": EVERY, **form}), path, 10**9, "a", Notes()).kind


@pytest.mark.parametrize(
    ("text", "rows", "kind"),
    [
        ('{"k":1}', "", "jsonl"),
        ('{"k":1}\n{"k":2}', "", "jsonl"),
        ('{"k":1}\r{"k":2}', "", "jsonl"),
        ('\n\n  {"k":1}\n\n{"k":2}\n', "", "jsonl"),
        ('{"Records":[{"k":1}]}', "Records", "json"),
        ('{"Records":[\n{"k":1}\n]}', "Records", "json"),
        ('{\n  "Records": [\n    {"k": 1}\n  ]\n}\n', "Records", "json"),
        ('{"records":[{"k":1}]}', "Records", "jsonl"),
        ('{"k":\n{"k":2}\n', "", "json"),
        ('{"k":1,}\n{"k":2}\n', "", "jsonl"),
        ("[]", "", "json"),
        ('[\n{"k":1}]', "Records", "json"),
        ("k;n\n1;2", "", "csv"),
        ("one column\n1\n", "", "csv"),
    ],
)
def test_a_document_is_told_from_an_object_on_each_line(tmp_path, text, rows, kind):
    assert kind_of(text.encode(), tmp_path, rows=rows) == kind


def test_a_big_file_is_told_by_its_beginning(tmp_path):
    line = '{"k":"' + "x" * 1000 + '"}\n'
    assert kind_of((line * 3000).encode(), tmp_path) == "jsonl"
    document = '{"Records":[' + ",".join([line.strip()] * 3000) + "]}"
    assert kind_of(document.encode(), tmp_path, rows="Records") == "json"


def test_where_only_one_of_them_is_declared_there_is_nothing_to_tell(tmp_path):
    assert kind_of(b'{"k":1}', tmp_path, of=("json", "csv")) == "json"
    assert kind_of(b'{"k":\n1}', tmp_path, of=("jsonl", "csv")) == "jsonl"


def test_a_bare_list_is_the_rows_where_a_document_would_have_them_deeper(read):
    assert read(b'[{"k":"a"}]', rows="Records") == [{"k": "a"}]
    assert read(b'[{"page":1},[{"k":"a"}]]', rows="1") == [{"k": "a"}]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_of_a_spreadsheet_is_read_in_its_encoding_with_its_delimiter_and_line_ends(read, mark, encoding, end):
    text = CSV.replace(",", mark).replace("\n", end).replace("x", "é")
    marked = (BOM if encoding.endswith(("le", "be")) else "") + text
    notes = Notes()
    assert read(marked.encode(encoding), "a.csv", notes) == [{**ROWS[0], "t": "é"}, ROWS[1]]
    assert bool(notes.texts()) == (mark != ",")


def test_wide_json_is_read_too(read):
    assert [row["k"] for row in read((BOM + LINES).encode("utf-16-le"))] == ["a", "b"]
    assert read(json.dumps(ROWS).encode("utf-16")) == ROWS


@pytest.mark.parametrize("body", [b"", b" \r\n\t", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(read, body):
    with pytest.raises(UpstreamRefused, match="the file is empty"):
        read(body)


def archive(*names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "k\n1\n")
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "came"),
    [
        (archive("a.csv"), "a ZIP archive that is no workbook"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "a workbook of Excel 97 to 2003, or one with a password"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "bytes that are no text"),
        ("k,n\n1,2\n".encode("utf-16-le"), "bytes that are no text"),
    ],
)
def test_what_is_none_of_them_is_refused_with_what_it_is(read, body, came):
    with pytest.raises(UpstreamRefused, match="none of the declared kinds") as caught:
        read(body)
    assert came in caught.value.came


@pytest.mark.parametrize("kind", BODIES)
def test_a_kind_that_is_not_declared_is_refused(read, kind):
    others = tuple(one for one in ("csv", "parquet", "json" if kind == "csv" else "xlsx") if one != kind)
    with pytest.raises(UpstreamRefused, match=r"none of the declared kinds; expected .*; got a"):
        read(BODIES[kind], of=others)


@pytest.mark.parametrize("whole", [gzip.compress(CSV.encode() * 99, mtime=0), BODIES["parquet"], crops()])
def test_a_file_without_its_end_may_still_be_being_written(read, whole):
    with pytest.raises(UpstreamUnavailable, match="truncated"):
        read(whole[: len(whole) // 2])


def test_a_nul_in_a_text_is_no_reason_to_call_a_file_binary(read):
    body = ("k,n,t\n" + "a,1,xxxxxxxxxxxxxxxxxxxxxxxxx\n" * 9 + "b\0,2,y\n").encode()
    assert read(body)[-1]["k"] == "b\0"


def test_a_header_that_comes_again_is_refused_or_passed_over(read):
    body = (CSV + CSV).encode()
    with pytest.raises(ContractViolation, match="the header comes again as row 3"):
        read(body)
    notes = Notes()
    assert read(body, "a.csv", notes, repeated_header="skip") == ROWS * 2
    assert notes.texts() == ["1 rows repeat the header and were passed over"]


def test_rows_that_only_begin_like_the_header_are_rows(read):
    assert read(b"k,n,t\nk,n,x\nk,2,t\n") == [{"k": "k", "n": "n", "t": "x"}, {"k": "k", "n": "2", "t": "t"}]
    assert read(b"k\nk\n") == [{"k": "k"}]


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_one_of_our_errors(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(body)
    spec = spec_of(format={"kind": "detect", "of": EVERY})
    try:
        for _ in parse(spec, path, Window(), Notes()):
            pass
    except RefreshError as error:
        assert error.error_class in {"permanent", "transient", "contract"}
