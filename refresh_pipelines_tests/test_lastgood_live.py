"""The last good version where it counts: in the definitions, in runs, and in what the commands say."""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import MINI, write

KEY = dg.AssetKey(["benin", "a"])
BAD = MINI + "ownr: me\n"


def definitions(folder, **files):
    write(folder / "catalog", {f"benin/{name}.yaml": text for name, text in files.items()})
    return build_definitions(Settings.load({"REFRESH_CATALOG": "catalog"}, folder)).get_repository_def()


def test_a_broken_source_stays_an_asset_that_runs_and_shows_its_problems(tmp_path):
    definitions(tmp_path, a=MINI)
    repository = definitions(tmp_path, a=BAD)
    spec = repository.asset_graph.get(KEY)
    assert spec.is_executable
    assert spec.description.startswith(
        "**The YAML of this source has problems**; it runs on its last good version, of "
    )
    assert "unknown key ownr" in spec.description
    assert "unknown key ownr" in spec.metadata["refresh/problems"].value
    assert spec.tags["refresh/stale_yaml"] == "last_good"
    assert repository.has_schedule_def("a_schedule")


def test_a_source_that_is_mended_shows_no_problems(tmp_path):
    definitions(tmp_path, a=MINI)
    definitions(tmp_path, a=BAD)
    spec = definitions(tmp_path, a=MINI).asset_graph.get(KEY)
    assert "problems" not in spec.description
    assert "refresh/stale_yaml" not in spec.tags
    assert "refresh/problems" not in spec.metadata


def test_a_source_that_never_was_good_is_the_disabled_asset_it_always_was(tmp_path):
    repository = definitions(tmp_path, a=BAD)
    assert not repository.asset_graph.get(KEY).is_executable
    assert not repository.has_schedule_def("a_schedule")


def test_definitions_load_where_nothing_can_be_remembered(tmp_path, caplog):
    (tmp_path / "data").write_text("a file where the folder should be")
    repository = definitions(tmp_path, a=MINI)
    assert repository.asset_graph.get(KEY).is_executable
    assert "could not be remembered" in caplog.text


def break_fred(home):
    path = home.folder / "catalog/commodities/fred_fx.yaml"
    path.write_text(path.read_text() + "ownr: me\n")
    return path


def test_a_broken_source_is_refreshed_by_the_command_as_it_was(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    break_fred(home)
    [item] = home.items("run", "fred_fx", "--partition", "DEXBZUS")
    assert item["outcome"] == "loaded"
    [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU")
    assert item["outcome"] == "unchanged"


def test_check_fails_while_the_last_good_version_runs(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    break_fred(home)
    result = home.refresh("check")
    assert result.exit_code == 1
    assert "unknown key ownr" in result.stdout


def test_status_and_list_say_on_what_a_broken_source_runs(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert home.refresh("status").exit_code == home.refresh("list").exit_code == 0
    break_fred(home)
    for command in ("status", "list"):
        result = home.refresh(command)
        assert result.exit_code == 1
        assert "commodities/fred_fx: YAML broken, running on the last good one of 20" in result.stdout
        items = {item["source"]: item for item in home.items(command)}
        assert items["fred_fx"]["stale_yaml"].startswith("20")
        assert (items["fred_fx"]["enabled"], items["bsee_ogora"]["stale_yaml"]) == (True, None)


def test_a_source_that_was_never_loaded_stays_broken(home):
    break_fred(home)
    result = home.refresh("run", "fred_fx")
    assert result.exit_code == 2
    assert "unknown key ownr" in result.stderr


def test_parse_reads_with_the_file_as_it_is(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    path = break_fred(home)
    result = home.refresh("parse", "fred_fx", str(path))
    assert result.exit_code == 2
    assert "unknown key ownr" in result.stderr
