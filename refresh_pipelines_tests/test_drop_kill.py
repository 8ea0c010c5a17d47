"""A refresh of dropped files killed at any moment: rows once, a right ledger, and the next run says it."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines_tests.dagster_bench import values
from refresh_pipelines_tests.test_drop_sensor import DAY, Drops
from refresh_pipelines_tests.workbench import start

pytestmark = pytest.mark.e2e
LEDGER = "SELECT key, status, rows_loaded, run_id FROM refresh.file_ledger ORDER BY key"


@pytest.fixture
def drops(bench):
    drops = Drops(bench)
    drops.put("a.csv", ("2026-01-01", 1), ("2026-01-02", 2))
    drops.put("bad.csv", ("soon", 1))
    return drops


def request(drops):
    tick = drops.tick()
    drops.add_days(tick)
    (asked,) = tick.run_requests
    return asked


def die(drops, stage):
    settings = drops.bench.settings
    child = start("dropping_child", settings.root, settings.catalog[0], "survey", DAY, drops.now.isoformat(), stage)
    assert child.communicate(timeout=60)[0] == ""
    assert child.returncode == -signal.SIGKILL


def ledger(drops):
    return open_warehouse(drops.bench.settings).query(LEDGER)[1]


@pytest.mark.parametrize("stage", ["staged", "merged"])
def test_killed_before_the_commit_no_file_was_taken(drops, stage):
    asked = request(drops)
    die(drops, stage)
    (event,) = drops.bench.good(drops.run(asked))
    assert (values(event)["refresh/added"], "refresh/recovered" in values(event)) == (2, False)
    assert [row[:3] for row in ledger(drops)] == [("a.csv", "loaded", 2), ("bad.csv", "refused", 0)]


def test_killed_between_commit_and_event_every_file_is_known_and_the_next_run_says_what_was_loaded(drops):
    request(drops)
    die(drops, "committed")
    committed = [("a.csv", "loaded", 2, "child-run"), ("bad.csv", "refused", 0, "child-run")]
    assert (ledger(drops), len(drops.rows())) == (committed, 2)
    # The operational store was not told: the sensor asks once more.
    drops.now += timedelta(minutes=2)
    lost, now = drops.bench.good(drops.run(request(drops)))
    assert (values(lost)["refresh/recovered"], values(lost)["refresh/added"]) == (True, 2)
    assert (values(now)["refresh/outcome"], values(now)["refresh/fetched"]) == ("unchanged", 0)
    assert (ledger(drops), drops.rows()) == (committed, [("2026-01-01", 1), ("2026-01-02", 2)])
    assert drops.tick().skip_message == "nothing new; 1 file is refused until changed: bad.csv"
