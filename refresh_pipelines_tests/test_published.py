"""What a JSON document says of itself: when it was published, and fields given to each row."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import HOST, Bench, spec_of

OCTOBER = datetime(2026, 10, 14, tzinfo=timezone.utc)
ANSWERED = {"Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"}
COLUMNS = {"k": {"type": "text"}, "n": {"type": "int"}, "at": {"type": "text"}}


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def spec(*paging, **form):
    request = {"url": f"https:/{HOST}", **({"paging": paging[0]} if paging else {})}
    form = {"kind": "json", "rows": "rows", **form}
    return spec_of(request=request, format=form, columns=COLUMNS, load={"volatile": ["at"]})


DAY = {"published": "meta.at", "document": {"at": "meta.at"}}
DATED = spec(**DAY)


@pytest.fixture
def load(bench, sandbox):
    def load(at, spec=DATED, n=1, headers=None):
        document = {"meta": {"at": at}, "rows": [{"k": "a", "n": n, "at": None}]}
        sandbox.override(HOST, json.dumps(document).encode(), headers=ANSWERED if headers is None else headers)
        return bench.refresh(spec)

    return load


def stored(bench):
    return bench.warehouse.states("mini")[0][""].published_at


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("2026-10-14", OCTOBER), ("2026-10-14T00:00:00Z", OCTOBER), ("2026-10-14T02:00:00+02:00", OCTOBER),
        ("2026-10-14T06:30:00", datetime(2026, 10, 14, 6, 30, tzinfo=timezone.utc)),
        ("mid October", None), ("14.10.2026", None), ("", None), (None, None), (["2026-10-14"], None), ({}, None),
    ],
)  # fmt: skip
def test_the_day_in_the_document_is_when_it_was_published_and_last_modified_is_not(load, bench, said, read):
    outcome = load(said)
    assert (outcome.outcome, outcome.published_at) == ("loaded", read)
    assert stored(bench) == read


def test_without_a_declared_day_it_is_last_modified(load, bench):
    outcome = load("2026-10-14", spec())
    assert outcome.published_at == stored(bench) == datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def test_a_new_day_of_the_same_rows_is_remembered_and_changes_no_row(load, bench):
    load("2026-10-14")
    before = bench.rows("mini")
    outcome = load("2026-11-01")
    assert (outcome.outcome, outcome.counts) == ("unchanged", Counts(fetched=1, unchanged=1))
    assert outcome.published_at == stored(bench) == datetime(2026, 11, 1, tzinfo=timezone.utc)
    assert bench.rows("mini") == before
    assert load("2026-11-02", n=2).counts == Counts(fetched=1, updated=1)
    assert bench.rows("mini")[0][:3] == ("a", 2, "2026-11-02")


def test_the_same_bytes_keep_the_day_they_came_with(load, bench):
    load("2026-10-14")
    again = load("2026-10-14", headers={"Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT"})
    assert (again.outcome, again.published_at) == ("unchanged", OCTOBER)
    assert stored(bench) == OCTOBER


def test_a_document_that_lost_its_day_is_not_published_by_its_answer(load, bench):
    load("2026-10-14")
    assert load("soon", n=2).published_at is None
    assert stored(bench) is None


def test_of_several_pages_the_last_that_says_a_day_says_when(bench, sandbox):
    for page, at in (("1", "2026-10-14"), ("2", "2026-10-15"), ("3", None)):
        rows = [{"k": f"{page}{number}", "n": 1} for number in range(2 if page != "3" else 1)]
        sandbox.override(f"{HOST}?page={page}", json.dumps({"meta": {"at": at}, "rows": rows}).encode())
    outcome = bench.refresh(spec({"kind": "page", "param": "page", "size": 2}, **DAY))
    assert outcome.counts.added == 5
    assert outcome.published_at == datetime(2026, 10, 15, tzinfo=timezone.utc)
    assert [row[2] for row in bench.rows("mini")] == ["2026-10-14"] * 2 + ["2026-10-15"] * 2 + [None]
