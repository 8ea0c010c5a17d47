"""`refresh gaps` as a person, a program and system cron see it."""

import json
from datetime import timedelta

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines_tests.catalogues import MINI

# Due half a day ago, more or less: nobody waits for the newest tick any more, and the next one is far.
HOUR = 0 if utc_now().hour >= 12 else 12
TIMED = MINI.replace("frequency: daily", f'frequency: daily, time: "{HOUR:02}:00"')
DAILY = TIMED + "partitions: {time: day, start: 2024-01-01, column: day}\n"
DATA = "/example.org/data.csv"


@pytest.fixture
def away(home):
    """Return a home with two sources that nobody has looked at for three days."""
    home.add({"benin/days.yaml": DAILY, "benin/whole.yaml": TIMED})
    specs = [load_catalogue([home.folder / "catalog"]).find(name) for name in ("days", "whole")]
    Rhythms(home.folder / "data").note(specs, newest() - timedelta(days=2, hours=1), lambda spec: None)
    home.sandbox.override(DATA, b"day,value\n" + b"".join(f"{day},1\n".encode() for day in days()))
    home.environ["REFRESH_CATALOG"] = "catalog"
    return home


def newest():
    """Return the newest tick."""
    now = utc_now()
    tick = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return tick if tick <= now else tick - timedelta(days=1)


def days():
    """Return the days that the three ticks up to then ask for, oldest first."""
    return [f"{newest() - timedelta(days=back):%Y-%m-%d}" for back in (3, 2, 1)]


def items(home, *args):
    result = home.refresh("gaps", *args, "--json")
    document = json.loads(result.stdout)
    assert document["ok"] == (result.exit_code == 0)
    return document["items"]


def test_gaps_and_missing_partitions_are_listed_and_the_exit_code_says_so(away):
    result = away.refresh("gaps", "days", "whole")
    assert result.exit_code == 1
    assert "benin/days: 3 due ticks since" in result.stdout
    assert ": 3 gap; 3 partitions missing" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("benin/whole ")]
    assert rows[0][:2] == ["benin/whole", "gap"]
    assert "`refresh gaps --fill` refreshes what is missing." in result.stdout


def test_programs_get_one_item_for_each_tick_and_missing_partition(away):
    found = items(away, "days")
    assert set(found[0]) == {"source", "group", "tick", "verdict", "reason", "run_id", "partition"}
    assert [item["verdict"] for item in found] == ["gap"] * 3 + ["missing"] * 3
    assert [item["partition"] for item in found[3:]] == days()
    assert found[0]["tick"] == f"{newest() - timedelta(days=2):%Y-%m-%dT%H:00:00Z}"


def test_filling_refreshes_what_is_missing_once(away):
    away.sandbox.override(DATA, b"day,value\n")
    for name in ("days", "whole"):
        path = away.folder / f"catalog/benin/{name}.yaml"
        path.write_text(path.read_text() + "expect: {min_rows: 0}\n")
    filled = away.items("gaps", "days", "whole", "--fill")
    assert [(item["source"], item["partition"], item["trigger"]) for item in filled] == [
        *(("days", day, "catch_up") for day in days()),
        ("whole", None, "catch_up"),
    ]
    assert len({item["run_id"] for item in filled}) == 2
    assert away.items("gaps", "days", "whole", "--fill") == []
    assert away.refresh("gaps", "days", "whole", "--fill").stdout == "nothing is to be filled\n"
    after = items(away, "days", "whole")
    assert {item["verdict"] for item in after} == {"run", "made_up"}
    assert away.refresh("gaps", "days", "whole").exit_code == 0


def test_a_filling_that_fails_is_exit_code_one_and_leaves_the_gap(away):
    away.sandbox.override(DATA, b"no", status=404)
    result = away.refresh("gaps", "days", "--fill")
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert {item["verdict"] for item in items(away, "days")} >= {"missing"}


def test_what_waits_for_a_key_is_blocked_which_is_no_failure(away):
    away.environ["FRED_API_KEY"] = ""
    [fred] = [load_catalogue([away.folder / "catalog"]).find("fred_fx")]
    Rhythms(away.folder / "data").note([fred], utc_now() - timedelta(days=20), lambda spec: None)
    result = away.refresh("gaps", "fred_fx", "--fill")
    assert (result.exit_code, "blocked" in result.stdout) == (0, True)
    assert "blocked: set FRED_API_KEY in the environment or in .env (fred_fx)" in away.refresh("gaps", "fred_fx").stdout


def test_what_is_not_due_at_times_is_said_to_be_so(home):
    home.add({"benin/off.yaml": MINI + "enabled: false\n", "benin/fine.yaml": MINI})
    result = home.refresh("gaps", "--group", "benin")
    assert result.exit_code == 0
    assert "benin/off: disabled in its YAML" in result.stdout
    assert "benin/fine: no tick was due since" in result.stdout


@pytest.mark.parametrize(
    ("since", "said"),
    [
        ("yesterday", "expected a time such as 2026-10-25, or an age such as 90d"),
        ("2999-01-01", "lies ahead"),
    ],
)
def test_a_wrong_age_is_a_usage_error(home, since, said):
    result = home.refresh("gaps", "--since", since)
    assert (result.exit_code, said in " ".join(result.stderr.split())) == (2, True)


def test_since_narrows_what_is_compared(away):
    since = (newest() - timedelta(hours=1)).isoformat()
    assert [item["verdict"] for item in items(away, "whole", "--since", since)] == ["gap"]
    assert items(away, "whole", "--since", "1s") == []
