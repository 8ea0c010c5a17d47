"""JSON documents and parser functions into rows of text."""

from __future__ import annotations

import io
import json
import traceback

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.parse.json import BATCH, read_json
from refresh_pipelines.spec import Format
from refresh_pipelines.window import Window
from refresh_pipelines_tests.workbench import spec_of


def read(body: bytes | str, notes: Notes | None = None, columns: dict | None = None, **form):
    stream = io.BufferedReader(io.BytesIO(body.encode() if isinstance(body, str) else body))
    spec = spec_of(columns=columns or {"k": {"type": "text"}})
    return list(read_json(stream, Format(kind="json", **form), spec, notes or Notes()))


def rows(body: bytes | str, **form):
    return [row for batch in read(body, **form) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "number",
    ["0.10", "1e3", "-0", "1E+400", "123456789012345678901234567890", "0." + "1" * 40, "9" * 5000, "NaN", "-Infinity"],
)
def test_numbers_keep_the_digits_they_were_written_with(number):
    assert rows(f'[{{"k": {number}, "deep": {{"n": [{number}]}}}}]') == [
        {"k": number, "deep": '{"n":[' + number + "]}"}
    ]


def test_null_and_absent_members_are_null_and_empty_text_is_not():
    assert rows('[{"k": null}, {"k": "", "x": "1"}, {}]') == [
        {"k": None, "x": None}, {"k": "", "x": "1"}, {"k": None, "x": None}
    ]  # fmt: skip


def test_truth_values_and_nested_values_are_written_as_json():
    assert rows('[{"k": true, "x": [1, false, null, "å\\"", {"y": 2.50}]}]') == [
        {"k": "true", "x": '[1,false,null,"å\\"",{"y":2.50}]'}
    ]


@pytest.mark.parametrize(
    ("path", "document"),
    [("", [{"k": "1"}]), ("a.b", {"a": {"b": [{"k": "1"}]}}), ("1", [{"page": 1}, [{"k": "1"}]])],
)
def test_the_list_of_rows_is_found_by_its_path(path, document):
    assert rows(json.dumps(document), rows=path) == [{"k": "1"}]


def test_dotted_paths_reach_into_the_rows_and_a_dotted_name_wins():
    columns = {
        "x": {"type": "text", "from": "a.b"},
        "y": {"type": "text", "from": "c.d"},
        "z": {"type": "text", "from": "no.where"},
    }
    (batch,) = read('[{"a": {"b": 1}, "c.d": 2, "c": {"d": 3}}, {"a": null}]', columns=columns)
    assert batch.column("a.b").to_pylist() == ["1", None]
    assert batch.column("c.d").to_pylist() == ["2", None]
    assert "no.where" not in batch.schema.names


def test_an_empty_list_has_no_rows():
    assert rows("[]") == []


def test_long_lists_come_in_batches():
    assert [batch.num_rows for batch in read(json.dumps([{"k": 1}] * (BATCH + 3)))] == [BATCH, 3]


@pytest.mark.parametrize(
    ("body", "came"),
    [
        ('{"a": 1, "b": 2}', "an object with a, b"), ("{}", "an object with no members"), ('"text"', "'text'"),
        ('{"rows": {"k": 1}}', "an object with k"), ('{"rows": null}', "an object with rows"), ("null", "null"),
    ],
)  # fmt: skip
def test_a_document_without_the_list_shows_its_shape(body, came):
    with pytest.raises(ContractViolation, match="not the declared shape; expected a list at 'rows'") as caught:
        rows(body, rows="rows")
    assert came in str(caught.value)


@pytest.mark.parametrize(("body", "came"), [("[1]", "'1'"), ("[[1]]", "list"), ('[{"k": 1}, null]', "null")])
def test_a_row_that_is_no_object_is_refused(body, came):
    with pytest.raises(ContractViolation, match="a row is no object; expected a list of objects") as caught:
        rows(body)
    assert came in str(caught.value)


@pytest.mark.parametrize(
    ("said", "came"),
    [('"no such series"', "no such series"), ('{"code": 7}', '{"code":7}'), ("true", "true"), ("5", "5")],
)
def test_a_declared_error_member_is_what_the_upstream_refused_with(said, came):
    with pytest.raises(UpstreamRefused, match="answered with an error") as caught:
        rows(f'{{"error": {said}, "rows": [{{"k": 1}}]}}', rows="rows", error="error")
    assert f"got {came}." in str(caught.value)


@pytest.mark.parametrize("said", ['""', "null", "0", "false", "[]", "{}"])
def test_an_error_member_that_says_nothing_is_no_error(said):
    assert rows(f'{{"error": {said}, "rows": [{{"k": "1"}}]}}', rows="rows", error="error") == [{"k": "1"}]


