"""What the API changes: schedules, by the switch of `refresh pause`, and runs in Dagster's queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest

from refresh_pipelines.orchestration.internals import cancel_run
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines_tests.api_bench import Api, error
from refresh_pipelines_tests.catalogues import MINI


@pytest.fixture
def api(home):
    with Api(home) as api:
        yield api


def queued(api):
    return api.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))


def test_disable_and_enable_are_pause_and_resume(api):
    path = "/api/sources/commodities/fred_fx/schedule"
    off = api.post(f"{path}/disable", {"reason": "holiday"}).json()
    assert (off["changed"], off["item"]["enabled"], off["item"]["paused"]) == (True, False, True)
    assert (off["item"]["next_run_time"], off["item"]["upcoming_runs"]) == (None, [])
    known = open_pauses(api.settings.data_dir)["fred_fx"]
    assert (known.reason, known.by) == ("holiday", "api")
    again = api.post(f"{path}/disable").json()
    assert (again["ok"], again["changed"]) == (True, False)
    assert {item["source"]: item["paused"] for item in api.home.items("list")} == {"fred_fx": True, "bsee_ogora": False}
    on = api.post(f"{path}/enable", {}).json()
    assert (on["changed"], on["item"]["enabled"], len(on["item"]["upcoming_runs"])) == (True, True, 5)
    assert api.post(f"{path}/enable").json()["changed"] is False
    assert open_pauses(api.settings.data_dir) == {}
    api.home.refresh("pause", "fred_fx")
    assert api.get(path).json()["item"]["paused"] is True


def test_what_cannot_be_switched_or_run_is_refused_with_the_reason(api):
    api.home.add({"benin/off.yaml": MINI + "enabled: false\n", "benin/broken.yaml": "a: ["})
    for what in ("schedule/disable", "schedule/enable", "run"):
        assert "disabled in its YAML" in error(api.post(f"/api/sources/off/{what}"), 409)["problem"]
        assert error(api.post(f"/api/sources/broken/{what}"), 409)["todo"] == "Run `refresh check`."
        assert error(api.post(f"/api/sources/fred_fy/{what}"), 404)["todo"] == "Did you mean fred_fx?"
    assert queued(api) == []


def test_a_missing_key_blocks_a_run(home):
    home.environ.pop("FRED_API_KEY")
    with Api(home) as api:
        assert error(api.post("/api/sources/fred_fx/run"), 409)["todo"].startswith("Set FRED_API_KEY")


def test_a_run_waits_in_the_queue_as_one_of_a_schedule_would(api):
    answer = api.post("/api/sources/bsee_ogora/run")
    assert answer.status_code == 202
    item = answer.json()["item"]
    assert (item["source"], item["group"], item["trigger"], item["status"]) == (
        "bsee_ogora",
        "worldenergy",
        "manual",
        "queued",
    )
    assert answer.json()["message"].startswith("No daemon has ever looked")
    [run] = queued(api)
    assert run.run_id == item["run_id"]
    ends = [run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
    assert ends == [item["partitions"][0], item["partitions"][-1]]
    assert (run.tags["refresh/source"], run.tags["refresh/trigger"]) == ("bsee_ogora", "manual")
    assert run.asset_selection == {dg.AssetKey(["worldenergy", "bsee_ogora"])}
    assert {check.name for check in run.asset_check_selection} == {"plausible"}
    assert run.remote_job_origin.location_name == "refresh_pipelines"
    # By the pool of its host the queue knows how many may run at once.
    [pool] = run.run_op_concurrency.root_key_counts
    assert pool in {limit.name for limit in api.instance.event_log_storage.get_pool_limits()}


def test_one_partition_and_force_are_tags_of_the_run(api):
    answer = api.post("/api/sources/fred_fx/run", {"partition": "DEXUSEU", "force": True})
    assert answer.json()["item"]["partitions"] == ["DEXUSEU"]
    [run] = queued(api)
    assert (run.tags["dagster/partition"], run.tags["refresh/force"]) == ("DEXUSEU", "true")


def test_a_source_without_partitions_runs_whole(api):
    api.home.add({"benin/x.yaml": MINI})
    assert api.post("/api/sources/x/run").json()["item"]["partitions"] == []
    assert "has no partition" in error(api.post("/api/sources/x/run", {"partition": "a"}), 404)["problem"]


@pytest.mark.parametrize("key", ["DEXUSEV", "", "2026-01-01|x", "DEXUSEU...DEXBZUS", "\x00", "' OR 1=1 --"])
def test_an_unknown_partition_is_none(api, key):
    told = error(api.post("/api/sources/fred_fx/run", {"partition": key}), 404)
    assert "has no partition" in told["problem"]
    assert queued(api) == []


def test_what_is_under_way_is_not_asked_for_twice(api):
    first = api.post("/api/sources/fred_fx/run", {"partition": "DEXUSEU"}).json()["item"]["run_id"]
    assert first in error(api.post("/api/sources/fred_fx/run", {"partition": "DEXUSEU"}), 409)["problem"]
    assert first in error(api.post("/api/sources/fred_fx/run"), 409)["problem"]
    assert api.post("/api/sources/fred_fx/run", {"partition": "DEXBZUS"}).status_code == 202
    for run in queued(api):
        cancel_run(api.instance, run.run_id, "the test has seen enough")
    assert api.post("/api/sources/fred_fx/run").status_code == 202


def test_of_many_who_ask_at_once_one_gets_the_run(api):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/api/sources/bsee_ogora/run").status_code, range(8)))
    assert sorted(answers) == [202, *[409] * 7]
    assert len(queued(api)) == 1


@pytest.mark.parametrize("body", [[], "x", {"partition": 7}, {"partition": "x" * 201}, {"reason": "x"}, {"force": "?"}])
def test_a_body_that_is_not_as_declared_is_refused(api, body):
    assert "body" in error(api.post("/api/sources/fred_fx/run", body), 422)["problem"]
    assert queued(api) == []


def test_a_body_that_is_no_json_is_refused(api):
    answer = api.client.post("/api/sources/fred_fx/run", headers={"Content-Type": "application/json"}, content=b"{\xff")
    assert error(answer, 422 if answer.status_code == 422 else 400)
