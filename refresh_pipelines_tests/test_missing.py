"""`refresh run --missing`: every partition that was never loaded, and no other."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.days import DAYS, Days, days

STATIC = """\
description: by station
request: {url: "https://example.org/days.csv", params: {station: "{station}", start: "2024-01-01", end: "2024-01-02"}}
format: csv
columns:
  day: {type: date}
  station: {type: text, from: "{station}"}
  value: {type: int}
merge_key: [day, station]
schedule: {frequency: daily}
partitions: {static: {station: [d, a, c, b, e]}}
retry: {attempts: 1}
"""
FIRST, *_, LAST = TEN = days("2024-01-01", 10)


@pytest.fixture
def upstream():
    with Days(TEN) as upstream:
        yield upstream


@pytest.fixture
def shell(home, upstream):
    home.add({"benin/days.yaml": DAYS, "benin/stations.yaml": STATIC, "benin/plain.yaml": MINI})
    home.environ["REFRESH_UPSTREAM"] = upstream.base
    return home


def shown(items):
    return [(item["partition"], item["outcome"]) for item in items]


def runs(items):
    """Return the partitions of each run."""
    grouped = {}
    for item in items:
        grouped.setdefault(item["run_id"], []).append(item["partition"])
    return list(grouped.values())


def test_what_was_never_loaded_is_loaded_in_gapless_runs_oldest_first(shell):
    for key in (TEN[2], TEN[3], TEN[7]):
        shell.refresh("run", "days", "--partition", key)
    items = shell.items("run", "days", "--missing", "--from", FIRST, "--to", LAST)
    assert runs(items) == [TEN[:2], TEN[4:7], TEN[8:]]
    assert {item["outcome"] for item in items} == {"loaded"}


def test_a_second_time_nothing_is_missing(shell, upstream):
    options = ("run", "days", "--missing", "--from", FIRST, "--to", LAST)
    assert shell.refresh(*options).exit_code == 0
    upstream.asked.clear()
    result = shell.refresh(*options)
    assert result.exit_code == 0
    assert "benin/days: nothing is missing" in result.stderr
    assert shell.items(*options) == []
    assert upstream.asked == []


def test_what_failed_is_still_missing(shell, upstream):
    upstream.trouble["a"] = upstream.trouble["b"] = 404
    assert shell.refresh("run", "stations").exit_code == 1
    upstream.trouble.clear()
    items = shell.items("run", "stations", "--missing")
    assert shown(items) == [("a", "loaded"), ("b", "loaded")]
    assert len(runs(items)) == 2
    assert "nothing is missing" in shell.refresh("run", "stations", "--missing").stderr


def test_without_a_range_every_partition_up_to_the_newest_is_meant(shell):
    start = f"{datetime.now(timezone.utc).year - 3}-01-01"
    yearly = DAYS.replace("time: day, start: 2024-01-01", f"time: year, start: {start}")
    shell.add({"benin/years.yaml": yearly + "expect: {min_rows: 0}\n"})
    items = shell.items("run", "years", "--missing")
    assert [item["partition"][:4] for item in items] == [str(int(start[:4]) + number) for number in range(3)]


def test_a_range_of_static_keys_is_the_declared_order(shell):
    shell.refresh("run", "stations", "--partition", "c")
    assert runs(shell.items("run", "stations", "--missing", "--from", "a", "--to", "b")) == [["a"], ["b"]]


def test_a_source_without_partitions_is_missing_until_it_was_loaded(shell):
    shell.environ["REFRESH_UPSTREAM"] = shell.sandbox.base
    shell.sandbox.override("/example.org/data.csv", b"no", status=404)
    assert shown(shell.items("run", "plain", "--missing")) == [(None, "failed")]
    shell.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    assert shown(shell.items("run", "plain", "--missing")) == [(None, "loaded")]
    assert shell.items("run", "plain", "--missing") == []


def test_several_sources_say_each_what_is_missing(shell):
    shell.refresh("run", "stations")
    result = shell.refresh("run", "stations", "days", "--missing", "--to", LAST)
    assert result.exit_code == 2  # LAST is no key of stations
    assert "no partition '2024-01-10'" in result.stderr
    shell.refresh("run", "days", "--from", FIRST, "--to", LAST)
    assert "benin/stations: nothing is missing" in shell.refresh("run", "stations", "--missing").stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--missing", "--partition", FIRST], "does not go with"),
        (["--missing", "--from", LAST, "--to", FIRST], "comes after"),
        (["--missing", "--from", "2023-12-31"], "2023-12-31' lies before the first partition, 2024-01-01"),
    ],
)
def test_what_cannot_be_missing_is_a_usage_error(shell, upstream, args, said):
    result = shell.refresh("run", "days", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert upstream.asked == []