def test_a_key_that_the_upstream_repeats_is_masked():
    for body in ('{"error": {"api_key": "0123abcd"}}', '{"request": {"api_key": "0123abcd"}} x'):
        with pytest.raises(RefreshError) as caught:
            rows(body, rows="rows", error="error")
        assert "0123abcd" not in str(caught.value) and "***" in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b" \n", b'{"rows": [{"k": "1"}, {"k', b"[1, 2", b"<error/>", b"Service busy", b'["\xc3']
)
def test_a_document_that_is_empty_or_breaks_off_is_transient(body):
    what = "is empty" if not body.strip() else "is no complete JSON document"
    with pytest.raises(
        UpstreamUnavailable, match=f"the answer {what}; expected a JSON document; got {len(body)} bytes"
    ):
        rows(body)


@given(st.integers(0, 10_000))
def test_a_document_cut_anywhere_is_transient(length):
    whole = json.dumps({"rows": [{"k": f"å{n}", "v": [n, None]} for n in range(9)]}, ensure_ascii=False).encode()
    with pytest.raises(UpstreamUnavailable):
        rows(whole[: length % len(whole)], rows="rows")


@pytest.mark.parametrize("body", ["[" * 100_000, '[{"k":' * 50_000])
def test_nesting_without_end_is_no_table(body):
    with pytest.raises(ContractViolation, match="nested too deeply"):
        rows(body)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_encodings_of_json_are_told_apart(encoding):
    assert rows('[{"k": "å"}]'.encode(encoding)) == [{"k": "å"}]


def test_another_encoding_is_declared_or_accepted_and_counted():
    body, notes = '[{"k": "å"}]'.encode("latin-1"), Notes()
    assert rows(body, encoding="iso-8859-1") == [{"k": "å"}]
    assert rows(body, notes=notes, fallback="latin-1") == [{"k": "å"}]
    assert notes.fallbacks == 1
    with pytest.raises(ContractViolation, match="the JSON document is not utf-8"):
        rows(body)


def test_half_a_surrogate_pair_becomes_a_replacement_mark():
    assert rows('[{"k": "a\\ud83d"}, {"k": "\\ud83d\\ude00"}, {}]') == [{"k": "a\ufffd"}, {"k": "😀"}, {"k": None}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_nested_values_mean_what_they_meant(value):
    (row,) = rows(json.dumps([{"k": [value]}]))
    assert json.loads(row["k"]) == json.loads(
        json.dumps([value]).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def frame(path, spec, window):
    return pd.DataFrame({"k": [path.read_text(), None], "n": [1, 2]})


def table(path, spec, window):
    return pa.table({"k": [window.partition], "n": ["1"]})


def pieces(path, spec, window):
    yield pa.RecordBatch.from_pydict({"k": ["a"]})
    yield pa.table({"k": ["b"]})


def nothing(path, spec, window):
    return []


def series(path, spec, window):
    return pd.Series([1])


def rows_of_dicts(path, spec, window):
    return [{"k": 1}]


def mixed(path, spec, window):
    return pd.DataFrame({"k": [1, "b"]})


def nested(path, spec, window):
    return pa.table({"k": [[1]]})


def twice(path, spec, window):
    return pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["k", "k"])


def custom(function: str, folder, body: bytes = b"x"):
    (folder / "payload").write_bytes(body)
    module = __name__ if ":" not in function else ""
    spec = spec_of(format=None, parser=f"{module}:{function}" if module else function)
    return [row for batch in parse(spec, folder / "payload", Window("p"), Notes()) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("frame", [{"k": "x", "n": "1"}, {"k": None, "n": "2"}]),
        ("table", [{"k": "p", "n": "1"}]),
        ("pieces", [{"k": "a"}, {"k": "b"}]),
        ("nothing", []),
    ],
)
def test_a_parser_may_return_a_frame_a_table_or_pieces_of_one(tmp_path, function, expected):
    assert custom(function, tmp_path) == expected


@pytest.mark.parametrize(
    ("function", "came"),
    [
        ("series", "Series"), ("rows_of_dicts", "dict"), ("mixed", "DataFrame that holds no text"),
        ("nested", "Table that holds no text"), ("twice", "Table with a column name twice"),
    ],
)  # fmt: skip
def test_a_parser_that_returns_anything_else_is_told_what(tmp_path, function, came):
    with pytest.raises(ContractViolation, match=f"returned something else than rows of text.*got {came}"):
        custom(function, tmp_path)


@pytest.mark.parametrize("function", ["no_such_module_here:read", "json:no_such_function", f"{__name__}:missing"])
def test_a_parser_that_does_not_exist_is_named(tmp_path, function):
    with pytest.raises(UpstreamRefused, match=f"parser {function} cannot be imported"):
        custom(function, tmp_path)


