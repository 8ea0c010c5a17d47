"""`refresh reset`, and what `status` and `run --due` say and do while a breaker is open."""

import pytest

from refresh_pipelines_tests.catalogues import MINI

DATA = "/example.org/data.csv"
GOOD = b"day,value\n2026-01-01,1\n"


@pytest.fixture
def mini(home):
    """Return a home with one source whose breaker opens at the second failure, below an upstream that refuses."""
    grace = MINI.replace("frequency: daily", "frequency: daily, misfire_grace: 2d")
    home.add({"benin/mini.yaml": grace + "retry: {attempts: 1}\nbreaker: {failures: 2, probe: 1h}\n"})
    home.sandbox.override(DATA, b"no", status=403)
    return home


def fail(home, times=2):
    for _ in range(times):
        assert home.refresh("run", "mini").exit_code == 1


def test_status_names_the_open_breaker_and_what_to_do(mini):
    fail(mini)
    result = mini.refresh("status", "mini")
    assert result.exit_code == 1
    header, row, _, sentence, todo = result.stdout.splitlines()[:5]
    assert header.split()[-1] == "BREAKER"
    assert row.split()[-1] == "open"
    assert sentence.startswith("Breaker open: benin/mini since 20")
    assert "after 2 failures in a row; next probe 20" in sentence
    assert todo.strip().startswith("`refresh run mini` asks now, `refresh reset mini` closes it")


def test_due_says_why_it_does_not_ask_and_asks_nobody(mini):
    fail(mini)
    [item] = mini.items("run", "--due", "mini")
    assert item["outcome"] == "blocked"
    assert item["message"].startswith("benin/mini: breaker open since 20")
    assert len(mini.runs()) == 2


def test_without_a_daemon_due_probes_when_it_is_time(mini):
    path = mini.folder / "catalog/benin/mini.yaml"
    path.write_text(path.read_text().replace("probe: 1h", "probe: 0s"))
    fail(mini)
    [item] = mini.items("run", "--due", "mini")
    assert (item["outcome"], item["trigger"]) == ("failed", "probe")
    mini.sandbox.override(DATA, GOOD)
    [item] = mini.items("run", "--due", "mini")
    assert (item["outcome"], item["trigger"]) == ("loaded", "probe")
    assert [run.tags.get("refresh/probe") for run in mini.runs()] == [None, None, "1", "2"]
    assert mini.items("run", "--due", "mini") == []


def test_reset_closes_it_and_failures_open_it_anew(mini):
    fail(mini)
    [item] = mini.items("reset", "mini")
    assert (item["reset"], item["breaker_before"], item["failures_before"]) == (True, "open", 2)
    assert item["message"].startswith("benin/mini: closed after 2 failures in a row; the next tick is 20")
    [item] = mini.items("status", "mini")
    assert (item["breaker"], item["consecutive_failures"], item["breaker_since"]) == ("closed", 2, None)
    [item] = mini.items("run", "--due", "mini")
    assert (item["outcome"], item["trigger"]) == ("failed", "schedule")
    again = mini.refresh("reset", "benin/mini")
    assert again.stdout == "benin/mini: its breaker was closed; 1 failure in a row no longer counts\n"
    assert mini.refresh("reset", "mini").stdout == "benin/mini: its breaker is closed, and no failure was counted\n"
    fail(mini)
    assert mini.items("status", "mini")[0]["breaker"] == "open"


def test_an_unknown_source_or_none_is_a_usage_error(mini):
    assert mini.refresh("reset").exit_code == 2
    assert "did you mean mini?" in mini.refresh("reset", "minni").stderr


def test_an_operational_store_that_cannot_be_used_is_said_with_what_to_do(mini):
    fail(mini)
    (mini.folder / "data/ops.sqlite").unlink(missing_ok=True)
    (mini.folder / "data/ops.sqlite").write_text("no database at all" * 100)
    result = mini.refresh("reset", "mini")
    assert result.exit_code == 1
    assert "the log of resets cannot be used" in result.stderr
