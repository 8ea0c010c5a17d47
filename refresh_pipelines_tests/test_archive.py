"""Payloads in the archive: kept once, without secrets, whole or not at all, and no longer than they may be."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import zipfile
from datetime import timedelta

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.archive.clean import BLOCK, masking, rewritten
from refresh_pipelines.archive.journal import Journal
from refresh_pipelines.archive.keep import entries, open_entry
from refresh_pipelines.archive.retention import clear_archive
from refresh_pipelines.archive.store import Store
from refresh_pipelines.errors import ContractViolation, InternalError, UpstreamRefused
from refresh_pipelines.replay import rebuild
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.spec import Archive
from refresh_pipelines_tests.catalogues import MINI, errors
from refresh_pipelines_tests.catalogues import load as load_folder
from refresh_pipelines_tests.pages import BY_QUERY, PLACE, SECRET, paged, rows, started
from refresh_pipelines_tests.workbench import HOST, NOW, Bench, csv_spec, spec_of, start

KEY = "planted5ecret/+"
AUTH = {"url": "https://example.org/data.csv", "auth": {"env": "PLANTED_KEY", "query": "api_key"}}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    sandbox.clear()
    bench = Bench(tmp_path, sandbox.base)
    bench.settings = type(bench.settings)(**{**vars(bench.settings), "environ": {"PLANTED_KEY": KEY}})
    return bench


def load(bench, sandbox, spec, body, **more):
    bench.now += timedelta(minutes=1)
    sandbox.clear()
    sandbox.override(HOST, body, headers=more.pop("headers", None))
    return bench.refresh(spec, **more)


def kept(bench, source="mini"):
    return list(entries(bench.settings.data_dir, source))


def bytes_of(bench, part):
    path = Store(bench.settings.data_dir, "mini").part_path(part.sha256)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()


def everything(bench):
    """Every byte below the data folder, packed ones unpacked."""
    out = b""
    for path in (bench.folder / "data").rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            out += body
            if path.suffix == ".zst":
                body = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read()
                out += body
            if body[:2] == b"\x1f\x8b":
                out += gzip.decompress(body)
            if body[:2] == b"PK":
                with zipfile.ZipFile(io.BytesIO(body)) as archive:
                    out += b"".join(archive.read(name) for name in archive.namelist())
    return out


def test_a_manifest_says_what_was_asked_when_and_what_came(bench, sandbox):
    headers = {"ETag": '"v1"', "Set-Cookie": "session=abc", "Retry-After": "3", "X-Other": "o"}
    load(bench, sandbox, csv_spec(), b"k,n,t\na,1,x\n", headers=headers)
    [entry] = kept(bench)
    [part] = entry.parts
    manifest = json.loads(Store(bench.settings.data_dir, "mini").manifest_path(entry.id).read_text())
    assert manifest["parts"][0]["received"]["headers"].keys() >= {"ETag", "Retry-After", "Content-Length"}
    assert (part.received.method, part.received.url, part.received.status) == (
        "GET",
        "https://example.org/data.csv",
        200,
    )
    assert part.received.asked_at <= part.received.received_at
    assert (entry.id, entry.bytes, entry.run_id, entry.kept_at) == (part.sha256, 12, "run-0001", bench.now)
    assert bytes_of(bench, part) == b"k,n,t\na,1,x\n"
    assert b"session" not in everything(bench)
    assert b"X-Other" not in everything(bench)


def test_the_pages_of_an_answer_are_one_payload(tmp_path):
    pages = iter([rows(2), rows(2, 2), rows(1, 4)])
    spec = paged({"kind": "page", "param": "p", "size": 2}, request={"auth": BY_QUERY})
    with started(tmp_path) as serve:
        _, bench = serve(lambda path, query: {"rows": next(pages), "asked": query})
        bench.refresh(spec)
    [entry] = kept(bench)
    assert [part.received.url for part in entry.parts] == [f"{PLACE}?p={p}&subscription=***" for p in (1, 2, 3)]
    assert SECRET.encode() not in everything(bench)
    live = bench.rows("mini")
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert bench.rows("mini") == live


def test_answers_with_equal_bytes_are_parts_of_one_payload_that_is_kept_once(bench, sandbox):
    columns = {"site": {"type": "text", "from": "{site}"}, "k": {"type": "text"}}
    request = {"url": "https://example.org/data.csv", "each": {"site": ["a", "b"]}}
    spec = csv_spec(request=request, columns=columns, merge_key=["site", "k"])
    load(bench, sandbox, spec, b"k\nx\n")
    [entry] = kept(bench)
    assert [dict(part.names) for part in entry.parts] == [{"site": "a"}, {"site": "b"}]
    assert len(list((bench.settings.data_dir / "archive").rglob("*.zst"))) == 1
    live = bench.rows("mini")
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert bench.rows("mini") == live
    assert len(live) == 2


def zipped(body):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", body)
    return out.getvalue()


ECHO = b"k,n,t\na,1,asked with api_key=planted5ecret/+\nb,2,planted5ecret%2F%2B\n"
MASKED = b"k,n,t\na,1,asked with api_key=***\nb,2,***\n"


@pytest.mark.parametrize(
    ("packed", "form"),
    [
        (lambda body: body, "csv"),
        (gzip.compress, {"kind": "csv", "archive": "gzip"}),
        (zipped, {"kind": "csv", "archive": "zip"}),
    ],
)
def test_a_key_that_the_upstream_repeats_is_in_no_byte_that_is_kept_or_loaded(bench, sandbox, packed, form):
    spec = csv_spec(request=AUTH, format=form)
    first = load(bench, sandbox, spec, packed(ECHO))
    assert (first.counts.added, [row[2] for row in bench.rows("mini")]) == (2, ["asked with api_key=***", "***"])
    [entry] = kept(bench)
    assert entry.masked
    for form in (KEY, "planted5ecret%2F%2B"):
        assert form.encode() not in everything(bench)
    # What is compared is what came.
    assert load(bench, sandbox, spec, packed(ECHO)).outcome == "unchanged"


@settings(max_examples=30, deadline=None)
@given(
    at=st.integers(BLOCK - 20, BLOCK + 5),
    form=st.sampled_from([KEY, "planted5ecret%2F%2B"]),
    code=st.sampled_from(["utf-8", "utf-16-le"]),
)
def test_a_key_across_two_blocks_is_masked_too(tmp_path_factory, at, form, code):
    folder = tmp_path_factory.mktemp("mask")
    body = b"x" * (at + at % 2) + form.encode(code) + b"y" * 7
    (folder / "in").write_bytes(body)
    assert rewritten(folder / "in", folder / "out", masking([KEY]), 10**9)
    assert (folder / "out").read_bytes() == body.replace(form.encode(code), "***".encode(code))


def test_a_bomb_is_not_unpacked_to_look_for_a_key(bench, sandbox):
    spec = csv_spec(request={**AUTH, "max_unpacked": "1MB"}, format={"kind": "csv", "archive": "zip"})
    with pytest.raises(UpstreamRefused, match="unpacks to more than"):
        load(bench, sandbox, spec, zipped(b"k,n,t\n" + b"0" * 20_000_000))
    assert kept(bench) == []


LISTED = {"kind": "json", "rows": "all.list"}
WINDOWS = {"kind": "csv", "delimiter": ";", "skip_lines": 1, "encoding": "cp1252"}
PACKED = {"kind": "csv", "fields": ["k", "n", "who.name"], "archive": "gzip"}
PERSONS = {"k": {"type": "text"}, "n": {"type": "int"}, "who": {"type": "text", "from": "who.name"}}


@pytest.mark.parametrize(
    ("form", "body", "redact"),
    [
        ("json", '[{"k": "a", "n": 7, "who": {"name": "Ann Ö", "born": 1970}}, {"k": "b", "who": null}]', "who"),
        (LISTED, '{"all": {"list": [{"k": "a", "n": 7, "who": {"name": "Ann Ö"}}]}}', "who.name"),
        ("jsonl", '{"k": "a", "n": 7, "who": {"name": "Ann Ö"}}\n{"k": "b", "who": {"name": "Bob"}}\n', "who.name"),
        ("csv", 'k,n,who.name\na,7,"Ann\n ""Ö"""\nb,,\n', "who.name"),
        (WINDOWS, "of today\nk;n;who.name\na;7;Ann Ö\n", "who.name"),
        (PACKED, "a,7,Ann Ö\n", "who.name"),
    ],
)
def test_declared_fields_are_masked_before_anything_is_kept_or_loaded(bench, sandbox, form, body, redact):
    plain = csv_spec(format=form, columns=PERSONS)
    code = form.get("encoding", "utf-8") if isinstance(form, dict) else "utf-8"
    packed = gzip.compress if isinstance(form, dict) and form.get("archive") else bytes
    raw = packed(body.encode(code))
    load(bench, sandbox, plain, raw, run_id="plain")
    before = [row[:2] for row in bench.rows("mini")]
    again = Bench(bench.folder / "again", sandbox.base)
    spec = csv_spec(format=form, columns=PERSONS, archive={"redact": [redact]})
    load(again, sandbox, spec, raw)
    assert [row[:2] for row in again.rows("mini")] == before
    assert again.rows("mini")[0][2] == "***"
    for name in ("Ann", "Bob"):
        assert name.encode() not in everything(again)
    assert load(again, sandbox, spec, raw).outcome == "unchanged"