def test_a_web_page_never_reaches_a_parser(tmp_path):
    with pytest.raises(
        UpstreamRefused, match=r"the payload is a web page; expected what .*frame reads; got a body beginning"
    ):
        custom("frame", tmp_path, b"\n<html>gone")


# What the document says of all its rows.


def test_fields_of_the_document_stand_in_each_row_and_hide_its_own():
    meta, listed = '{"at": "2026-10-14", "n": 1.50, "deep": {"x": [1]}}', '[{"k": "a", "at": "mine"}, {"k": "b"}]'
    fields = {"at": "meta.at", "number": "meta.n", "all": "meta.deep", "none": "meta.nowhere", "first": "rows.0.k"}
    shared = {"at": "2026-10-14", "number": "1.50", "all": '{"x":[1]}', "none": None, "first": "a"}
    assert rows(f'{{"meta": {meta}, "rows": {listed}}}', rows="rows", document=fields) == [
        {"k": "a", **shared},
        {"k": "b", **shared},
    ]


def test_fields_of_the_document_are_there_in_each_batch_and_not_without_rows():
    long = [{"k": 1}] * (BATCH + 1)
    batches = read(json.dumps({"at": "now", "rows": long}), rows="rows", document={"at": "at"})
    assert [batch.num_rows for batch in batches] == [BATCH, 1]
    assert {text for batch in batches for text in batch.column("at").to_pylist()} == {"now"}
    assert rows('{"at": "now", "rows": []}', rows="rows", document={"at": "at"}) == []


def test_half_a_surrogate_pair_is_replaced_in_names_and_in_fields_of_the_document_too():
    (batch,) = read('{"at": "a\\ud83d", "rows": [{"k": 1, "x\\ud83d": 2}]}', rows="rows", document={"at": "at"})
    assert batch.to_pylist() == [{"k": "1", "x\ufffd": "2", "at": "a\ufffd"}]


@pytest.mark.parametrize(
    ("said", "noted"), [('"2026-10-14"', "2026-10-14"), ("null", None), ("20261014", "20261014"), ('""', None)]
)
def test_the_documents_day_of_publication_is_noted_as_it_is_written(said, noted):
    notes = Notes()
    read(f'{{"at": {said}, "rows": []}}', notes, rows="rows", published="at")
    assert notes.published == noted
    read("[]", notes)
    assert notes.published == noted


def test_a_total_of_none_is_the_answer_without_a_list_of_rows():
    paging = {"kind": "page", "param": "page", "pages": "0.pages", "total": "0.total"}
    spec = spec_of(request={"url": "https://example.org/x", "paging": paging})
    form = Format(kind="json", rows="1")

    def count(body):
        return sum(b.num_rows for b in read_json(io.BufferedReader(io.BytesIO(body)), form, spec, Notes()))

    assert count(b'[{"pages": 0, "total": 0}, null]') == count(b'[{"total": 0}]') == 0
    assert count(b'[{"total": 1}, [{"k": 1}]]') == 1
    for body in (b'[{"total": 2}, null]', b'[{"total": 0}, {}]', b"[{}, null]"):
        with pytest.raises(ContractViolation, match="not the declared shape"):
            count(body)


# What goes wrong inside a parser.


def value_error(path, spec, window):
    raise ValueError("no float: 'x' of https://example.org/?api_key=0123abcd")


def key_error(path, spec, window):
    yield pa.table({"k": ["a"]})
    raise KeyError("WDIR")


def one_of_ours(path, spec, window):
    raise UpstreamUnavailable("half a file")


def out_of_memory(path, spec, window):
    raise MemoryError


def out_of_disk(path, spec, window):
    raise OSError(28, "No space left on device")


def interrupted(path, spec, window):
    raise KeyboardInterrupt


def leaving(path, spec, window):
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("function", "came"),
    [
        ("value_error", "got ValueError: no float: 'x' of https://example.org/?api_key=***"),
        ("key_error", "got KeyError: 'WDIR'"),
    ],
)
def test_what_a_parser_raises_names_it_and_says_what_in_a_contract_error(tmp_path, function, came):
    with pytest.raises(ContractViolation) as caught:
        custom(function, tmp_path)
    assert f"parser {__name__}:{function} could not read the payload; {came}." in str(caught.value)
    assert "0123abcd" not in str(caught.value)


def test_a_key_that_a_parser_repeats_is_nowhere_behind_its_error_either(tmp_path):
    with pytest.raises(ContractViolation) as caught:
        custom("value_error", tmp_path)
    assert "0123abcd" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("one_of_ours", UpstreamUnavailable), ("out_of_memory", MemoryError), ("out_of_disk", OSError),
        ("interrupted", KeyboardInterrupt), ("leaving", SystemExit),
    ],
)  # fmt: skip
def test_what_is_no_fault_of_the_payload_passes_through_a_parser(tmp_path, function, error):
    with pytest.raises(error):
        custom(function, tmp_path)
