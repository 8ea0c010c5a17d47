"""Rows that are chosen by their texts before anything else is done with them, and texts taken out of others."""

from __future__ import annotations

import zipfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.cast import extracted
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse import Notes
from refresh_pipelines.stage import stage
from refresh_pipelines.window import Window
from refresh_pipelines_tests.workbench import csv_spec, spec_of

COLUMNS = {"k": {"type": "text"}, "n": {"type": "int"}, "t": {"type": "text"}}


def csv(folder, body, *, kind="csv", **form):
    """The staged rows of a CSV, what became of it, and the notes."""
    path, notes = folder / "payload", Notes()
    path.write_bytes(body)
    spec = csv_spec(format={"kind": kind, **form}, expect={"min_rows": 0}, merge_key=["k", "n", "t"])
    result = stage(spec, [path], Window(None), folder / "rows.arrow", notes)
    return [tuple(row.values()) for row in result.table().to_pylist()], result, notes


def test_other_rows_are_counted_and_never_looked_at(tmp_path):
    body = b"k,n,t\na,1,x\nb,many,\xff\xfe\x81\n a ,2,y\nab,3,z\n"
    rows, result, notes = csv(tmp_path, body, where={"k": "a"}, fallback="cp1252")
    assert rows == [("a", 1, "x"), ("a", 2, "y")]
    assert (result.fetched, result.filtered, notes.fallbacks) == (2, 2, 0)


def test_several_texts_and_fields_are_all_asked_for(tmp_path):
    body = b"k,n,t\na,1,x\nb,2,y\nc,3,x\na,4,y\n"
    rows, _, _ = csv(tmp_path, body, where={"k": ["a", "c"], "t": "x"})
    assert [row[1] for row in rows] == [1, 3]


def test_a_text_is_found_in_the_file_s_encoding_and_in_its_fallback(tmp_path):
    body = "k,n,t\nCôte,1,x\n".encode() + "Côte,2,é\n".encode("cp1252") + b"Cote,3,x\n"
    rows, _, notes = csv(tmp_path, body, where={"k": "Côte"}, fallback="cp1252")
    assert rows == [("Côte", 1, "x"), ("Côte", 2, "é")]
    assert notes.fallbacks == 2


def test_a_value_that_cannot_be_decoded_is_told_by_its_row_of_the_file(tmp_path):
    body = b"k,n,t\n" + b"b,1,x\n" * 7 + b"a,2,\x81\n"
    with pytest.raises(ContractViolation, match="row 8 is not utf-8"):
        csv(tmp_path, body, where={"k": "a"})


def test_a_header_that_comes_again_is_refused_also_among_rows_that_are_not_chosen(tmp_path):
    body = b"k,n,t\na,1,x\nk,n,t\nb,1,x\n"
    with pytest.raises(ContractViolation, match="the header comes again as row 2"):
        csv(tmp_path, body, where={"k": "a"})
    rows, _, notes = csv(tmp_path, body, where={"k": "a"}, repeated_header="skip")
    assert (len(rows), notes.headers) == (1, 1)


def test_without_a_header_fields_are_those_that_are_declared(tmp_path):
    rows, result, _ = csv(tmp_path, b"a,1,x\nb,2,y\n", where={"k": "b"}, fields=["k", "n", "t"])
    assert (rows, result.filtered) == ([("b", 2, "y")], 1)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_field_that_is_missing_is_told(tmp_path, kind):
    body = b"k,n,t\na,1,x\n" if kind == "csv" else b'{"k": "a", "n": 1, "t": "x"}\n'
    with pytest.raises(ContractViolation, match="column 'area', by which rows are chosen, is missing"):
        csv(tmp_path, body, kind=kind, where={"area": "53"})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("json", b'[{"k": "a", "n": 1, "t": "x"}, {"k": "b", "n": 2, "t": "y"}, {"k": null, "n": 3, "t": "z"}]'),
        ("jsonl", b'{"k": "a", "n": 1, "t": "x"}\n{"k": "b", "n": 2, "t": "y"}\n{"k": "", "n": 3, "t": "z"}\n'),
    ],
)
def test_rows_of_other_kinds_are_chosen_too(tmp_path, kind, body):
    rows, result, _ = csv(tmp_path, body, kind=kind, where={"k": "b"})
    assert (rows, result.fetched, result.filtered) == ([("b", 2, "y")], 1, 2)


