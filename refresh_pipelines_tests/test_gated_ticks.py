"""Scheduled sources that require others: a tick asks the gate first, and says why it is closed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.clockwork import utc

AT = datetime(2026, 6, 15, 6, tzinfo=timezone.utc)
FIRST = MINI.replace("{frequency: daily}", '{frequency: daily, time: "05:00"}') + "table: first\n"
BEHIND = MINI.replace("{frequency: daily}", '{frequency: daily, time: "06:00"}') + "table: behind\nrequires: [%s]\n"


@pytest.fixture
def tick(bench):
    def evaluate(at=AT, requires="{source: first}"):
        bench.now = at
        bench.add("benin/first", FIRST)
        bench.add("benin/behind", BEHIND % requires)
        repository = bench.definitions().get_repository_def()
        context = dg.build_schedule_context(bench.instance, scheduled_execution_time=at, repository_def=repository)
        data = repository.get_schedule_def("behind_schedule").evaluate_tick(context)
        return len(data.run_requests or ()), data.skip_message

    return evaluate


def refreshed(bench):
    asset = key_of(bench.spec("first"))
    bench.instance.report_runless_asset_event(dg.AssetMaterialization(asset, tags={"dagster/data_version": "1"}))


def test_a_gate_is_closed_while_a_required_source_has_never_reported(tick):
    requested, reason = tick()
    assert requested == 0
    assert reason == "closed: benin/first has never been refreshed: `refresh run first`"


def test_a_gate_opens_when_the_required_source_has_been_refreshed(tick, bench):
    tick()
    refreshed(bench)
    assert tick(at=utc("2026-06-15T06:00")) == (1, None)


def test_a_gate_closes_when_the_required_source_misses_its_tick(tick, bench):
    tick()
    refreshed(bench)  # by the clock of this machine, which is later than all of the ticks so far
    later = datetime.now(timezone.utc).replace(hour=6, minute=0, second=0, microsecond=0) + timedelta(days=3)
    requested, reason = tick(at=later)
    assert requested == 0
    assert reason.startswith("closed: benin/first")
    assert tick(at=later, requires="{source: first, blocking: false}")[0] == 1
    assert tick(at=later, requires="{source: first, max_lag: 10d}")[0] == 1
