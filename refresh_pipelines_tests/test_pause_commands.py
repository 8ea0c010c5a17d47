"""The commands `pause` and `resume`: what they print, what they refuse, and the log they leave."""

from __future__ import annotations

import getpass
import json
import sqlite3

from refresh_pipelines.pauses import open_pauses


def test_the_commands_say_what_they_did_and_what_was_so_already(home):
    first = home.refresh("pause", "fred_fx", "--reason", "holiday")
    assert (first.exit_code, first.stdout.splitlines()[0]) == (0, "commodities/fred_fx paused")
    assert "Runs that are queued or under way go on" in first.stdout
    again = home.refresh("pause", "commodities/fred_fx")
    assert (again.exit_code, "was already paused since 20" in again.stdout) == (0, True)
    known = open_pauses(home.folder / "data")["fred_fx"]
    assert (known.reason, known.by) == ("holiday", getpass.getuser())
    assert home.refresh("resume", "fred_fx").stdout.startswith("commodities/fred_fx resumed; next run 20")
    assert home.refresh("resume", "fred_fx").stdout == "commodities/fred_fx was not paused\n"


def test_status_and_list_show_a_pause(home):
    home.refresh("pause", "fred_fx")
    for command in ("status", "list"):
        items = {item["source"]: item for item in home.items(command)}
        assert (items["fred_fx"]["paused"], items["bsee_ogora"]["paused"]) == (True, False)
        [line] = [line for line in home.refresh(command).stdout.splitlines() if line.startswith("fred_fx ")]
        assert "paused" in line
    home.refresh("resume", "fred_fx")
    assert not any(item["paused"] for item in home.items("status") + home.items("list"))


def test_programs_get_items(home):
    [item] = home.items("pause", "fred_fx")
    assert (item["source"], item["group"], item["paused"], item["changed"]) == ("fred_fx", "commodities", True, True)
    since = item["paused_since"]
    [item] = home.items("pause", "fred_fx")
    assert (item["paused"], item["changed"], item["paused_since"]) == (True, False, since)
    [item] = home.items("resume", "fred_fx")
    assert (item["paused"], item["changed"]) == (False, True)


def test_groups_and_all_are_chosen_and_a_wrong_name_changes_nothing(home):
    assert [item["source"] for item in home.items("pause", "--group", "worldenergy")] == ["bsee_ogora"]
    assert {item["source"]: item["changed"] for item in home.items("pause", "--all")} == {
        "fred_fx": True,
        "bsee_ogora": False,
    }
    assert len(home.items("resume", "--all")) == 2
    result = home.refresh("pause", "fred_fx", "fred_fy")
    assert (result.exit_code, "did you mean fred_fx?" in result.stderr) == (2, True)
    assert open_pauses(home.folder / "data") == {}
    assert home.refresh("resume").exit_code == 2


def test_a_broken_log_of_pauses_is_one_message(home):
    (home.folder / "data/ops.sqlite").write_text("no database")
    result = home.refresh("pause", "fred_fx")
    assert result.exit_code == 1
    assert "the log of pauses cannot be used" in result.stderr
    assert "Traceback" not in result.output


def test_the_log_is_a_table_that_others_may_read(home):
    home.refresh("pause", "fred_fx", "--reason", "x")
    with sqlite3.connect(home.folder / "data/ops.sqlite") as store:
        [row] = store.execute('SELECT source, resumed_at, reason, "by" FROM pauses').fetchall()
    assert row == ("fred_fx", None, "x", getpass.getuser())


def test_status_says_that_schedules_are_disabled(home):
    assert "REFRESH_SCHEDULES_ENABLED" not in home.refresh("status").stdout
    home.environ["REFRESH_SCHEDULES_ENABLED"] = "no"
    first = home.refresh("status").stdout.splitlines()[0]
    assert first == "REFRESH_SCHEDULES_ENABLED is false: no schedule or sensor requests a run."
    assert len(json.loads(home.refresh("status", "--json").stdout)["items"]) == 2
    home.environ["REFRESH_SCHEDULES_ENABLED"] = "maybe"
    result = home.refresh("status")
    assert (result.exit_code, "expected true or false" in result.stderr) == (2, True)