def test_a_number_becomes_empty_and_what_no_column_reads_is_masked_too(bench, sandbox):
    columns = {"k": {"type": "text"}, "n": {"type": "int"}}
    spec = spec_of(columns=columns, archive={"redact": ["n", "note"]})
    load(bench, sandbox, spec, b'[{"k": "a", "n": 7, "note": ["Ann", {"by": "Bob"}]}]')
    assert [row[:2] for row in bench.rows("mini")] == [("a", None)]
    [entry] = kept(bench)
    assert json.loads(bytes_of(bench, entry.parts[0])) == [{"k": "a", "n": None, "note": ["***", {"by": "***"}]}]


@pytest.mark.parametrize(
    ("form", "body"), [("csv", b"k,n,full_name\na,1,Ann\n"), ("json", b'[{"k": "a", "full_name": "Ann"}]')]
)
def test_a_field_that_has_another_name_now_is_not_let_through(bench, sandbox, form, body):
    spec = csv_spec(format=form, archive={"redact": ["t"]})
    with pytest.raises(ContractViolation, match="t is not in the payload, so it cannot be masked"):
        load(bench, sandbox, spec, body)
    assert kept(bench) == []
    assert b"Ann" not in everything(bench)


def test_what_was_kept_before_a_field_was_to_be_masked_is_masked_when_it_is_read(bench, sandbox):
    load(bench, sandbox, csv_spec(), b"k,n,t\na,1,Ann\n")
    [entry] = kept(bench)
    folder = bench.folder / "again"
    folder.mkdir()
    spec = csv_spec(archive={"redact": ["t"]})
    delivery = open_entry(spec, bench.settings, entry.id, folder)
    assert delivery.parts[0].path.read_bytes() == b"k,n,t\na,1,***\n"


