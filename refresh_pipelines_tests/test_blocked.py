"""A source whose key is missing: said in every place a person looks, and no failure."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import click
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.cli.common import print_table
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import Bench

SET = "blocked: set FRED_API_KEY in the environment or in .env (fred_fx)"


@pytest.fixture
def keyless(home):
    home.environ["FRED_API_KEY"] = ""
    for path in (home.folder / "catalog").glob("*/*.yaml"):
        if path.stem not in ("fred_fx", "bsee_ogora", "group", "defaults"):
            path.unlink()
    return home


def row_of(result, source):
    [line] = [line for line in result.stdout.splitlines() if line.startswith(source + " ")]
    return line


@pytest.mark.parametrize("command", ["status", "list"])
def test_the_variable_to_set_is_named_and_the_command_succeeds(keyless, command):
    result = keyless.refresh(command)
    assert result.exit_code == 0
    assert SET in result.stdout.splitlines()
    assert "\x1b" not in result.stdout


def test_status_shows_the_state_in_its_column_and_programs_get_the_same_keys_as_ever(keyless):
    assert row_of(keyless.refresh("status"), "fred_fx").split()[2] == "blocked"
    assert row_of(keyless.refresh("status"), "bsee_ogora").split()[2:4] == ["never", "run"]
    [item] = keyless.items("status", "fred_fx")
    [other] = keyless.items("status", "bsee_ogora")
    assert list(item) == list(other)
    assert (item["enabled"], item["incident"], item["overdue"]) == (True, None, False)


def test_only_what_was_asked_for_is_named(keyless):
    assert "FRED_API_KEY" not in keyless.refresh("status", "bsee_ogora").stdout


def test_with_the_key_set_nothing_is_blocked(keyless):
    keyless.environ["FRED_API_KEY"] = "planted5ecret"
    for command in ("status", "list"):
        assert "blocked" not in keyless.refresh(command).stdout


def test_a_disabled_source_is_not_blocked(keyless):
    text = MINI.replace('csv"}', 'csv", auth: {env: SOME_KEY, query: k}}') + "enabled: false\n"
    keyless.add({"benin/off.yaml": text})
    assert "SOME_KEY in" not in keyless.refresh("status").stdout


def seen_long_ago(home, source):
    """Have the schedule-change log say that the source was first seen enabled months ago."""
    rhythms = Rhythms(home.folder / "data")
    spec = load_catalogue([home.folder / "catalog"]).find(source)
    rhythms.note([spec], datetime(2026, 1, 1, tzinfo=timezone.utc), lambda _: None)


def test_what_was_loaded_before_the_key_went_missing_still_becomes_overdue(keyless):
    text = MINI.replace('csv"}', 'csv", auth: {env: SOME_KEY, query: k}}') + "freshness: {checked: 0s}\n"
    keyless.add({"benin/late.yaml": text})
    keyless.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    keyless.environ["SOME_KEY"] = "planted5ecret"
    seen_long_ago(keyless, "late")
    assert keyless.refresh("run", "late").exit_code == 0
    keyless.environ["SOME_KEY"] = ""
    result = keyless.refresh("status", "late")
    assert (result.exit_code, row_of(result, "late").split()[2]) == (1, "overdue")
    assert "blocked: set SOME_KEY" in result.stdout


def test_a_grey_row_is_grey_on_a_terminal_only(capsys):
    @click.command()
    def show():
        print_table(("A", "B"), [("x", 1), ("y", 2)], [1])

    def shown(color):
        return click.testing.CliRunner().invoke(show, color=color).stdout.splitlines()

    assert shown(False) == ["A  B", "x  1", "y  2"]
    assert shown(True) == ["A  B", "x  1", "\x1b[2my  2\x1b[0m"]


def test_the_page_of_the_asset_says_it_too(bench: Bench):
    def description():
        return bench.definitions().get_repository_def().assets_defs_by_key[key].descriptions_by_key[key]

    [key] = [key for key in bench.definitions().get_repository_def().assets_defs_by_key if key.path[-1] == "fred_fx"]
    assert "Blocked" not in description()
    bench.environ["FRED_API_KEY"] = ""
    assert description().startswith("**Blocked**: set FRED_API_KEY in the environment or in .env")


def test_the_status_file_keeps_its_fields(keyless):
    keyless.refresh("run", "bsee_ogora")
    document = json.loads((keyless.folder / "data/status.json").read_text())
    assert {tuple(item) for item in document["sources"]} == {tuple(document["sources"][0])}
