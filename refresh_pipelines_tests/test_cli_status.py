"""`refresh status`, `history` and `sql`: what became of the refreshes, from event log and warehouse."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest
import requests
from filelock import FileLock

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import Home
from refresh_pipelines_tests.dagster_bench import FRED

STATUS = [
    "source", "group", "tenant", "enabled", "paused", "last_success_at", "last_changed_at", "last_published_at",
    "last_outcome", "last_run_id", "next_run_at", "last_scheduled_run_at", "overdue", "breaker",
    "consecutive_failures", "score", "incident", "quarantine", "stale_yaml", "breaker_since", "next_probe_at",
    "bytes_transferred", "bytes_saved",
]  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, empty_history):
    """Return a home with one good refresh that tests only look at."""
    with Sandbox(SAMPLES) as sandbox:
        home = Home(tmp_path_factory.mktemp("loaded"), empty_history, sandbox)
        home.printed = home.items("run", "fred_fx", "--partition", "DEXUSEU")
        yield home


def refused(home):
    home.sandbox.override(FRED, b"no", status=403)


def row_of(result, source):
    [line] = [line for line in result.stdout.splitlines() if line.startswith(source + " ")]
    return line


def test_nothing_has_run_yet_and_that_is_no_failure(home):
    result = home.refresh("status")
    assert result.exit_code == 0
    assert "never run" in row_of(result, "fred_fx")
    assert "never run" in row_of(result, "bsee_ogora")


def test_status_gives_programs_the_same_fields_as_the_status_file(loaded):
    items = loaded.items("status")
    document = json.loads((loaded.folder / "data/status.json").read_text())
    assert all(list(item) == STATUS for item in items)
    assert document["sources"] == items
    assert list(document) == ["version", "generated_at", "heartbeat", "sources"]


def test_status_says_when_the_upstream_published_what_was_accepted(loaded):
    answer = requests.get(f"{loaded.sandbox.base}{FRED}?series_id=DEXUSEU&api_key=k", timeout=10)
    published = parsedate_to_datetime(answer.headers["Last-Modified"])
    item = next(item for item in loaded.items("status") if item["source"] == "fred_fx")
    assert datetime.fromisoformat(item["last_published_at"]) == published


def test_a_good_refresh_is_fresh(loaded):
    result = loaded.refresh("status", "commodities/fred_fx")
    assert result.exit_code == 0
    assert len(result.stdout.split("\n\n")[0].splitlines()) == 2
    assert "fresh" in row_of(result, "fred_fx")
    assert "loaded" in row_of(result, "fred_fx")


def test_a_failing_source_exits_1_until_it_succeeds(home):
    refused(home)
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    failing = home.refresh("status")
    [item] = home.items("status", "fred_fx")
    assert failing.exit_code == 1
    assert "failing" in row_of(failing, "fred_fx")
    assert (item["incident"], item["consecutive_failures"], item["last_outcome"]) == ("permanent", 1, "failed")
    home.sandbox.clear()
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert home.refresh("status").exit_code == 0


def test_broken_and_disabled_sources_are_listed_as_such(home):
    home.add({"benin/bad.yaml": MINI + "ownr: me\n", "benin/off.yaml": MINI + "enabled: false\n"})
    result = home.refresh("status")
    assert result.exit_code == 1
    assert "broken" in row_of(result, "bad")
    assert "disabled" in row_of(result, "off")
    assert home.refresh("status", "off").exit_code == 0


def test_an_unknown_source_is_a_usage_error(loaded):
    result = loaded.refresh("status", "fred_fy")
    assert result.exit_code == 2
    assert "did you mean fred_fx?" in result.stderr


def test_history_shows_good_and_bad_refreshes_newest_first(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    refused(home)
    home.refresh("run", "fred_fx", "--partition", "DEXBZUS")
    items = home.items("history")
    assert [(item["partition"], item["outcome"]) for item in items] == [("DEXBZUS", "failed"), ("DEXUSEU", "loaded")]
    assert all(item["started_at"] for item in items)
    result = home.refresh("history", "fred_fx")
    header, first, second, *rest = result.stdout.splitlines()
    assert header.split()[0] == "STARTED"
    assert "failed" in first
    assert "loaded" in second
    assert "HTTP 403" in "\n".join(rest)


def test_history_has_the_items_that_run_has_printed(loaded):
    assert loaded.items("history") == loaded.printed


def test_history_of_one_partition_and_of_few(home):
    home.refresh("run", "fred_fx", "--from", "DEXUSEU", "--to", "DEXMXUS")
    assert [item["partition"] for item in home.items("history", "--partition", "DEXBZUS")] == ["DEXBZUS"]
    assert [item["partition"] for item in home.items("history", "--limit", "1")] == ["DEXMXUS"]


def test_history_of_an_unknown_source_is_a_usage_error(loaded):
    assert loaded.refresh("history", "fred_fy").exit_code == 2


def test_sql_prints_a_table_or_items(loaded):
    statement = "SELECT series_id, count(*) AS n FROM raw.fred_economic GROUP BY ALL"
    result = loaded.refresh("sql", statement)
    assert (result.exit_code, result.stdout) == (0, "series_id   n\nDEXUSEU    24\n")
    assert loaded.items("sql", statement) == [{"series_id": "DEXUSEU", "n": 24}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM raw.fred_economic",
        "CREATE TABLE raw.mine (a int)",
        "DROP TABLE raw.fred_economic",
        "SELECT 1; UPDATE refresh.load_state SET etag = NULL",
    ],
)
def test_sql_only_reads(loaded, statement):
    result = loaded.refresh("sql", statement)
    assert result.exit_code == 1
    assert "read-only" in result.stderr
    assert loaded.items("sql", "SELECT count(*) AS n FROM raw.fred_economic") == [{"n": 24}]


@pytest.mark.parametrize(
    ("statement", "said"), [("SELECT * FROM raw.nothing", "nothing"), ("SELEC 1", "syntax error"), ("", "")]
)
def test_sql_says_what_is_wrong_in_one_error(loaded, statement, said):
    result = loaded.refresh("sql", statement)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_sql_before_the_first_refresh_says_so_and_creates_nothing(home):
    result = home.refresh("sql", "SELECT 1")
    assert result.exit_code == 1
    assert "refresh a source first" in result.stderr
    assert not (home.folder / "data/warehouse.duckdb").exists()


def test_sql_names_who_holds_the_warehouse(loaded, monkeypatch):
    monkeypatch.setitem(loaded.environ, "REFRESH_LOCK_TIMEOUT", "0.1")
    with FileLock(loaded.folder / "data/warehouse.duckdb.lock"):
        result = loaded.refresh("sql", "SELECT 1")
    assert result.exit_code == 1
    assert "the warehouse warehouse.duckdb is in use" in result.stderr


def test_sql_on_what_is_no_warehouse_says_what_to_do(home):
    (home.folder / "data/warehouse.duckdb").write_text("a spreadsheet, perhaps")
    result = home.refresh("sql", "SELECT 1")
    assert result.exit_code == 1
    assert "expected a DuckDB database file" in result.stderr
    assert "Set REFRESH_WAREHOUSE to another file" in result.stderr