def test_adding_a_field_to_mask_reads_the_source_anew(bench, sandbox):
    body = b"k,n,t\na,1,Ann\n"
    load(bench, sandbox, csv_spec(), body)
    assert load(bench, sandbox, csv_spec(archive={"redact": ["t"]}), body).counts.updated == 1
    assert csv_spec(archive={"keep": "1d"}).spec_hash == csv_spec().spec_hash


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_damaged_bytes_are_never_taken_for_the_payload(bench, sandbox, damage):
    load(bench, sandbox, csv_spec(), b"k,n,t\na,1,x\n")
    [entry] = kept(bench)
    path = Store(bench.settings.data_dir, "mini").part_path(entry.id)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-6] if damage == "cut" else zstandard.compress(b"k,n,t\na,2,x\n"))
    with pytest.raises(InternalError, match="a payload in the archive of mini is damaged"):
        open_entry(csv_spec(), bench.settings, entry.id, bench.folder)


@pytest.mark.e2e
def test_killed_while_it_is_kept_nothing_half_is_there_and_the_next_refresh_keeps_it(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    child = start("refreshing_child", bench.folder, sandbox.base, "fetched")
    assert (child.communicate(timeout=60)[0], child.returncode) == ("", -signal.SIGKILL)
    store = Store(bench.settings.data_dir, "mini")
    store.folder.mkdir(parents=True, exist_ok=True)
    half = store.folder / ".0123.part"
    half.write_bytes(b"half")
    bench.refresh(csv_spec())
    assert len(kept(bench)) == 1
    clear_archive(bench.settings.data_dir, "mini", Archive(), (), bench.now)
    assert half.exists()  # somebody may be writing it
    os.utime(half, (0, 0))
    clear_archive(bench.settings.data_dir, "mini", Archive(), (), bench.now)
    assert not half.exists()


def filled(bench, sandbox, count):
    for number in range(count):
        load(bench, sandbox, csv_spec(), f"k,n,t\na,{number},{os.urandom(300).hex()}\n".encode())
    return [load.payload for load in Journal(Store(bench.settings.data_dir, "mini")).read()]


def cleared(bench, limits, held, later):
    for path in (bench.settings.data_dir / "archive").rglob("*.json"):
        os.utime(path, (0, 0))
    return clear_archive(bench.settings.data_dir, "mini", limits, held, bench.now + later)


def test_old_payloads_go_and_those_that_are_needed_stay(bench, sandbox):
    payloads = filled(bench, sandbox, 4)
    removed = cleared(bench, Archive(keep="30d"), {payloads[0], payloads[3]}, timedelta(days=31))
    assert (removed.payloads, {entry.id for entry in kept(bench)}) == (2, {payloads[0], payloads[3]})
    assert [load.payload for load in Journal(Store(bench.settings.data_dir, "mini")).read()] == [
        payloads[0],
        payloads[3],
    ]
    assert removed.bytes > 600
    assert cleared(bench, Archive(keep="30d"), {payloads[0], payloads[3]}, timedelta(days=31)).payloads == 0


def test_of_too_many_bytes_the_oldest_go(bench, sandbox):
    payloads = filled(bench, sandbox, 4)
    each = Store(bench.settings.data_dir, "mini").part_path(payloads[0]).stat().st_size
    limits = Archive(max_bytes=f"{int(each * 2.5)}B")
    assert cleared(bench, limits, {payloads[0]}, timedelta(days=2)).payloads == 2
    assert {entry.id for entry in kept(bench)} == {payloads[0], payloads[3]}


def test_what_came_today_stays_whatever_the_limits_are(bench, sandbox):
    filled(bench, sandbox, 3)
    assert cleared(bench, Archive(keep="0s", max_bytes="1B"), (), timedelta(hours=1)).payloads == 0


def test_a_part_that_two_payloads_share_stays_as_long_as_one_of_them(bench, sandbox):
    store = Store(bench.settings.data_dir, "mini")
    load(bench, sandbox, csv_spec(), b"k,n,t\na,1,x\n")
    load(bench, sandbox, csv_spec(), b"k,n,t\na,2,x\n")
    first, second = kept(bench)
    manifest = json.loads(store.manifest_path(second.id).read_text())
    manifest["parts"] += json.loads(store.manifest_path(first.id).read_text())["parts"]
    store.manifest_path(second.id).write_text(json.dumps(manifest))
    cleared(bench, Archive(keep="1d"), {second.id}, timedelta(days=2))
    assert [entry.id for entry in kept(bench)] == [second.id]
    assert len(open_entry(csv_spec(), bench.settings, second.id, bench.folder).parts) == 2


@pytest.mark.parametrize(
    ("redact", "form", "said"),
    [
        ("[who, k]", "csv", "k is read into k, which no row can lack (rows are told apart by it)"),
        (
            "[n]",
            "csv",
            "n is read into n, which may not be empty (a text becomes ***, and what is read into int becomes",
        ),
        ("[who]", "parquet", "archive.redact goes with format csv, json, jsonl"),
        ("[who, who]", "csv", "redact names a field twice, or an empty one"),
        ("who", "csv", "archive.redact must be a list"),
    ],
)
def test_what_cannot_be_masked_is_an_error_of_the_yaml(tmp_path, redact, form, said):
    text = MINI.replace("  day: {type: date}\n", "  k: {type: text}\n  n: {type: int, nullable: false}\n")
    text = text.replace("[day]", "[k]").replace("format: csv", f"format: {form}") + f"archive: {{redact: {redact}}}\n"
    [problem] = errors(load_folder(tmp_path, {"benin/mini.yaml": text}))
    assert said in str(problem)
    assert ":10:" in str(problem)


def test_an_archive_that_cannot_be_written_loads_nothing(bench, sandbox):
    (bench.settings.data_dir / "archive").mkdir(parents=True)
    (bench.settings.data_dir / "archive" / "mini").write_text("in the way")
    with pytest.raises(InternalError, match="the payload cannot be kept in"):
        load(bench, sandbox, csv_spec(), b"k,n,t\na,1,x\n")
    assert bench.warehouse.states("mini")[0] == {}


def test_a_renamed_source_takes_its_payloads_along(bench, sandbox):
    load(bench, sandbox, csv_spec(), b"k,n,t\na,1,x\n")
    heir = csv_spec("heir", aliases=["mini"])
    load(bench, sandbox, heir, b"k,n,t\na,2,x\n")
    assert len(kept(bench, "heir")) == 2
    assert kept(bench) == []
    live = bench.rows("heir")
    rebuild(heir, bench.tools(), run_id="rebuild")
    assert bench.rows("heir") == live