def test_a_value_of_the_refresh_stands_for_its_field(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(b"k,n,t\na,1,x\nb,2,y\n")
    spec = csv_spec(format={"kind": "csv", "where": {"k": "{site}"}}, params={"site": "b"})
    result = stage(spec, [path], Window(None, names={"site": "b"}), tmp_path / "rows.arrow", Notes())
    assert (result.rows, result.filtered) == (1, 1)
    other = csv_spec(format={"kind": "csv", "where": {"k": "{site}"}}, params={"site": "a"})
    assert other.spec_hash != spec.spec_hash


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["53", "5", "530", " 53", "", "x"]), st.integers(0, 9)), max_size=40),
    wanted=st.lists(st.sampled_from(["53", "5", "none"]), min_size=1, max_size=3, unique=True),
)
def test_what_is_kept_is_what_a_plain_filter_keeps(tmp_path_factory, rows, wanted):
    folder = tmp_path_factory.mktemp("where")
    body = "k,n,t\n" + "".join(f'"{k}",{n},row {place}\n' for place, (k, n) in enumerate(rows))
    found, result, _ = csv(folder, body.encode(), where={"k": wanted})
    kept = [(k.strip(), n, f"row {place}") for place, (k, n) in enumerate(rows) if k.strip() in wanted]
    assert sorted(found) == sorted(kept)
    assert (result.fetched, result.filtered) == (len(kept), len(rows) - len(kept))


def test_a_column_takes_what_its_expression_finds_and_nothing_where_it_finds_nothing():
    texts = pa.array(["<2.5", "17.1", None, "", "1999-2001", "'204", "(7)"])
    assert extracted(texts, "^([^<>].*)$").to_pylist() == [None, "17.1", None, None, "1999-2001", "'204", "(7)"]
    assert extracted(texts, "^([<>])").to_pylist() == ["<", None, None, None, None, None, None]
    assert extracted(texts, r"(\d{4})$").to_pylist()[4] == "2001"
    assert extracted(texts, "^'?(.+)$").to_pylist()[5] == "204"
    assert extracted(texts, r"^\((?:x|)(\d)\)").to_pylist()[6] == "7"
    assert extracted(texts, r"[(](?P<digit>\d)").to_pylist()[6] == "7"


def test_what_was_taken_out_is_cast_and_refused_like_any_text(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(b'[{"k": "1999-2001", "n": 1, "t": "x"}, {"k": "soon", "n": 2, "t": "x"}]')
    year = {"type": "int", "from": "k", "extract": "^([0-9]{4})", "nullable": False}
    spec = spec_of(columns={**COLUMNS, "year": year})
    with pytest.raises(ContractViolation, match="row 2: k=None is no int"):
        stage(spec, [path], Window(None), tmp_path / "rows.arrow", Notes())


def test_keys_that_say_nothing_change_no_hash():
    plain = csv_spec(format={"kind": "csv"})
    assert plain.spec_hash == csv_spec(format={"kind": "csv", "where": {}}).spec_hash
    assert plain.spec_hash != csv_spec(format={"kind": "csv", "where": {"k": "a"}}).spec_hash


@pytest.mark.e2e
def test_two_million_rows_of_other_areas_cost_no_memory(tmp_path):
    """A member of 268 MB is read in pieces of a few; one row in a thousand reaches the file of rows."""
    path, thousands = tmp_path / "world.zip", 2000
    words = b"w" * 120
    block = b"".join(b'%d,%d,"C\xf4te %d %b"\r\n' % (n, n, n, words) for n in range(1000))
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as archive, archive.open("rows.csv", "w") as member:
        member.write(b"k,n,t\r\n")
        for _ in range(thousands):
            member.write(block)
    form = {"kind": "csv", "archive": "zip", "where": {"k": "53"}, "fallback": "cp1252"}
    before = pa.total_allocated_bytes()
    result = stage(csv_spec(format=form), [path], Window(None), tmp_path / "rows.arrow", Notes())
    assert (result.fetched, result.filtered, result.rows) == (thousands, 999 * thousands, 1)
    assert len(block) * thousands > 250 << 20
    assert pa.default_memory_pool().max_memory() - before < 160 << 20
