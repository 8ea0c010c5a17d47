"""The three FRED sources of one table: each its own series, read as its owner revises them."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.schedule import next_fires
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, rows_of

FX, RATES, CONDITIONS = builtin("fred_fx"), builtin("fred_rates"), builtin("fred_conditions")


@pytest.fixture
def sandbox():
    with Sandbox([SAMPLES], clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def series(spec):
    return spec.partitions.static["series_id"]


def test_each_series_has_one_source():
    every = [key for spec in (FX, RATES, CONDITIONS) for key in series(spec)]
    assert len(every) == len(set(every)) == 36
    assert "T10Y2Y" in series(RATES)
    assert not {"TEDRATE", "STLFSI", "STLFSI2", "STLFSI3"} & set(every)


def test_the_three_load_into_one_table(bench):
    # That each single series of the samples loads is seen by the conformance of the samples.
    for spec in (FX, RATES, CONDITIONS):
        for key in (series(spec)[0], series(spec)[-1]):
            assert bench.refresh(spec, key).outcome == "loaded", key
    statement = "SELECT _source, count(DISTINCT series_id) FROM raw.fred_economic GROUP BY ALL ORDER BY ALL"
    found = rows_of(bench.warehouse, statement)
    assert found == [("fred_conditions", 2), ("fred_fx", 2), ("fred_rates", 2)]


def test_rates_ask_again_for_45_days_and_update_what_moved(bench, sandbox):
    bench.refresh(RATES, "DGS10")
    sandbox.revision = "revised"
    outcome = bench.refresh(RATES, "DGS10")
    assert outcome.counts == Counts(fetched=12, added=3, updated=2, unchanged=7, filtered=1)
    assert [request.query["observation_start"] for request in sandbox.requests] == ["1954-07-01", "2026-09-08"]


def test_an_index_whose_history_is_estimated_anew_is_read_whole(bench, sandbox):
    bench.refresh(CONDITIONS, "NFCI")
    sandbox.revision = "revised"
    outcome = bench.refresh(CONDITIONS, "NFCI")
    assert outcome.counts == Counts(fetched=11, added=1, updated=10)
    assert not any("observation_start" in request.query for request in sandbox.requests)


def test_what_fred_may_no_longer_show_stays_in_the_table(bench, sandbox):
    bench.refresh(CONDITIONS, "BAMLH0A0HYM2")
    sandbox.revision = "revised"
    outcome = bench.refresh(CONDITIONS, "BAMLH0A0HYM2")
    assert outcome.counts == Counts(fetched=9, added=2, unchanged=7)
    assert outcome.partition_rows == 12


@pytest.mark.parametrize("spec", [RATES, CONDITIONS], ids=lambda spec: spec.source)
def test_a_rate_limit_passes_and_is_tried_again(bench, sandbox, spec):
    key = series(spec)[0]
    path = "/api.stlouisfed.org/fred/series/observations"
    sandbox.fault(spec.source, "status:429", times=1)
    assert bench.refresh(spec, key).outcome == "loaded"
    assert [request.status for request in sandbox.requests if request.path == path] == [429, 200]


def test_the_night_run_comes_on_five_days_a_week_also_when_the_clock_changes():
    zone = ZoneInfo("America/New_York")
    for change in (datetime(2027, 3, 9, 12, tzinfo=timezone.utc), datetime(2027, 11, 2, 12, tzinfo=timezone.utc)):
        ticks = next_fires(RATES.schedule.cron, RATES.schedule.timezone, change, 10)
        shown = [f"{tick.astimezone(zone):%a %H:%M}" for tick in ticks]
        assert shown == [f"{day} 02:05" for day in ("Wed", "Thu", "Fri", "Sat", "Tue") * 2]
