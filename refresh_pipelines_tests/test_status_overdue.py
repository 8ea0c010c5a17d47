"""What `refresh status` says of sources that are overdue: since when, by which limit, and what to do."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from refresh_pipelines_tests.overdue_bench import DAYS, WHOLE

NOW = datetime.now(timezone.utc)


def loaded(home, days_ago, *keys, source="x"):
    """Have good refreshes be logged some days ago."""
    at = NOW - timedelta(days=days_ago)
    with home.entered(), dg.DagsterInstance.from_config(str(home.folder)) as instance, freeze_time(at):
        for key in keys or (None,):
            metadata = {
                "refresh/outcome": "loaded",
                "refresh/started_at": at.isoformat(timespec="seconds"),
                "refresh/changed_at": at.isoformat(),
            }
            event = dg.AssetMaterialization(["benin", source], partition=key, metadata=metadata)
            instance.report_runless_asset_event(event)


def day(days_ago):
    return f"{NOW - timedelta(days=days_ago):%F}"


@pytest.fixture
def home(home):
    home.add({"benin/x.yaml": WHOLE})
    return home


def test_what_is_overdue_is_told_with_since_when_and_what_to_do(home):
    loaded(home, 4)
    result = home.refresh("status", "x")
    assert result.exit_code == 1
    assert "overdue" in result.stdout.splitlines()[1]
    assert (
        f"Overdue: benin/x has not been refreshed since {NOW - timedelta(days=4):%Y-%m-%d %H:%M} UTC" in result.stdout
    )
    assert "`refresh run x` tries now; `refresh history x` shows what its last refreshes did." in result.stdout
    [item] = home.items("status", "x")
    assert item["overdue"] is True


def test_missing_partitions_are_counted_and_can_be_loaded_together(home):
    home.add({"benin/x.yaml": DAYS})
    loaded(home, 9, day(10))
    said = home.refresh("status", "x").stdout
    assert f"Overdue: benin/x[{day(9)}] was due at {day(8)} 06:00 UTC and has never been refreshed" in said
    assert " more partitions." in said
    assert "`refresh run x --missing` tries now" in said


def test_a_backfill_does_not_make_a_source_fresh(home):
    home.add({"benin/x.yaml": DAYS})
    loaded(home, 9, day(10))
    loaded(home, 0, day(200))
    assert home.items("status", "x")[0]["overdue"] is True


def test_a_source_where_nothing_changes_says_so(home):
    home.add({"benin/x.yaml": WHOLE.replace("checked: 36h", "changed: 3d")})
    loaded(home, 4)
    said = home.refresh("status", "x").stdout
    assert "Overdue: benin/x: nothing has changed since" in said
    assert "The upstream has served the same since then" in said


def test_paused_sources_and_switched_off_schedules_are_not_overdue(home):
    loaded(home, 4)
    home.refresh("pause", "x")
    assert home.refresh("status", "x").exit_code == 0
    home.refresh("resume", "x")
    home.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    assert home.items("status", "x")[0]["overdue"] is False


def test_a_source_that_was_never_refreshed_is_not_overdue_before_it_was_due(home):
    result = home.refresh("status", "x")
    assert result.exit_code == 0
    assert "never run" in result.stdout.splitlines()[1]
