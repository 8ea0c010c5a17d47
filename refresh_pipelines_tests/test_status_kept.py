"""What status keeps between processes: nothing logged since is missed, and a broken file is no trouble."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.freshness import Late, Verdict, verdict_from, verdict_text
from refresh_pipelines.orchestration.status import status_items
from refresh_pipelines_tests.overdue_bench import DAYS, Watch, X, at


@pytest.fixture
def watch(bench):
    watch = Watch(bench)
    watch.loaded("2026-11-19T06:05", "2026-11-18")
    watch.loaded("2026-11-20T06:05", "2026-11-19")
    return watch


def item(watch, now="2026-11-20T07:00"):
    """What a process that has just begun says of the source."""
    bench = watch.bench
    return status_items(bench.instance, bench.catalogue(), at(now), bench.settings)[0]


def failed(watch, when):
    metadata = {"refresh/outcome": "failed", "refresh/error_class": "permanent"}
    with freeze_time(at(when)):
        watch.bench.instance.report_runless_asset_event(
            dg.AssetObservation(X, partition="2026-11-20", metadata=metadata)
        )


def file(watch):
    return watch.bench.settings.data_dir / "status.sqlite"


def test_a_failure_and_a_success_after_the_last_look_are_seen(watch):
    assert item(watch)["last_outcome"] == "loaded"
    assert file(watch).exists()
    for count in (1, 2):
        failed(watch, f"2026-11-21T06:0{count}")
        assert (item(watch)["incident"], item(watch)["consecutive_failures"]) == ("permanent", count)
    watch.loaded("2026-11-21T07:00", "2026-11-20")
    found = item(watch, "2026-11-21T07:01")
    assert (found["incident"], found["consecutive_failures"]) == (None, 0)
    assert found["last_changed_at"] == "2026-11-21T07:00:00+00:00"


def test_a_scheduled_run_that_never_logged_anything_is_seen(watch):
    def scheduled(when):
        with freeze_time(at(when)):
            tags = {"refresh/source": "x", "refresh/trigger": "schedule"}
            create_run_for_test(watch.bench.instance, tags=tags)

    scheduled("2026-11-20T06:00")
    assert item(watch)["last_scheduled_run_at"] == "2026-11-20T06:00:00+00:00"
    scheduled("2026-11-21T06:00")
    for _ in range(2):
        assert item(watch)["last_scheduled_run_at"] == "2026-11-21T06:00:00+00:00"


def test_time_alone_makes_a_kept_verdict_another_one(watch):
    assert item(watch, "2026-11-21T18:05")["overdue"] is False
    assert item(watch, "2026-11-21T18:06")["overdue"] is True
    assert item(watch, "2026-11-21T18:05")["overdue"] is False


def test_an_edited_limit_makes_a_kept_verdict_another_one(watch):
    assert item(watch, "2026-11-21T18:06")["overdue"] is True
    watch.bench.add("benin/x", DAYS.replace("36h", "3d"))
    assert item(watch, "2026-11-21T18:06")["overdue"] is False


def test_a_file_that_is_broken_or_cannot_be_made_is_worked_around(watch):
    before = item(watch)
    file(watch).write_bytes(b"no database at all" * 100)
    assert item(watch) == before
    file(watch).unlink()
    file(watch).mkdir()
    assert item(watch) == before


INSTANTS = st.integers(0, 10**6).map(lambda minutes: at("2026-01-01T00:00") + timedelta(minutes=minutes))
KEYS = st.none() | st.text(max_size=12)
LATE = st.builds(Late, st.sampled_from(["checked", "changed"]), KEYS, INSTANTS, INSTANTS, st.booleans())


@given(st.builds(Verdict, st.lists(LATE).map(tuple), st.booleans(), st.none() | INSTANTS, st.integers(0, 9)))
def test_a_verdict_is_read_as_it_was_written(verdict):
    assert verdict_from(verdict_text(verdict)) == verdict
