"""`refresh quarantine` as a person at a terminal uses it, and as a program does."""

from __future__ import annotations

import json

import pytest

from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.upstream import Upstream, answer

BEFORE = [f"2024-{1 + n // 28:02}-{1 + n % 28:02},{n}" for n in range(100)]


@pytest.fixture
def served():
    """What the upstream serves: lines of CSV, to be changed."""
    return list(BEFORE)


@pytest.fixture
def shop(home, served):
    """A home with a source that has been loaded once, and whose upstream now serves a third of it."""

    def serve(handler):
        handler.wfile.write(answer("\n".join(["day,value", *served, ""]).encode()))

    with Upstream(serve) as upstream:
        home.environ["REFRESH_UPSTREAM"] = upstream.base
        home.add({"benin/mini.yaml": MINI})
        assert home.refresh("run", "mini").exit_code == 0
        served[:] = BEFORE[:30]
        yield home


def held(home):
    """Have the upstream's payload wait; return its id."""
    [item] = home.items("run", "mini")
    assert item["outcome"] == "quarantined"
    return item["quarantine"]


def rows(home):
    return json.loads(home.refresh("sql", "SELECT count(*) AS n FROM raw.mini", "--json").stdout)["items"][0]["n"]


def test_from_the_first_word_to_the_loaded_payload(shop, served):
    shown = shop.refresh("run", "mini")
    [item] = shop.items("quarantine", "list")
    said = shop.refresh("quarantine", "show", item["id"][:4]).stdout
    status = shop.refresh("status", "mini")
    accepted = shop.refresh("quarantine", "accept", item["id"])
    assert shown.exit_code == 1
    assert f"refresh quarantine show {item['id']}" in shown.stderr
    assert "70% fewer rows" in said
    assert "accepted 100, came 30" in said
    assert f"refresh quarantine accept {item['id']}" in said
    assert (status.exit_code, "quarantined" in status.stdout, item["id"] in status.stdout) == (1, True, True)
    assert accepted.exit_code == 0, (accepted.output, accepted.exception)
    assert accepted.stdout.split()[11] == "unchanged"
    assert rows(shop) == 100  # a merge keeps what the upstream no longer has
    assert [one["state"] for one in shop.items("quarantine", "list", "--all")] == ["accepted"]
    assert shop.items("run", "mini")[0]["outcome"] == "unchanged"
    assert shop.refresh("status", "mini").exit_code == 0
    served[:] = BEFORE[:10]
    assert shop.items("run", "mini")[0]["outcome"] == "unchanged"  # the same size of change is no surprise again


def test_accepting_twice_is_accepting_once(shop):
    number = held(shop)
    [first] = shop.items("quarantine", "accept", number)
    runs = len(shop.runs())
    [second] = shop.items("quarantine", "accept", number)
    assert (first["state"], second["state"], second["loaded_by"]) == ("accepted", "accepted", first["run_id"])
    assert len(shop.runs()) == runs
    assert first["decided_by"]


def test_the_run_that_accepts_is_recorded_as_any_other(shop):
    number = held(shop)
    [item] = shop.items("quarantine", "accept", number)
    run = shop.runs()[-1]
    assert (run.run_id, run.is_success) == (item["run_id"], True)
    assert run.tags["refresh/trigger"] == "manual"
    assert run.tags["refresh/accept"] == number
    [outcome] = shop.items("history", "mini", "--limit", "1")
    assert outcome["quarantine"] == number


def test_a_rejected_payload_stays_out_and_says_by_whom(shop):
    number = held(shop)
    [item] = shop.items("quarantine", "reject", number)
    [again] = shop.items("run", "mini")
    assert (item["state"], again["outcome"], again["quarantine"]) == ("rejected", "quarantined", number)
    assert f"rejected by {item['decided_by']} on " in again["message"]
    assert shop.items("quarantine", "list") == []
    assert shop.items("quarantine", "accept", number)[0]["state"] == "accepted"  # a person may change her mind


def test_what_came_before_something_newer_is_not_loaded_over_it(shop, served):
    number = held(shop)
    served[:] = [*BEFORE, "2025-01-01,1"]
    assert shop.items("run", "mini")[0]["outcome"] == "loaded"
    refused = shop.refresh("quarantine", "accept", number)
    assert (refused.exit_code, "newer payload" in refused.stderr) == (2, True)
    assert shop.items("quarantine", "list", "--all")[0]["state"] == "superseded"
    assert shop.items("quarantine", "accept", number, "--force")[0]["state"] == "accepted"


def test_of_two_that_wait_the_newer_is_the_one_to_decide_on(shop, served):
    older = held(shop)
    served[:] = BEFORE[:31]
    newer = held(shop)
    refused = shop.refresh("quarantine", "accept", older)
    assert [one["id"] for one in shop.items("quarantine", "list")] == [newer]
    assert (refused.exit_code, newer in refused.stderr) == (2, True)


def test_an_id_that_is_none_is_a_matter_of_usage(shop):
    assert shop.refresh("quarantine", "show", "ffff").exit_code == 2
    assert shop.refresh("quarantine", "list").stdout == "nothing waits\n"
