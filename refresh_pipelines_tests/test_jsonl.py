"""JSON lines into rows of text: line ends, broken lines and their numbers, members that come and go, big files."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.jsonl import ROWS, read_jsonl
from refresh_pipelines.spec import Format
from refresh_pipelines.stage import stage
from refresh_pipelines.window import Window
from refresh_pipelines_tests.workbench import spec_of

SPEC = spec_of(format="jsonl")


def batches(body: bytes, spec=SPEC, notes=None, **form):
    stream = io.BufferedReader(io.BytesIO(body), 1 << 18)  # as open_payload gives it
    return list(read_jsonl(stream, Format(kind="jsonl", **form), spec, notes or Notes()))


def read(body: bytes, spec=SPEC, **form):
    return [row for batch in batches(body, spec, **form) for row in batch.to_pylist()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\n \n"])
def test_line_ends_and_empty_lines_make_no_difference(end):
    rows = [{"k": "a", "n": "1", "t": None}, {"k": "b", "n": "2", "t": None}]
    assert read(end.join([b'{"k":"a","n":1}', b'{"k":"b","n":2}'])) == rows
    assert read(end.join([b'{"k":"a","n":1}', b'{"k":"b","n":2}', b""])) == rows


def test_numbers_keep_their_digits_and_nested_values_are_json():
    spec = spec_of(format="jsonl", columns={"k": {"type": "text", "from": "a.b"}}, merge_key=["k"])
    [row] = read(b'{"a":{"b":1.50},"list":[1e2,null,"\xc3\xa9"],"yes":true}', spec)
    assert row == {"a": '{"b":1.50}', "list": '[1e2,null,"é"]', "yes": "true", "a.b": "1.50"}


@given(st.lists(st.dictionaries(st.sampled_from(["k", "n", "x"]), st.text() | st.integers() | st.none(), min_size=1)))
def test_whatever_json_writes_is_read_as_it_was(rows):
    body = "".join(json.dumps(row) + "\n" for row in [{"k": "first"}, *rows]).encode()
    found = read(body)
    assert len(found) == len(rows) + 1
    for row, ours in zip(rows, found[1:], strict=True):
        for name, value in row.items():
            wanted = (
                value if value is None else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            )
            assert ours[name] == wanted


@pytest.mark.parametrize(
    ("line", "came"),
    [
        (b'{"k":', "Expecting value"),
        (b'{"k":"a"}{"k":"b"}', "Extra data"),
        (b'{"k":"a\0b"}', "Invalid control character"),
        (b"[1,2]", "list"),
        (b'"text"', "str"),
        (b"k,n,t", "Expecting value"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_one_broken_line_is_named_by_its_number(line, came):
    with pytest.raises(ContractViolation, match="line 3 is no JSON object") as caught:
        read(b'{"k":"a"}\n\n' + line + b'\n{"k":"b"}\n')
    assert came in caught.value.came


@given(st.integers(1, 15))
def test_a_last_line_that_breaks_off_may_still_be_being_written(cut):
    body = b'{"k":"a","n":1}\n{"k":"\xc3\xa9","n":2}'
    assert len(read(body)) == 2
    with pytest.raises((UpstreamUnavailable, ContractViolation), match="line 2"):
        read(body[: len(body) - cut])


def test_a_cut_last_line_is_transient():
    with pytest.raises(UpstreamUnavailable, match="line 2 breaks off at the end of the file"):
        read(b'{"k":"a"}\n{"k":"b"')


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n \r\n"])
def test_a_file_without_any_line_is_refused(body):
    with pytest.raises(UpstreamRefused, match="holds no JSON line"):
        read(body)


def test_a_member_may_come_first_in_a_later_batch(tmp_path):
    body = b"".join(b'{"k":"%d","n":1}\n' % number for number in range(ROWS)) + b'{"k":"last","n":2,"t":"x","new":1}\n'
    first, second = batches(body)
    assert (first.num_rows, second.num_rows) == (ROWS, 1)
    assert first.column("t").null_count == ROWS and second.column("t").to_pylist() == ["x"]
    (tmp_path / "lines").write_bytes(body)
    notes = Notes()
    assert stage(SPEC, [tmp_path / "lines"], Window(), tmp_path / "rows.arrow", notes).rows == ROWS + 1
    assert notes.ignored == ["new"]


def test_a_field_that_no_line_has_is_missing_and_not_empty(tmp_path):
    (tmp_path / "lines").write_bytes(b'{"k":"a","n":1}\n')
    with pytest.raises(ContractViolation, match=r"column 't' \(read from 't'\) is missing from the payload"):
        stage(SPEC, [tmp_path / "lines"], Window(), tmp_path / "rows.arrow", Notes())


def test_another_encoding_is_declared():
    text = '{"k":"é"}\r\n{"k":"ü"}\r\n'
    assert [row["k"] for row in read(text.encode("utf-16"), encoding="utf-16")] == ["é", "ü"]
    notes = Notes()
    batch, _ = batches(text.encode("latin-1"), notes=notes, fallback="latin-1")
    assert batch.column("k").to_pylist() == ["é", "ü"] and notes.fallbacks == 2
    with pytest.raises(ContractViolation, match="line 1 is not utf-8"):
        read(text.encode("latin-1"))


def peak(rows: int) -> int:
    """Most bytes of Python's that reading so many rows takes at once."""
    line = json.dumps({"k": "x" * 40, "n": 1, "t": "y" * 4000}).encode() + b"\n"

    class Endless(io.RawIOBase):
        left = rows * len(line)

        def readable(self):
            return True

        def readinto(self, buffer):
            size = min(len(buffer), self.left) // len(line) * len(line) or min(len(buffer), self.left)
            buffer[:size] = (line * (size // len(line) + 1))[:size]
            self.left -= size
            return size

    stream = io.BufferedReader(Endless(), len(line) * 100)
    tracemalloc.start()
    try:
        count = sum(batch.num_rows for batch in read_jsonl(stream, Format(kind="jsonl"), SPEC, Notes()))
        return tracemalloc.get_traced_memory()[1] if count == rows else -1
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file():
    small = peak(3_000)
    assert 0 < peak(9_000) < 1.2 * small
