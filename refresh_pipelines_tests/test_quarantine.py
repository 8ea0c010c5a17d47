"""What a refresh does with a payload that is a surprise: nothing is loaded, and it waits as a record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from refresh_pipelines.archive.keep import entries
from refresh_pipelines.quarantine import Accept, Quarantine, payloads_held
from refresh_pipelines.quarantine_words import markdown
from refresh_pipelines_tests.stores import both, held, opened
from refresh_pipelines_tests.upstream import Upstream, answer
from refresh_pipelines_tests.workbench import Bench, csv_spec

DAY = {"k": {"type": "date"}, "n": {"type": "int"}, "t": {"type": "text"}}


def keys(count, first=0):
    return [f"k{number:03},{number},t" for number in range(first, first + count)]


def calendar(*numbers):
    return [f"2024-{1 + n // 28:02}-{1 + n % 28:02},{n},t" for n in numbers]


class Place(Bench):
    """A bench whose upstream serves `lines`."""

    def __init__(self, folder, upstream, warehouse=None):
        super().__init__(folder, upstream.base)
        self.upstream, self.warehouse = upstream, warehouse or self.warehouse

    def serve(self, lines, spec, **kwargs):
        self.upstream.lines = lines
        return self.refresh(spec, **kwargs)

    @property
    def records(self):
        return Quarantine(self.settings.data_dir).of("mini")


@pytest.fixture
def upstream():
    def serve(handler):
        handler.wfile.write(answer("\n".join(["k,n,t", *upstream.lines, ""]).encode()))

    with Upstream(serve) as upstream:
        upstream.lines = []
        yield upstream


@pytest.fixture
def place(tmp_path, upstream):
    return Place(tmp_path, upstream)


@both
def test_a_surprise_leaves_the_table_and_shows_what_it_would_have_done(kind, request, tmp_path, upstream):
    place = Place(tmp_path, upstream, opened(kind, request, tmp_path / "w.duckdb"))
    spec = csv_spec(load={"mode": "replace_partition"})
    place.serve(keys(100), spec)
    before = held(place.warehouse, "mini")
    changed = [f"k{number:03},{number + 1},t" for number in range(50)]
    outcome = place.serve([*changed, *keys(2, 500)], spec)
    [record] = place.records
    assert (outcome.outcome, outcome.error_class, outcome.success) == ("quarantined", "quarantined", False)
    assert held(place.warehouse, "mini") == before
    assert [reason.demand for reason in record.reasons] == ["change", "deleted"]
    assert (record.rows_before, record.rows_now, record.counts["deleted"]) == (100, 52, 50)
    shown = record.differences
    assert [row["key"]["k"] for row in shown["added"]] == ["k500", "k501"]
    assert shown["updated"][0] == {"key": {"k": "k000"}, "changes": {"n": ["0", "1"]}}
    assert (shown["gone"][0], shown["number_gone"]) == ({"key": {"k": "k050"}}, 50)


@both
def test_an_accepted_payload_is_loaded_as_it_came_and_its_like_passes_from_then_on(kind, request, tmp_path, upstream):
    place = Place(tmp_path, upstream, opened(kind, request, tmp_path / "w.duckdb"))
    spec = csv_spec(load={"mode": "replace_partition"})
    place.serve(keys(100), spec)
    place.serve(keys(40), spec)
    [record] = place.records
    outcome = place.serve(["what the upstream serves now does not matter"], spec, accept=Accept(record, "ada"))
    assert (outcome.outcome, outcome.counts.deleted, outcome.accepted_by) == ("loaded", 60, "ada")
    [record] = place.records
    assert (record.state, record.decided_by, record.loaded_by) == ("accepted", "ada", outcome.run_id)
    assert place.serve(keys(40), spec).outcome == "unchanged"
    assert place.refresh(spec, accept=Accept(record, "ada")).outcome == "unchanged"
    assert place.serve(keys(20), spec).outcome == "loaded"
    assert len(held(place.warehouse, "mini")) == 20


@both
def test_days_inside_that_the_table_has_are_missed(kind, request, tmp_path, upstream):
    place = Place(tmp_path, upstream, opened(kind, request, tmp_path / "w.duckdb"))
    spec = csv_spec(columns=DAY)
    for last in (100, 101, 102):
        place.serve(calendar(*range(last)), spec)
    place.serve(calendar(*range(20), *range(27, 103)), spec)
    [record] = place.records
    assert [reason.demand for reason in record.reasons] == ["holes"]
    assert record.differences["gone"][0]["key"]["k"] == "2024-01-21"


def test_a_window_that_moves_on_misses_nothing(place):
    spec = csv_spec(columns=DAY)
    for first in range(0, 200, 20):
        assert place.serve(calendar(*range(first, first + 60)), spec).outcome == "loaded"
    assert place.serve(calendar(*range(300, 330)), spec).outcome == "quarantined"  # half the rows, all of them new


def test_the_same_payload_again_is_one_record_and_is_not_read(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    first = place.serve(keys(30), spec)
    place.now += timedelta(hours=1)
    place.stages.clear()
    second = place.serve(keys(30), spec)
    [record] = place.records
    assert (first.quarantine, second.quarantine) == (record.id, record.id)
    assert (record.seen, record.state, record.run_id) == (2, "waiting", first.run_id)
    assert record.seen_at > record.at
    assert "staged" not in place.stages
    assert place.serve([*reversed(keys(30))], spec).quarantine == record.id  # other bytes, the same rows
    assert place.serve(keys(30), spec, force=True).quarantine == record.id
    assert len(place.records) == 1


def test_its_bytes_are_in_the_archive_and_held_there(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    place.serve(keys(30), spec)
    [record] = place.records
    assert record.payload in {entry.id for entry in entries(place.settings.data_dir, "mini")}
    assert list(payloads_held(place.settings.data_dir)) == [record.payload]


def test_other_limits_judge_it_anew(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    place.serve(keys(30), spec)
    lenient = csv_spec(expect={"change": "80%"})
    assert place.serve(keys(30), lenient).success
    assert [record.state for record in place.records] == ["superseded"]


def test_what_the_upstream_served_before_ends_the_waiting_too(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    place.serve(keys(30), spec)
    assert place.serve(keys(100), spec).outcome == "unchanged"
    assert [record.state for record in place.records] == ["superseded"]
    assert place.serve(keys(30), spec).outcome == "quarantined"
    assert [record.state for record in place.records] == ["waiting"]


def test_a_rejected_payload_is_known_by_its_rows_and_never_loaded(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    place.serve(keys(30), spec)
    [record] = place.records
    Quarantine(place.settings.data_dir).reject(record, "ada", place.now)
    for lines in (keys(30), [*reversed(keys(30))]):
        outcome = place.serve(lines, spec)
        assert outcome.outcome == "quarantined"
        assert "rejected by ada on 2026-11-22" in outcome.message
    assert [one.state for one in place.records] == ["rejected"]


def test_the_record_is_one_file_that_needs_nothing_else(place):
    spec = csv_spec()
    place.serve(keys(100), spec)
    outcome = place.serve(keys(30), spec)
    path = place.settings.data_dir / "quarantine" / "mini" / f"{outcome.quarantine}.json"
    said = json.loads(path.read_text())
    assert (said["version"], said["state"], said["source"]) == (1, "waiting", "mini")
    assert len(said["payload"]) == 64


def test_values_are_masked_and_are_no_markup(place):
    place.settings = replace(place.settings, environ={"MINI_KEY": "planted5ecret"})
    spec = csv_spec(
        request={"url": "https://example.org/data.csv", "auth": {"env": "MINI_KEY", "query": "key"}},
        load={"mode": "replace_partition"},
    )
    place.serve(keys(100), spec)
    outcome = place.serve([*(f"k{n:03},{n},planted5ecret|<b>" for n in range(40))], spec)
    [record] = place.records
    text = markdown(record)
    assert outcome.outcome == "quarantined"
    assert "planted5ecret" not in text + json.dumps(record.item())
    assert "t: t → \\*\\*\\*\\|\\<b\\>" in text


def test_an_edited_yaml_begins_anew(place):
    place.serve(keys(100), csv_spec())
    other = csv_spec(columns={**csv_spec().model_dump()["columns"], "n": {"type": "bigint"}})
    assert other.spec_hash != csv_spec().spec_hash
    assert place.serve(keys(100), csv_spec(load={"volatile": ["t"]})).outcome in ("loaded", "unchanged")
    assert place.serve(keys(30), csv_spec(load={"volatile": ["n"]})).success


def test_growth_day_by_day_is_never_a_surprise(place):
    spec = csv_spec()
    for number in range(30, 130, 5):
        assert place.serve(keys(number), spec).success
