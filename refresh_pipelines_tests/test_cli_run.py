"""`refresh run` as a person, a program and system cron see it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import dagster as dg
import pytest
import yaml

from refresh_pipelines.orchestration.internals import implicit_asset_job, remote_origin
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.dagster_bench import FRED

ITEM = [
    "source", "group", "partition", "outcome", "error_class", "message", "fetched", "added", "updated", "unchanged",
    "deleted", "rejected", "duplicates", "filtered", "bytes", "bytes_saved",
    "sha256", "seconds", "run_id", "started_at", "trigger",
    "quarantine",
]  # fmt: skip
DAILY = MINI + "partitions: {time: day, start: 2024-01-01, column: day}\n"


def outcomes(items):
    return [(item["source"], item["partition"], item["outcome"]) for item in items]


def test_a_refresh_prints_one_row_and_what_to_do_next(home):
    result = home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    header, row, *_ = result.stdout.splitlines()
    assert result.exit_code == 0
    assert header.split()[:3] == ["SOURCE", "PARTITION", "OUTCOME"]
    assert row.split()[:5] == ["commodities/fred_fx", "DEXUSEU", "loaded", "24", "24"]
    assert " status  " in result.stdout
    assert " sql " in result.stdout
    assert str(home.folder / "data/warehouse.duckdb") in result.stdout
    assert result.stderr == "[1/1] commodities/fred_fx\n"


def test_programs_get_every_field_of_an_item_and_no_other(home):
    [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU")
    assert list(item) == ITEM
    assert (item["outcome"], item["added"], item["trigger"]) == ("loaded", 24, "manual")
    assert (item["error_class"], item["message"]) == (None, None)
    assert item["seconds"] > 0
    assert len(item["sha256"]) == 64


def test_a_run_looks_like_any_other_run(home):
    [item] = home.items("run", "commodities/fred_fx", "--partition", "DEXUSEU")
    [run] = home.runs()
    assert (run.run_id, run.job_name) == (item["run_id"], "__ASSET_JOB")
    assert run.asset_selection == {dg.AssetKey(["commodities", "fred_fx"])}
    assert run.job_code_origin is not None
    assert run.remote_job_origin is not None
    assert run.is_success
    wanted = {"dagster/partition": "DEXUSEU", "refresh/source": "fred_fx", "refresh/trigger": "manual"}
    assert wanted.items() <= run.tags.items()


def test_each_named_partition_is_a_run_and_a_range_is_one(home):
    several = home.items("run", "fred_fx", "--partition", "DEXUSEU", "--partition", "DEXBZUS", "--partition", "DEXUSEU")
    spread = home.items("run", "bsee_ogora", "--from", "2023-01-01", "--to", "2024-01-01")
    assert [partition for _, partition, _ in outcomes(several)] == ["DEXUSEU", "DEXBZUS"]
    assert [partition for _, partition, _ in outcomes(spread)] == ["2023-01-01", "2024-01-01"]
    assert len({item["run_id"] for item in several}) == 2
    assert len({item["run_id"] for item in spread}) == 1
    assert home.runs()[2].tags["dagster/asset_partition_range_end"] == "2024-01-01"


def test_without_a_partition_what_is_due_is_refreshed(home):
    items = home.items("run", "--group", "worldenergy")
    assert len(items) == 2
    assert all(item["outcome"] == "loaded" for item in items)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name a source, or say --all or --group"),
        (["fred_fz"], "did you mean fred_fx?"),
        (["--group", "commodity"], "did you mean commodities?"),
        (["fred_fx", "--partition", "DEXUSEUR"], "no partition 'DEXUSEUR' (did you mean DEXUSEU?)"),
        (["bsee_ogora", "--partition", "2024"], "keys look like 1996-01-01"),
        (["bsee_ogora", "--partition", "2024-02-01"], "keys look like 1996-01-01"),
        (["bsee_ogora", "--partition", "1990-01-01"], "1990-01-01"),
        (["bsee_ogora", "--from", "2024-01-01", "--to", "2022-01-01"], "--from 2024-01-01 comes after --to 2022-01-01"),
        (["fred_fx", "--partition", "DEXUSEU", "--from", "DEXUSEU"], "does not go with"),
        (["plain", "--partition", "2024-01-01"], "has no partitions"),
        (["later", "--partition", "2090-01-01"], "has no partition yet: the first one begins at 2090-01-01"),
        (["later", "--from", "2090-01-01"], "has no partition yet"),
        (["off"], "commodities/off is disabled in its YAML; add --include-disabled"),
        (["bad"], "unknown key ownr"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_and_runs_nothing(home, args, said):
    home.add(
        {
            "commodities/plain.yaml": MINI,
            "commodities/later.yaml": DAILY.replace("2024", "2090"),
            "commodities/off.yaml": MINI + "enabled: false\n",
            "commodities/bad.yaml": MINI + "ownr: me\n",
        }
    )
    result = home.refresh("run", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


def test_a_disabled_source_runs_when_asked_for(home):
    home.add({"benin/off.yaml": MINI + "enabled: false\n"})
    home.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    assert outcomes(home.items("run", "off", "--include-disabled")) == [("off", None, "loaded")]
    assert home.items("run", "--group", "benin") == []


def test_a_broken_file_fails_all_and_keeps_nobody_from_running(home):
    home.add({"benin/bad.yaml": MINI + "ownr: me\n", "benin/fine.yaml": MINI})
    home.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    result = home.refresh("run", "--group", "benin")
    assert result.exit_code == 1
    assert "benin/fine" in result.stdout
    assert "benin/bad was not refreshed, its YAML has problems: run `refresh check`." in result.stderr
    assert outcomes(home.items("run", "--group", "benin")) == [("fine", None, "unchanged")]


def test_a_missing_key_blocks_and_is_no_failure(home):
    home.environ["FRED_API_KEY"] = ""
    result = home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert result.exit_code == 0
    assert "set FRED_API_KEY" in result.stdout
    [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU")
    assert (item["outcome"], item["run_id"]) == ("blocked", "")
    assert home.runs() == []
    assert home.sandbox.requests == []


def test_a_failure_is_said_and_exits_1(home):
    home.sandbox.override(f"{FRED}?series_id=DEXBZUS", b"no", status=403)
    result = home.refresh("run", "fred_fx", "--from", "DEXUSEU", "--to", "DEXMXUS")
    rows = [line.split()[1:3] for line in result.stdout.splitlines()[1:4]]
    assert result.exit_code == 1
    assert rows == [["DEXUSEU", "loaded"], ["DEXMXUS", "loaded"], ["DEXBZUS", "failed"]]
    assert "failed: commodities/fred_fx[DEXBZUS]" in result.stderr
    assert "HTTP 403" in result.stderr
    assert " history fred_fx " in result.stdout
    assert "planted5ecret" not in result.output


def test_a_source_that_has_no_partition_yet_is_not_yet_due(home):
    home.add({"benin/later.yaml": DAILY.replace("2024", "2090")})
    [item] = home.items("run", "later")
    assert (item["outcome"], item["message"]) == (
        "not_yet",
        "benin/later has no partition yet: the first one begins at 2090-01-01",
    )


def test_force_reads_anew(home):
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU", "--force")
    assert (item["outcome"], item["fetched"], item["unchanged"]) == ("unchanged", 24, 24)


def test_dagsters_log_is_on_the_console_only_when_asked_for(home):
    quiet = home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    loud = home.refresh("run", "fred_fx", "--partition", "DEXUSEU", "--verbose")
    assert "RUN_START" not in quiet.output
    assert "RUN_START" in loud.stderr


def test_the_sandbox_is_brought_along_when_nobody_serves_one(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        home.environ |= {"REFRESH_UPSTREAM": "sandbox", "FRED_API_KEY": "", "REFRESH_SANDBOX_PORT": port}
        [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU")
    assert item["outcome"] == "loaded"
    assert home.sandbox.requests == []
    assert "REFRESH_SANDBOX_PORT" not in os.environ


def test_a_sandbox_that_is_served_already_is_used(home):
    port = home.sandbox.base.rpartition(":")[2]
    home.environ |= {"REFRESH_UPSTREAM": "sandbox", "FRED_API_KEY": "", "REFRESH_SANDBOX_PORT": port}
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert [request.path for request in home.sandbox.requests] == ["/", FRED]


def test_a_data_folder_elsewhere_holds_everything_that_is_written(home, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("else where")
    before = sorted(path for path in (home.folder / "data").rglob("*"))
    home.environ["REFRESH_DATA_DIR"] = str(elsewhere)
    [item] = home.items("run", "fred_fx", "--partition", "DEXUSEU")
    assert item["outcome"] == "loaded"
    assert home.items("history", "fred_fx")[0]["run_id"] == item["run_id"]
    assert {"dagster", "dagster.yaml", "status.json", "warehouse.duckdb"} <= {path.name for path in elsewhere.iterdir()}
    assert sorted(path for path in (home.folder / "data").rglob("*")) == before


def test_ctrl_c_ends_the_run_as_interrupted_and_the_command_with_it(home):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {**os.environ, **home.environ, "REFRESH_UPSTREAM": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        command = [sys.executable, "-m", "refresh_pipelines", "run", "bsee_ogora", "fred_fx"]
        process = subprocess.Popen(
            command, cwd=home.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        silent.accept()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the run was cancelled" in said
    assert "Traceback" not in said
    [item] = home.items("history")
    assert (item["source"], item["error_class"]) == ("bsee_ogora", "interrupted")
    assert len(home.runs()) == 1


def test_the_internals_of_dagster_that_runs_rest_on_are_still_there(home, monkeypatch):
    """Fails when Dagster has moved what `orchestration/internals.py` reaches for; then mend that module."""
    assert dg.__version__.startswith("1.13."), "a new Dagster: look at orchestration/internals.py, then raise this"
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("REFRESH_CATALOG", "catalog")
    job = implicit_asset_job("refresh_pipelines.orchestration.runner", "repository", ("fred_fx",))
    assert job.job_name == job.get_definition().name == "__ASSET_JOB"
    assert set(job.get_definition().asset_layer.executable_asset_keys) == {dg.AssetKey(["commodities", "fred_fx"])}
    origin = remote_origin()
    [location] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert origin.repository_origin.code_location_origin.location_name == location["python_module"]["location_name"]
    assert origin.job_name == "__ASSET_JOB"


def test_a_missing_key_is_said_once_however_many_partitions_it_blocks(home):
    home.environ["FRED_API_KEY"] = ""
    result = home.refresh("run", "fred_fx")
    assert result.exit_code == 0
    assert result.output.count("set FRED_API_KEY") == 1


def test_a_webhook_that_takes_nothing_is_said(home):
    home.sandbox.override(FRED, b"no", status=403)
    home.environ["REFRESH_WEBHOOK_URL"] = f"{home.sandbox.base}/hook"
    home.sandbox.override("/hook", b"", status=503)
    result = home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert result.exit_code == 1
    assert "The webhook did not take 1 notice(s)" in result.stderr
