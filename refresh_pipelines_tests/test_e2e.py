"""The whole of it with live daemons, as `make up` starts them; run by `make e2e`."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone
from threading import Event

import dagster as dg
import pytest
import yaml

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.window import due_keys
from refresh_pipelines_tests.catalogues import MINI, write
from refresh_pipelines_tests.dagster_bench import values, wait_until
from refresh_pipelines_tests.served import ROOT, Served, command, copied, environment, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def root(tmp_path):
    """Return a copy of the repository in a folder with a space, with the interpreter of this one."""
    return copied(tmp_path / "a copy")


@pytest.fixture
def sandbox():
    hold, arrived = Event(), Event()

    def on_request(request):
        if request.path == "/slow.example.org/data.csv":
            arrived.set()
            hold.wait(60)

    with Sandbox(SAMPLES, on_request=on_request) as sandbox:
        sandbox.arrived = arrived
        yield sandbox
        hold.set()


DEFINITIONS = """{repositoriesOrError {... on RepositoryConnection {nodes {
    assetNodes {assetKey {path} groupName isPartitioned isExecutable}
    schedules {name scheduleState {status} executionTimezone}
    sensors {name sensorState {status}}}}}}"""
STOP_SCHEDULE = """query {schedulesOrError(repositorySelector: {
    repositoryLocationName: "refresh_pipelines", repositoryName: "__repository__"}) {
    ... on Schedules {results {name scheduleState {id}}}}}"""


def own_sources(root):
    """Write a source that is due each minute, one whose upstream hangs, and one whose file is broken."""
    ogora = (root / "refresh_pipelines/catalog/worldenergy/bsee_ogora.yaml").read_text()
    ticking = ogora.replace('{cron: "45 11 * * *", timezone: UTC}', '{cron: "* * * * *", timezone: UTC}')
    assert ticking != ogora
    files = {
        "benin/ticking.yaml": ticking,
        "benin/hanging.yaml": MINI.replace("example.org", "slow.example.org"),
        "benin/Broken-One.yaml": "a: [",
    }
    write(root / "mine", files)


def test_what_is_served_loads_ticks_refreshes_cancels_stops_and_remembers(root, sandbox, tmp_path):
    own_sources(root)
    log = tmp_path / "up.log"
    with Served(root, sandbox, log) as served:
        everything_is_there(served)
        run_id = served.launch("commodities", "fred_fx", **{"dagster/partition": "DEXUSEU"})
        hanging = served.launch("benin", "hanging")
        status, tags = wait_until(lambda: served.ended(run_id), 180, "the launched run to end")
        assert status == "SUCCESS", log.read_text()
        assert {"refresh/source": "fred_fx", "refresh/trigger": "manual"}.items() <= tags.items()
        assert served.materializations("commodities", "fred_fx") == ["DEXUSEU"]

        a_cancelled_run_is_told(served, root, sandbox, hanging)
        a_run_of_the_command_line_can_be_made_again(served, root, sandbox)

        status, tags = wait_until(lambda: served.scheduled("ticking_schedule"), 150, "a scheduled run to end")
        assert status == "SUCCESS", log.read_text()
        assert tags["refresh/trigger"] == "schedule"
        assert len(set(served.materializations("benin", "ticking"))) == 2

        a_paused_schedule_shows(served, root)
        assert served.stop() == []
    assert "Traceback" not in log.read_text()

    with Served(root, sandbox, log) as served:
        assert served.materializations("commodities", "fred_fx") == ["DEXBZUS", "DEXBZUS", "DEXUSEU"]
        assert served.stop() == []


def everything_is_there(served):
    [node] = served.ask(DEFINITIONS)["repositoriesOrError"]["nodes"]
    assets = {"/".join(asset["assetKey"]["path"]): asset for asset in node["assetNodes"]}
    builtin = load_catalogue([BUILTIN_CATALOG]).sources.values()
    own = {"benin/ticking", "benin/hanging", "benin/Broken_One"}
    assert set(assets) == {spec.name for spec in builtin} | own | {"refresh/scores", "refresh/retention"}
    assert all(asset["groupName"] == key.partition("/")[0] for key, asset in assets.items())
    assert assets["commodities/fred_fx"]["isPartitioned"]
    assert not assets["benin/Broken_One"]["isExecutable"]
    states = {schedule["name"]: schedule["scheduleState"]["status"] for schedule in node["schedules"]}
    assert [states.pop(name) for name in ("weekly_scores", "daily_retention")] == ["RUNNING", "RUNNING"]
    due = [spec.source for spec in builtin if spec.enabled and not spec.request.drop and not spec.derived]
    assert states == {f"{source}_schedule": "RUNNING" for source in (*due, "ticking", "hanging")}
    assert {"name": "failures", "sensorState": {"status": "RUNNING"}} in node["sensors"]


def a_cancelled_run_is_told(served, root, sandbox, run_id):
    assert sandbox.arrived.wait(150)
    served.ask("mutation ($id: String!) {terminateRun(runId: $id) {__typename}}", id=run_id)
    status, _ = wait_until(lambda: served.ended(run_id), 150, "the cancelled run to end")
    assert status == "CANCELED"
    [item] = history(root, sandbox, "hanging")
    assert (item["outcome"], item["error_class"], item["run_id"]) == ("failed", "interrupted", run_id)


def a_run_of_the_command_line_can_be_made_again(served, root, sandbox):
    args = (".venv/bin/refresh", "run", "fred_fx", "--partition", "DEXBZUS", "--json")
    done = command(root, *args, REFRESH_UPSTREAM=sandbox.base)
    assert done.returncode == 0, done.stderr
    [item] = json.loads(done.stdout)["items"]
    again = served.again(item["run_id"])
    status, tags = wait_until(lambda: served.ended(again), 150, "the repeated run to end")
    assert (status, tags["dagster/partition"]) == ("SUCCESS", "DEXBZUS")


def a_paused_schedule_shows(served, root):
    schedules = served.ask(STOP_SCHEDULE)["schedulesOrError"]["results"]
    [state] = [schedule["scheduleState"] for schedule in schedules if schedule["name"] == "ticking_schedule"]
    served.ask("mutation ($id: String!) {stopRunningSchedule(id: $id) {__typename}}", id=state["id"])
    done = command(root, ".venv/bin/refresh", "status", "ticking", "--json", REFRESH_CATALOG="builtin:mine")
    [item] = json.loads(done.stdout)["items"]
    assert (item["paused"], item["next_run_at"]) == (True, None)
    assert item["last_scheduled_run_at"]


def history(root, sandbox, source):
    settings = {"REFRESH_CATALOG": "builtin:mine", "REFRESH_UPSTREAM": sandbox.base}
    done = command(root, ".venv/bin/refresh", "history", source, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["items"]


def test_ten_commands_at_once_share_one_warehouse(root, sandbox, monkeypatch):
    catalogue = yaml.safe_load((ROOT / "refresh_pipelines/catalog/commodities/fred_fx.yaml").read_text())
    series = catalogue["partitions"]["static"]["series_id"]
    env = environment(root, REFRESH_UPSTREAM=sandbox.base)
    processes = [
        subprocess.Popen(
            [".venv/bin/refresh", "run", "fred_fx", "--partition", name, "--json"],
            cwd=root,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in series
    ]
    said = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, said
    items = [json.loads(out)["items"][0] for out, _ in said]
    assert [(item["partition"], item["outcome"], item["added"]) for item in items] == [
        (name, "loaded", 24) for name in series
    ]
    done = command(root, ".venv/bin/refresh", "sql", "SELECT count(*) AS n FROM raw.fred_economic", "--json")
    assert json.loads(done.stdout)["items"] == [{"n": 240}]
    monkeypatch.chdir(root)
    key = dg.AssetKey(["commodities", "fred_fx"])
    with dg.DagsterInstance.from_config(str(root)) as instance:
        records = instance.fetch_materializations(key, limit=100).records
    waits = [values(record.asset_materialization)["refresh/seconds_wait"] for record in records]
    assert len(waits) == 10
    assert max(waits) > 0


def test_plain_dagster_from_the_root_keeps_its_history(root, sandbox):
    done = command(
        root,
        *(".venv/bin/dagster", "asset", "materialize", "-m", "refresh_pipelines.definitions"),
        *("--select", "commodities/fred_fx", "--partition", "DEXUSEU"),
        REFRESH_UPSTREAM=sandbox.base,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [item] = json.loads(command(root, ".venv/bin/refresh", "history", "--json").stdout)["items"]
    assert (item["source"], item["partition"], item["outcome"]) == ("fred_fx", "DEXUSEU", "loaded")


def test_make_run_refreshes_everything_and_once_more_changes_nothing(root):
    # -o: the environment is the one the tests run in, however old it is; without a Python make cannot renew it.
    make = ("make", "-o", ".venv/.complete", "run", "PYTHON=false")
    port = str(free_port())
    first, second = (command(root, *make, REFRESH_SANDBOX_PORT=port) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "loaded" in first.stdout
    assert "loaded" not in second.stdout
    builtin = load_catalogue([BUILTIN_CATALOG]).sources.values()
    due = sum(len(due_keys(spec, datetime.now(timezone.utc))) or 1 for spec in builtin)
    files = sum(spec.request.drop is not None for spec in builtin)
    assert first.stdout.count(" loaded ") == due
    # Of files that were read once nothing is asked again: there is nothing new.
    assert (second.stdout.count(" unchanged "), second.stdout.count(" not_yet ")) == (due - files, files)
    assert "make up" in first.stdout
