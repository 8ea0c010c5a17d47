"""`refresh retire`: what a deleted source leaves is shown, asked about and removed; and loading anew."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.main import main
from refresh_pipelines.notices import Failure, Notices
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.resets import log_resets, resets
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import Home

pytestmark = pytest.mark.e2e

EMPTY = {
    "source": "mini", "removed": False, "load_states": 0, "tables": [], "rejected": 0, "locks": 0, "staging": 0,
    "notices": 0,
    "incidents": 0, "remembered": 0, "archive_bytes": False, "history": [],
}  # fmt: skip
LOADED = {
    **EMPTY, "load_states": 1, "tables": [{"table": "raw.mini", "rows": 1, "dropped": True}], "locks": 1,
    "archive_bytes": True,
}  # fmt: skip


@pytest.fixture
def home(home: Home):
    shutil.rmtree(home.folder / "catalog")
    home.add({"benin/mini.yaml": MINI, "benin/other.yaml": MINI + "table: mini\n", "benin/unrelated.yaml": MINI})
    home.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    return home


@pytest.fixture
def deleted(home):
    """Return a home in which `mini` has loaded a row and its file is gone."""
    assert home.refresh("run", "mini").exit_code == 0
    (home.folder / "catalog/benin/mini.yaml").unlink()
    return home


def retired(home, *args):
    """What the command says; of the archive only whether there was one."""
    return [{**item, "archive_bytes": bool(item["archive_bytes"])} for item in home.items("retire", *args)]


def tables(home):
    return [
        item["t"] for item in home.items("sql", "SELECT table_name AS t FROM duckdb_tables() WHERE schema_name = 'raw'")
    ]


def answered(home, answer, *args):
    with home.entered():
        return CliRunner().invoke(main, args, env={"DAGSTER_HOME": None, **home.environ}, input=answer)


def test_what_is_removed_is_shown_before_and_gone_after(deleted):
    result = answered(deleted, "y\n", "retire", "mini")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:6] == [
        "mini:", "  1 rows of raw.mini, and the table", "  1 load states", "  1 lock files",
        "  its payloads in the archive: 0.0 MB", "Remove this? [y/N]: y",
    ]  # fmt: skip
    assert tables(deleted) == []
    assert deleted.items("sql", "SELECT source FROM refresh.load_state") == []
    assert not list((deleted.folder / "data/locks").glob("mini*"))
    assert not (deleted.folder / "data/archive/mini").exists()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_removed(deleted, answer):
    result = answered(deleted, answer, "retire", "mini")
    assert result.exit_code == 1
    assert retired(deleted, "mini") == [LOADED]


def test_programs_see_what_would_be_removed_and_remove_it_with_yes(deleted):
    assert retired(deleted, "mini") == [LOADED]
    assert tables(deleted) == ["mini"]
    assert retired(deleted, "benin/mini", "--yes") == [{**LOADED, "removed": True}]
    assert tables(deleted) == []


def test_rows_of_others_in_the_same_table_stay(deleted):
    deleted.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-02,2\n")
    deleted.refresh("run", "other")
    result = deleted.refresh("retire", "mini", "--yes")
    assert "  1 rows of raw.mini; 1 rows of others stay" in result.stdout.splitlines()
    assert deleted.items("sql", "SELECT _source AS s FROM raw.mini") == [{"s": "other"}]


def test_waiting_notices_and_what_killed_runs_left_in_staging_go_too(deleted):
    deleted.environ["REFRESH_WEBHOOK_URL"] = "http://127.0.0.1:9/x"
    with deleted.entered():
        settings = Settings.load(deleted.environ, root=deleted.folder)
        for source in ("mini", "other"):
            Notices(settings).report(Failure(source, f"run-{source}", (), "transient", "it broke"))
        with open_instance(settings) as instance:
            [run] = instance.get_runs()
    for name in (run.run_id[:8], "somebody"):
        (deleted.folder / "data/staging" / name / "all").mkdir(parents=True)
    [item] = deleted.items("retire", "mini", "--yes")
    assert (item["notices"], item["incidents"], item["staging"]) == (1, 1, 1)
    assert [path.name for path in (deleted.folder / "data/staging").iterdir()] == ["somebody"]
    assert Notices(settings).waiting() == 1


def test_pauses_and_resets_are_forgotten_so_that_a_source_of_that_name_begins_anew(deleted):
    data = deleted.folder / "data"
    log_resets(data, ["mini", "other"], datetime(2026, 11, 22, tzinfo=timezone.utc), "somebody")
    [item] = deleted.items("retire", "mini", "--yes")
    assert item["remembered"] >= 1
    assert set(resets(data)) == {"other"}


def test_history_stays_unless_it_is_to_be_wiped(deleted):
    deleted.refresh("retire", "mini", "--yes")
    gone = deleted.refresh("retire", "mini", "--yes")
    assert gone.exit_code == 2
    assert "mini has left nothing but its history; --history wipes that too" in gone.stderr
    [item] = deleted.items("retire", "mini", "--history", "--yes")
    assert item["history"] == ["benin/mini"]
    deleted.add({"benin/mini.yaml": MINI})
    assert deleted.items("history", "mini") == []


def test_a_source_of_the_catalogue_is_not_retired(home):
    home.refresh("run", "mini")
    for text in (MINI, "a: [\n"):
        home.add({"benin/mini.yaml": text})
        result = home.refresh("retire", "mini", "--yes")
        assert result.exit_code == 2
        assert "mini is in the catalogue; delete its YAML first, or say --reload" in result.stderr
    assert tables(home) == ["mini"]


def test_an_old_name_whose_rows_will_be_carried_over_is_not_retired(deleted):
    deleted.add({"benin/heir.yaml": MINI + "aliases: [mini]\n"})
    result = deleted.refresh("retire", "mini", "--yes")
    assert result.exit_code == 2
    assert "mini is the old name of benin/heir" in result.stderr


def test_an_unknown_name_is_answered_with_what_is_known(deleted):
    result = deleted.refresh("retire", "minni")
    assert result.exit_code == 2
    assert "nothing is left of a source called 'minni' (did you mean mini?)" in result.stderr


def test_to_load_anew_what_does_not_exist_is_a_usage_error(home):
    result = home.refresh("retire", "minii", "--reload")
    assert (result.exit_code, "did you mean mini?" in result.stderr) == (2, True)


def test_a_source_that_is_being_refreshed_is_left_alone(deleted):
    with held(deleted.folder / "data/locks/mini.lock", 0, "a test"):
        result = deleted.refresh("retire", "mini", "--yes")
    assert result.exit_code == 1
    assert "mini is being refreshed: its lock is in use" in result.stderr
    assert tables(deleted) == ["mini"]


def test_a_changed_type_is_refused_and_mended_by_the_command_the_message_names(home):
    home.refresh("run", "mini")
    home.add(
        {"benin/mini.yaml": MINI.replace("value: {type: double}", "value: {type: int}") + "retry: {attempts: 1}\n"}
    )
    (home.folder / "catalog/benin/other.yaml").unlink()
    refused = home.refresh("run", "mini", "--force")
    assert refused.exit_code == 1
    assert "value is DOUBLE in the table and INTEGER in the YAML" in refused.output
    assert "`refresh replay mini --rebuild`, or restore the old YAML" in refused.output
    assert [(item["outcome"], item["added"]) for item in home.items("replay", "mini", "--rebuild")] == [("loaded", 1)]
    assert home.items("sql", "SELECT value FROM raw.mini") == [{"value": 1}]
    assert [item["outcome"] for item in home.items("history", "mini")] == ["loaded", "failed", "loaded"]


def test_loading_anew_takes_every_partition_again(home):
    text = MINI.replace("example.org/data.csv", "example.org/{site}.csv").replace(
        "merge_key: [day]", "merge_key: [day, at]"
    )
    text = (
        text.replace("  value:", '  at: {type: text, from: "{site}"}\n  value:')
        + "partitions: {static: {site: [a, b]}}\n"
    )
    home.add({"benin/sites.yaml": text})
    for site in "ab":
        home.sandbox.override(f"/example.org/{site}.csv", b"day,value\n2026-01-01,1\n")
    home.refresh("run", "sites")
    assert home.items("run", "sites", "--missing") == []
    assert (
        json.loads(home.refresh("retire", "sites", "--reload", "--yes", "--json").stdout)["items"][0]["load_states"]
        == 2
    )
    assert [(item["partition"], item["outcome"]) for item in home.items("run", "sites", "--missing")] == [
        ("a", "loaded"), ("b", "loaded"),
    ]  # fmt: skip


def test_a_changed_table_is_refused_and_can_be_loaded_anew(home):
    home.refresh("run", "mini")
    home.add({"benin/mini.yaml": MINI + "table: elsewhere\nretry: {attempts: 1}\n"})
    (home.folder / "catalog/benin/other.yaml").unlink()
    refused = home.refresh("run", "mini")
    assert "the rows of this source lie in raw.mini; expected `table: mini`" in refused.output
    assert tables(home) == ["mini"]
    home.refresh("retire", "mini", "--reload", "--yes")
    assert home.refresh("run", "mini").exit_code == 0
    assert tables(home) == ["elsewhere"]
