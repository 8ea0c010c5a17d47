"""CloudTrail's events from log files and from exports in other kinds: the same rows, however they were written."""

from __future__ import annotations

import gzip
import io
import json
from datetime import datetime

import pyarrow as pa
import pytest
from pyarrow import parquet

from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.make_cloudtrail_samples import ACCOUNT, BUILT, columns, event, events, lines, log, table
from refresh_pipelines_tests.recorded import READ, accepted, recorded
from refresh_pipelines_tests.workbench import builtin

SPEC = builtin("cloudtrail")
FOLDER = SAMPLES / "cloudtrail"
BUILT_HERE = BUILT["cloudtrail"]()
NAMES = {column: declared.fields(column)[0] for column, declared in SPEC.columns.items()}


def read(folder, body: bytes, name="a.json"):
    path = folder / name
    path.write_bytes(body)
    return stage(SPEC, [path], window_of(SPEC, "2026-11-22"), folder / "rows.arrow", Notes())


@pytest.mark.parametrize(
    "body",
    [
        log(events(1, 9), indent=1),
        gzip.compress(log(events(1, 9))),
        json.dumps(events(1, 9)).encode(),
        lines(events(1, 9), end="\r\n"),
        lines(reversed(events(1, 9))),
        table(events(1, 9)).encode("utf-16"),
        table(events(1, 9), end="\r").encode(),
        lines([*events(1, 9), event(4)]),
    ],
    ids=["indented", "gzip", "array", "lines", "reversed", "utf-16 csv", "cr csv", "twice"],
)
def test_the_same_events_are_the_same_rows_in_every_kind_of_file(tmp_path, body):
    theirs = read(tmp_path, log(events(1, 9))).table().sort_by("event_id").to_pylist()
    ours = read(tmp_path, body).table().sort_by("event_id").to_pylist()
    assert len(theirs) == 9
    assert [spaceless(row) for row in ours] == [spaceless(row) for row in theirs]


def test_parquet_with_structs_and_legacy_times_gives_the_same_rows(tmp_path):
    theirs = read(tmp_path, log(events(1, 9))).table().sort_by("event_id").to_pylist()
    for legacy in (False, True):
        ours = read(tmp_path, columns(events(1, 9), legacy=legacy)).table().sort_by("event_id").to_pylist()
        assert [spaceless(row) for row in ours] == [spaceless(row) for row in theirs]


def spaceless(row):
    """A row with its nested members as values, since writers differ in spaces and in the order of members."""
    return {k: json.loads(v) if v and SPEC.columns[k].type == "json" else v for k, v in row.items()}


def test_an_account_keeps_its_zeros_and_a_missing_member_is_null(tmp_path):
    first = read(tmp_path, log(events(1, 2))).table().sort_by("event_id").to_pylist()
    assert {row["recipient_account_id"] for row in first} == {ACCOUNT} == {"000123456789"}
    assert [row["error_code"] for row in first] == ["AccessDenied", None]
    assert [row["shared_event_id"] for row in first] == [None, None]
    assert [row["read_only"] for row in first] == [False, False]


def test_numbers_of_an_account_in_parquet_would_lose_their_zeros_and_are_read_as_they_are(tmp_path):
    rows = pa.Table.from_pylist([event(1, recipientAccountId=123456789012, requestParameters=None)])
    out = io.BytesIO()
    parquet.write_table(rows, out)
    [row] = read(tmp_path, out.getvalue()).table().to_pylist()
    assert row["recipient_account_id"] == "123456789012"


def test_recorded_log_files_hold_every_event(ran):
    for path in recorded(READ["cloudtrail"]):
        item = accepted("cloudtrail", path, "--partition", "2026-11-22")
        ran("cloudtrail", "recorded")
        body = path.read_bytes()
        theirs = json.loads(gzip.decompress(body) if path.suffix == ".gz" else body)["Records"]
        ours = {row["event_id"]: row for row in item["rows"]}
        assert item["fetched"] == len(ours) == len(theirs)
        for record in theirs:
            for column, name in NAMES.items():
                assert written(ours[record["eventID"]][column], column) == record.get(name), (path.name, column)


def written(value, column):
    """A value of ours as CloudTrail writes it."""
    kind = SPEC.columns[column].type
    if value is None or kind in ("text", "bool"):
        return value
    return json.loads(value) if kind == "json" else f"{datetime.fromisoformat(value):%Y-%m-%dT%H:%M:%SZ}"


def same(body: bytes) -> object:
    """What a sample holds, without what depends on the versions that packed it."""
    if body.startswith(b"\x1f\x8b"):
        try:
            return same(gzip.decompress(body))
        except EOFError:
            return "cut"
    if body.startswith(b"PAR1"):
        return parquet.read_table(io.BytesIO(body)).to_pylist() if body.endswith(b"PAR1") else "half"
    return body


@pytest.mark.parametrize("name", sorted(BUILT_HERE))
def test_a_sample_is_what_the_script_builds(name):
    assert same((FOLDER / name).read_bytes()) == same(BUILT_HERE[name])


def test_the_page_of_the_table_names_every_column():
    page = (SAMPLES.parent.parent / "docs" / "tables" / "cloudtrail.md").read_text(encoding="utf-8")
    assert [name for name in SPEC.columns if f"`{name}`" not in page] == []
