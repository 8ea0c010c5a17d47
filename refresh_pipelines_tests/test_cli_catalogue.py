"""`refresh check`, `list` and `schema` as a person and a program see them."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.common import print_table
from refresh_pipelines.cli.main import COMMANDS, main
from refresh_pipelines_tests.catalogues import MINI, write

WITH_KEY = MINI.replace('data.csv"}', 'data.csv", auth: {env: SOME_KEY, query: key}}')


def refresh(*args, catalog, **environ):
    settings = {"REFRESH_CATALOG": str(catalog), "REFRESH_UPSTREAM": "live", "SOME_KEY": "", **environ}
    return CliRunner().invoke(main, args, env=settings)


def items(result):
    document = json.loads(result.stdout)
    assert document["version"] == 1
    assert document["ok"] == (result.exit_code == 0)
    return document["items"]


def test_a_catalogue_without_problems_is_said_in_one_line(tmp_path):
    result = refresh("check", catalog=write(tmp_path, {"g/a.yaml": MINI, "g/b.yaml": MINI}))
    assert (result.exit_code, result.stdout) == (0, "2 sources, no problems\n")


def test_problems_are_printed_with_their_places_and_counted(tmp_path):
    files = {"g/a.yaml": MINI + "colour: red\nownr: me\n", "g/b.yaml": "a: [", "g/c.yaml": MINI}
    result = refresh("check", catalog=write(tmp_path, files))
    *lines, last = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[1] == f"{tmp_path}/g/a.yaml:10:1: unknown key ownr (did you mean owner?)"
    assert last == "3 problems in 2 of 3 files"


def test_a_note_is_marked_and_is_no_failure(tmp_path):
    files = {"g/a.yaml": MINI + "enabled: false\n", "g/b.yaml": MINI + "requires: [{source: a}]\n"}
    result = refresh("check", catalog=write(tmp_path, files))
    assert result.exit_code == 0
    note = "note: g/a is disabled: the gate only asks whether it was ever refreshed"
    assert result.stdout.splitlines() == [f"{tmp_path}/g/b.yaml:9:21: {note}", "2 sources, no problems (1 note)"]


def test_check_gives_programs_every_problem(tmp_path):
    result = refresh("check", "--json", catalog=write(tmp_path, {"g/a.yaml": MINI + "ownr: me\n"}))
    assert items(result) == [
        {
            "file": str(tmp_path / "g/a.yaml"),
            "line": 9,
            "column": 1,
            "message": "unknown key ownr",
            "hint": "did you mean owner?",
            "severity": "error",
            "source": "g/a",
        }
    ]


def test_list_shows_each_source_in_a_row(tmp_path):
    parts = "partitions: {time: day, start: 2024-01-01}\ntable: shared\n"
    files = {"g/a.yaml": MINI, "h/b.yaml": WITH_KEY + parts + "enabled: false\n"}
    result = refresh("list", catalog=write(tmp_path, files))
    header, first, second = result.stdout.splitlines()
    assert result.exit_code == 0
    assert header.split()[:4] == ["SOURCE", "GROUP", "ENABLED", "TABLE"]
    assert first.split() == ["a", "g", "yes", "raw.a", "-", "0", "0", "*", "*", "*", "UTC", "-"]
    assert "each day since 2024-01-01" in second
    assert second.split()[:4] == ["b", "h", "no", "raw.shared"]
    assert second.endswith("SOME_KEY")


@pytest.mark.parametrize("environ", [{"SOME_KEY": "x"}, {"REFRESH_UPSTREAM": "sandbox"}])
def test_a_key_that_is_set_or_not_needed_is_not_missing(tmp_path, environ):
    result = refresh("list", "--json", catalog=write(tmp_path, {"g/a.yaml": WITH_KEY}), **environ)
    assert [item["missing_key"] for item in items(result)] == [None]


def test_list_names_the_broken_and_fails(tmp_path):
    result = refresh("list", "--json", catalog=write(tmp_path, {"g/a.yaml": MINI, "g/b.yaml": "a: ["}))
    assert [(item["source"], item["broken"]) for item in items(result)] == [("a", False), ("b", True)]
    assert "refresh check" in refresh("list", catalog=tmp_path).stdout


def test_list_of_a_group_is_that_group(tmp_path):
    write(tmp_path, {"g/a.yaml": MINI, "h/b.yaml": MINI})
    assert [item["source"] for item in items(refresh("list", "--json", "--group", "h", catalog=tmp_path))] == ["b"]
    assert refresh("list", "--group", "x", catalog=tmp_path).exit_code == 2


def test_an_empty_catalogue_says_where_sources_come_from(tmp_path):
    assert "REFRESH_CATALOG" in refresh("list", catalog=tmp_path).stdout


def test_schema_shows_keys_and_durations_as_they_are_written(tmp_path):
    schema = json.loads(refresh("schema", catalog=tmp_path).stdout)
    assert "from" in schema["$defs"]["Column"]["properties"]
    assert schema["$defs"]["Alerts"]["properties"]["remind"]["default"] == "1d"
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("command", ["check", "list"])
def test_a_wrong_setting_is_a_usage_error(tmp_path, command):
    result = refresh(command, catalog=tmp_path, REFRESH_UPSTREAM="nonsense")
    assert result.exit_code == 2
    assert "REFRESH_UPSTREAM='nonsense'" in result.stderr


def test_an_unknown_command_names_the_nearest(tmp_path):
    result = refresh("chek", catalog=tmp_path)
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.stderr


def test_help_lists_every_command(tmp_path):
    result = refresh("--help", catalog=tmp_path)
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("args", [["--help"], ["check"], ["list"], ["schema"]])
def test_commands_about_the_catalogue_import_no_engine(args):
    code = (
        "import sys\nfrom refresh_pipelines.cli.main import main\n"
        f"try:\n    main({args!r}, standalone_mode=False)\nexcept SystemExit:\n    pass\n"
        "heavy = {'dagster', 'duckdb', 'pandas', 'pyarrow', 'requests'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_table_is_aligned_and_whole_when_it_is_not_a_terminal(capsys):
    print_table(["NAME", "ROWS"], [["a" * 300, 5], ["b", 1200]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a" * 300 + "     5"
    assert lines[2] == "b" + " " * 299 + "  1200"
