"""What the API answers: the items of `refresh status`, schedules, pages of lists, ETags, health, and its errors."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.service.board import Board
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.api_bench import Api, error
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import ROOT


@pytest.fixture
def api(home):
    with Api(home) as api:
        yield api


def beat(api, at):
    """Leave a life sign as the daemon does."""
    write_status_file(api.instance, api.settings, at, alive=True)


def test_sources_are_those_of_status_json(home):
    home.refresh("run", "bsee_ogora", "--partition", "2026-01-01")
    home.add({"benin/broken.yaml": "description: [", "benin/off.yaml": MINI + "enabled: false\n"})
    said = home.items("status")
    with Api(home) as api:
        body = api.get("/api/sources").json()
        assert body["items"] == sorted(said, key=lambda item: (item["group"], item["source"]))
        assert (body["version"], body["ok"], body["total"]) == (1, False, 4)
        assert api.get("/api/sources/broken").json()["item"]["incident"] == "broken_yaml"
        assert [api.get(f"/api/sources/{name}").json()["state"] for name in ("bsee_ogora", "broken", "off")] == [
            "fresh",
            "broken",
            "disabled",
        ]
        assert api.get("/api/sources/bsee_ogora").json()["ok"] is True


def test_a_change_of_the_catalogue_is_seen(api):
    assert len(api.items("/api/sources")) == 2
    api.home.add({"benin/x.yaml": MINI})
    assert [item["source"] for item in api.items("/api/sources")] == ["x", "fred_fx", "bsee_ogora"]


def test_lists_come_in_parts(api):
    api.home.add({f"benin/s{number}.yaml": MINI for number in range(3)})
    for path in ("/api/sources", "/api/scheduler/jobs"):
        seen, offset = [], 0
        while offset is not None:
            body = api.get(f"{path}?limit=2&offset={offset}").json()
            assert (body["total"], body["limit"], body["offset"]) == (5, 2, offset)
            seen += [item["source"] for item in body["items"]]
            offset = body["next_offset"]
        assert seen == ["s0", "s1", "s2", "fred_fx", "bsee_ogora"]
        assert api.items(f"{path}?offset=5") == []
    assert [item["source"] for item in api.items("/api/sources?group=commodities")] == ["fred_fx"]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "limit=many", "offset=99999999999999999999"])
def test_a_part_that_cannot_be_is_refused(api, query):
    assert "query" in error(api.get(f"/api/sources?{query}"), 422)["problem"]


def test_who_has_an_answer_already_gets_none(api):
    api.now = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
    for path in ("/api/sources", "/api/sources/fred_fx", "/api/scheduler/status", "/"):
        first = api.get(path)
        tag = first.headers["ETag"]
        for said in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = api.get(path, If_None_Match=said)
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert api.get(path, If_None_Match='"other"').content == first.content
    api.post("/api/sources/fred_fx/schedule/disable")
    assert api.get("/api/sources", If_None_Match=tag).status_code == 200


def test_a_schedule_has_its_next_five_fires(api):
    api.now = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
    for name in ("bsee_ogora", "worldenergy/bsee_ogora", "worldenergy%2Fbsee_ogora"):
        item = api.get(f"/api/sources/{name}/schedule").json()["item"]
    assert item == {
        "name": "bsee_ogora_schedule",
        "source": "bsee_ogora",
        "group": "worldenergy",
        "kind": "schedule",
        "enabled": True,
        "paused": False,
        "frequency": None,
        "cron_expression": "45 11 * * *",
        "timezone": "UTC",
        "next_run_time": "2026-11-22T11:45:00+00:00",
        "upcoming_runs": [f"2026-11-{day}T11:45:00+00:00" for day in range(22, 27)],
    }


def test_what_has_no_times_says_what_asks_for_it(api):
    drop = MINI.replace('{url: "https://example.org/data.csv"}', '{drop: {url: drops, pattern: "*.csv"}}')
    drop = drop.replace("{frequency: daily}", "{frequency: on_event}") + "partitions: {dynamic: day}\n"
    api.home.add({"benin/files.yaml": drop, "benin/off.yaml": MINI + "enabled: false\n"})
    found = {item["source"]: item for item in api.items("/api/scheduler/jobs")}
    wanted = ("name", "kind", "enabled", "cron_expression", "next_run_time")
    assert [found["files"][name] for name in wanted] == ["files_files", "sensor", True, None, None]
    assert [found["off"][name] for name in wanted] == ["off_schedule", "schedule", False, "0 0 * * *", None]
    assert "key" not in error(api.post("/api/sources/files/run"), 409)["problem"]


def test_the_scheduler_says_whether_a_daemon_looks_and_what_waits(api):
    first = api.get("/api/scheduler/status").json()
    assert (first["ok"], first["running"], first["heartbeat"]) == (False, False, None)
    assert first["message"].startswith("No daemon has ever looked")
    assert error_free(api, "/readyz", 503)["problems"] == [first["message"]]
    assert error_free(api, "/healthz", 200)["ok"] is True
    api.now = datetime.now(timezone.utc)
    beat(api, api.now)
    api.post("/api/sources/fred_fx/schedule/disable")
    api.post("/api/sources/bsee_ogora/run")
    then = api.get("/api/scheduler/status").json()
    assert (then["running"], then["message"], then["queue_length"]) == (True, "", 1)
    assert then["schedules"] == {"enabled": 1, "paused": 1, "disabled": 0, "broken": 0}
    assert {state: count for state, count in then["sources"].items() if count} == {"paused": 1, "never run": 1}
    assert error_free(api, "/readyz", 200) == {"version": 1, "ok": True, "problems": []}
    api.now += timedelta(minutes=7)
    assert "for 7 min" in error_free(api, "/readyz", 503)["problems"][0]


def error_free(api, path, status):
    answer = api.get(path)
    assert answer.status_code == status
    return answer.json()


def test_switched_off_schedules_show(home):
    with Api(home, REFRESH_SCHEDULES_ENABLED="false") as api:
        assert api.get("/api/scheduler/status").json()["schedules_enabled"] is False
        assert not any(item["enabled"] for item in api.items("/api/scheduler/jobs"))
        assert "REFRESH_SCHEDULES_ENABLED is false" in api.get("/").text


@pytest.mark.parametrize("path", ["", "/schedule"])
def test_an_unknown_source_is_told_with_the_nearest_one(api, path):
    assert error(api.get(f"/api/sources/fred_fy{path}"), 404)["todo"] == "Did you mean fred_fx?"
    assert error(api.get(f"/api/sources/comodities/fred_fx{path}"), 404)["todo"] == "Did you mean commodities/fred_fx?"
    error(api.get(f"/api/sources/../../etc/passwd{path}"), 404)


def test_other_addresses_and_methods_are_errors_of_the_same_shape(api):
    assert error(api.get("/nix"), 404)["came"] == "GET /nix"
    assert error(api.client.put("/api/sources", json={}), 405)["came"] == "PUT /api/sources"
    assert error(api.client.delete("/api/sources/fred_fx", headers={"Content-Type": "application/json"}), 405)
    assert error(api.client.options("/api/sources"), 405)


def test_an_instance_that_cannot_be_read_is_one_message(api):
    runs = api.home.folder / "data/dagster/history/runs.db"
    api.board.forget()
    runs.write_bytes(b"no database at all" * 1000)
    cheap_history.let_go()
    told = error(api.get("/api/sources"), 503)
    assert (told["problem"], str(api.home.folder) in told["expected"]) == ("Dagster's history cannot be used", True)
    assert api.get("/readyz").status_code == 503
    assert api.get("/healthz").status_code == 200


def test_what_was_gathered_is_shown_for_some_seconds_and_after_a_change_not(api):
    board = Board(api.settings, api.instance, keep=timedelta(hours=1))
    first = board.view()
    api.home.add({"benin/x.yaml": MINI})
    assert board.view() is first
    board.forget()
    assert len(board.view().items) == len(first.items) + 1


def test_the_description_names_every_answer(api):
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/scheduler/status",
        "/api/scheduler/jobs",
        "/api/sources",
        "/api/sources/{name}",
        "/api/sources/{name}/schedule",
        "/api/sources/{name}/schedule/enable",
        "/api/sources/{name}/schedule/disable",
        "/api/sources/{name}/run",
    }
    item = document["components"]["schemas"]["SourceItem"]
    assert set(item["required"]) == set(api.items("/api/sources")[0])
    for ways in document["paths"].values():
        assert all("description" in one for one in ways.values())


def test_the_page_names_every_address_metric_setting_and_existing_test(api):
    text = (ROOT / "docs/api.md").read_text()
    for path in api.get("/openapi.json").json()["paths"]:
        assert f" {path}`" in text, path
    metrics = set(re.findall(r"^# HELP (\w+)", api.get("/metrics").text, re.MULTILINE))
    assert metrics == set(re.findall(r"^\| `(refresh_\w+)", text, re.MULTILINE))
    settings = (ROOT / "refresh_pipelines/settings.py").read_text()
    assert set(re.findall(r"REFRESH_API_[A-Z]+", settings)) == set(re.findall(r"REFRESH_API_[A-Z]+", text))
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / "refresh_pipelines_tests" / file).read_text(), test
