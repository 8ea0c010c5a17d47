"""`refresh run --due`: another clock than Dagster's, for instance system cron every five minutes."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from filelock import FileLock

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import ROOT

DATA = "/example.org/data.csv"
MADE = """\
description: made from another
requires: [{source: mini}]
derive:
  query: SELECT day, value FROM raw.mini
columns:
  day: {type: date}
  value: {type: double}
merge_key: [day]
"""
ROWS = b"day,value\n2026-01-01,1\n"


@pytest.fixture
def mini(home):
    """Return a home with one source that is due every day at midnight."""
    home.add({"benin/mini.yaml": MINI.replace("frequency: daily", "frequency: daily, misfire_grace: 2d")})
    home.sandbox.override(DATA, ROWS)
    return home


def test_the_newest_due_tick_is_run_once_and_bears_its_time(mini):
    [item] = mini.items("run", "--due", "mini")
    assert (item["outcome"], item["trigger"]) == ("loaded", "schedule")
    assert mini.items("run", "--due", "mini") == []
    result = mini.refresh("run", "--due", "mini")
    assert (result.exit_code, result.stdout) == (0, "nothing is due\n")
    [run] = mini.runs()
    assert run.tags["refresh/tick"] == f"{utc_now():%Y-%m-%d}T00:00:00Z"


def test_alone_it_means_every_enabled_source(mini):
    mini.add({"benin/off.yaml": MINI + "enabled: false\n"})
    found = {item["source"] for item in mini.items("run", "--due")}
    assert found == {"mini", "fred_fx", "bsee_ogora"}
    assert mini.items("run", "--due", "--group", "benin") == []


def test_a_refresh_by_hand_since_the_tick_leaves_nothing_due(mini):
    mini.refresh("run", "mini")
    assert mini.items("run", "--due", "mini") == []


def test_what_failed_is_due_again(mini):
    mini.sandbox.override(DATA, b"no", status=404)
    assert [item["outcome"] for item in mini.items("run", "--due", "mini")] == ["failed"]
    mini.sandbox.override(DATA, ROWS)
    assert [item["outcome"] for item in mini.items("run", "--due", "mini")] == ["loaded"]


def test_a_tick_that_misfired_is_said_and_no_failure(home):
    grace = "frequency: daily, misfire_grace: 0s, catch_up: none"
    home.add({"benin/mini.yaml": MINI.replace("frequency: daily", grace)})
    [item] = home.items("run", "--due", "mini")
    assert item["outcome"] == "blocked"
    assert item["message"].startswith("benin/mini: misfired: looked at ")
    assert home.runs() == []


def test_what_is_paused_or_waits_for_a_key_is_said_and_no_failure(mini):
    mini.refresh("pause", "mini")
    mini.environ["FRED_API_KEY"] = ""
    found = {item["source"]: item["message"] for item in mini.items("run", "--due", "mini", "fred_fx")}
    assert found["mini"] == "benin/mini is paused: `refresh resume mini` ends it"
    assert "set FRED_API_KEY" in found["fred_fx"]
    assert mini.runs() == []


def test_schedules_that_are_switched_off_do_not_stop_it(mini):
    mini.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    assert [item["outcome"] for item in mini.items("run", "--due", "mini")] == ["loaded"]


@pytest.mark.parametrize("option", [["--partition", "x"], ["--from", "x"], ["--to", "x"], ["--missing"]])
def test_it_does_not_go_with_a_choice_of_partitions(home, option):
    result = home.refresh("run", "--due", "fred_fx", *option)
    assert result.exit_code == 2
    assert "--due does not go with --partition, --from, --to or --missing" in " ".join(result.stderr.split())


def test_while_another_one_is_at_work_it_starts_nothing(mini):
    (mini.folder / "data").mkdir(exist_ok=True)
    with FileLock(mini.folder / "data/.due.lock"):
        result = mini.refresh("run", "--due", "mini")
    assert result.exit_code == 0
    assert "is at work: nothing was started" in result.stderr
    assert [item["outcome"] for item in mini.items("run", "--due", "mini")] == ["loaded"]


def test_gaps_see_what_it_ran(mini):
    spec = load_catalogue([mini.folder / "catalog"]).find("mini")
    midnight = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    Rhythms(mini.folder / "data").note([spec], midnight - timedelta(hours=1), lambda spec: None)
    mini.refresh("run", "--due", "mini")
    assert [item["verdict"] for item in mini.items("gaps", "mini")] == ["run"]


def test_dropped_files_are_looked_for(home):
    home.add(
        {
            "autoload/files.yaml": MINI.replace(
                'request: {url: "https://example.org/data.csv"}', "request: {drop: {url: drops}}"
            ).replace("frequency: daily", "frequency: on_event")
            + "partitions: {dynamic: arrival_day}\n"
        }
    )
    (home.folder / "drops").mkdir()
    assert home.items("run", "--due", "files") == []
    file = home.folder / "drops/one.csv"
    file.write_bytes(ROWS)
    yesterday = (utc_now() - timedelta(days=1)).timestamp()
    os.utime(file, (yesterday, yesterday))
    [item] = home.items("run", "--due", "files")
    assert (item["outcome"], item["fetched"], item["trigger"]) == ("loaded", 1, "schedule")
    assert home.items("run", "--due", "files") == []


def test_what_is_derived_is_built_when_its_inputs_have_changed(mini):
    mini.add({"benin/made.yaml": MADE})
    found = [(item["source"], item["outcome"]) for item in mini.items("run", "--due", "--group", "benin")]
    assert found == [("mini", "loaded"), ("made", "loaded")]
    assert mini.items("run", "--due", "--group", "benin") == []


@pytest.mark.e2e
def test_two_at_once_make_one_run(mini):
    code = [sys.executable, "-m", "refresh_pipelines", "run", "--due", "mini", "--json"]
    environ = {**mini.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(code, cwd=mini.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert len(mini.runs()) == 1
    for one in both:
        one.communicate()
