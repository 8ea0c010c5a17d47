"""`refresh plan` as a person and a program see it."""

import json
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from refresh_pipelines.clock import utc_now
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines_tests.catalogues import MINI, copy_two_sources
from refresh_pipelines_tests.command_home import ROOT

PARIS = MINI.replace("{frequency: daily}", '{frequency: daily, time: "02:30", timezone: Europe/Paris}')
DAILY = MINI + "partitions: {time: day, start: 2024-01-01, column: day, lookback: 1}\n"


def document(home, *args):
    result = home.refresh("plan", *args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_next_fires_are_shown_in_both_clocks_with_the_night_that_the_clock_changes(home):
    home.add({"benin/a.yaml": PARIS})
    lines = home.refresh("plan", "a", "--at", "2026-03-27T12:00:00Z", "--count", "3").stdout.splitlines()
    assert lines[:5] == [
        "benin/a: 30 2 * * * Europe/Paris",
        "  Sat 2026-03-28 02:30 CET +01:00  2026-03-28 01:30 UTC",
        "  Sun 2026-03-29 03:00 CEST +02:00  2026-03-29 01:00 UTC",
        "    the clock goes forward that night: 02:30 does not exist, moved to 03:00",
        "  Mon 2026-03-30 02:30 CEST +02:00  2026-03-30 00:30 UTC",
    ]


def test_each_fire_names_its_partitions(home):
    home.add({"benin/a.yaml": DAILY})
    [item] = document(home, "a", "--at", "2026-03-27", "--count", "2")["items"]
    assert [fire["partitions"] for fire in item["fires"]] == [
        ["2026-03-26", "2026-03-27"],
        ["2026-03-27", "2026-03-28"],
    ]
    assert [fire["at"] for fire in item["fires"]] == ["2026-03-28T00:00:00+00:00", "2026-03-29T00:00:00+00:00"]


def test_programs_get_one_item_per_source_and_the_peaks(home):
    found = document(home, "--at", "2026-10-25T00:00:00+02:00")
    assert set(found) == {"version", "ok", "items", "peaks"}
    assert [item["source"] for item in found["items"]] == ["fred_fx", "bsee_ogora"]
    assert {"group", "cron", "timezone", "enabled", "paused", "blocked", "fires", "now"} <= set(found["items"][0])
    assert {"at", "local", "mark", "partitions"} <= set(found["items"][0]["fires"][0])
    assert set(found["items"][0]["now"]) == {"action", "reason", "tick", "requests"}


def test_a_time_without_a_zone_is_utc(home):
    plain, marked = (document(home, "--at", text)["items"] for text in ("2026-10-25T00:00", "2026-10-25T02:00+02:00"))
    assert plain == marked


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--at", "tomorrow"], "expected an ISO time such as 2026-10-25T00:00:00Z"),
        (["--at", "0001-01-01"], "expected a year from 1990 to 2200"),
        (["--count", "0"], "--count"),
        (["fred_fz"], "did you mean fred_fx?"),
        (["--group", "commodity"], "did you mean commodities?"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(home, args, said):
    result = home.refresh("plan", *args)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_what_holds_a_source_back_is_said(home):
    home.add(
        {
            "benin/off.yaml": MINI + "enabled: false\n",
            "benin/sleeping.yaml": MINI,
            "benin/shifted.yaml": MINI.replace("{frequency: daily}", '{frequency: daily, time: "06:00", jitter: 20m}'),
        }
    )
    home.refresh("pause", "sleeping")
    home.environ |= {"FRED_API_KEY": "", "REFRESH_SCHEDULES_ENABLED": "false"}
    said = home.refresh("plan").stdout
    assert "commodities/fred_fx: 0 17 * * 1,2 America/New_York [blocked: set FRED_API_KEY]" in said
    assert "benin/off: disabled in its YAML" in said
    assert "benin/sleeping: 0 0 * * * UTC [paused]" in said
    assert "06:00 moved by" in said
    assert "REFRESH_SCHEDULES_ENABLED is false: every tick is skipped." in said


def test_after_downtime_it_says_what_catch_up_would_request(home):
    home.add({"benin/a.yaml": DAILY.replace(", lookback: 1", "")})
    now = utc_now()
    with home.entered():
        Rhythms(home.folder / "data").note([spec_of(home, "a")], now - timedelta(days=3), lambda spec: None)
    [item] = document(home, "a")["items"]
    tick = datetime.fromisoformat(item["now"]["tick"])
    days = [f"{tick - timedelta(days=back):%Y-%m-%d}" for back in (1, 2, 3)]
    asked = [key for request in item["now"]["requests"] for key in request["partitions"]]
    assert sorted(asked, reverse=True) == days
    assert f"at the tick of {tick:%Y-%m-%d %H:%M} UTC: " in home.refresh("plan", "a").stdout


def spec_of(home, name):
    from refresh_pipelines.catalogue import load_catalogue  # noqa: PLC0415

    return load_catalogue([home.folder / "catalog"]).find(name)


def test_minutes_with_several_sources_are_named_with_their_hosts_and_too_many_are_warned_of(home):
    home.add({f"benin/s{number}.yaml": MINI for number in range(61)})
    result = home.refresh("plan", "--group", "benin")
    assert "00:00 UTC  61 sources  example.org 61" in result.stdout
    assert "More than 60 runs in a minute are requested over several minutes." in result.stdout


def test_the_sources_of_a_batch_count_as_one_run(home):
    batched = MINI.replace("{frequency: daily}", "{frequency: daily, batch: small}")
    home.add({f"benin/s{number}.yaml": batched + f"table: s{number}\n" for number in range(61)})
    result = home.refresh("plan", "--group", "benin")
    assert "00:00 UTC  61 sources in 1 run  example.org 61" in result.stdout
    assert "requested over several minutes" not in result.stdout
    assert document(home, "--group", "benin")["peaks"][0]["runs"] == 1


def test_before_the_first_start_it_answers_without_dagster_and_creates_nothing(tmp_path):
    copy_two_sources(tmp_path / "catalog")
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    before = sorted(tmp_path.rglob("*"))
    code = (
        "import sys; from refresh_pipelines.cli.main import main\n"
        "try: main(['plan', '--json'])\n"
        "finally: sys.stderr.write(str('dagster' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"REFRESH_CATALOG": "catalog", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "False"
    assert [item["now"]["reason"] for item in json.loads(done.stdout)["items"]] == ["nothing has run here yet"] * 2
    assert sorted(tmp_path.rglob("*")) == before
