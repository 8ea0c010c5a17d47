"""`/metrics`: the fixed names, in a form that Prometheus reads, and counters that count each thing once."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.tallies import Tallies
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.api_bench import Api
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.clockwork import Clockwork

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
NOW = datetime.now(timezone.utc).replace(microsecond=0)
FIXED = {
    "refresh_schedules": ("gauge", {"state"}),
    "refresh_ticks": ("counter", {"result"}),
    "refresh_runs": ("counter", {"source", "outcome"}),
    "refresh_bytes_saved": ("counter", {"source"}),
    "refresh_run_seconds": ("histogram", {"le"}),
    "refresh_queue_length": ("gauge", set()),
    "refresh_lock_wait_seconds": ("histogram", {"le"}),
    "refresh_last_success_age_seconds": ("gauge", {"source"}),
    "refresh_overdue": ("gauge", {"source"}),
    "refresh_heartbeat_age_seconds": ("gauge", set()),
}


@pytest.fixture
def api(home):
    with Api(home) as api:
        yield api


def families(api):
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def samples(api):
    """Return every sample by name and the values of its labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(api).values()
        for sample in family.samples
    }


def refreshed(api, outcome, at=NOW):
    """Have one refresh of fred_fx be logged, of two seconds."""
    metadata = {"refresh/outcome": outcome, "refresh/started_at": at.isoformat()}
    metadata |= {"refresh/seconds_fetch": 1.8, "refresh/seconds_wait": 0.2}
    kind = dg.AssetMaterialization if outcome == "loaded" else dg.AssetObservation
    event = kind(dg.AssetKey(["commodities", "fred_fx"]), partition="DEXUSEU", metadata=metadata)
    api.instance.report_runless_asset_event(event)


def test_names_types_and_labels_are_the_fixed_ones(api):
    samples(api)
    refreshed(api, "loaded")
    write_status_file(api.instance, api.settings, alive=True)
    found = families(api)
    assert set(found) == set(FIXED)
    for name, (kind, labels) in FIXED.items():
        assert (found[name].type, bool(found[name].documentation)) == (kind, True)
        assert {label for sample in found[name].samples for label in sample.labels} == labels


def test_refreshes_are_counted_once_from_the_first_look_on(api):
    refreshed(api, "loaded")
    assert ("refresh_runs_total", "loaded", "fred_fx") not in samples(api)
    for outcome in ("loaded", "failed", "failed", "not_yet"):
        refreshed(api, outcome)
    api.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["commodities", "fred_fx"])))
    api.instance.report_runless_asset_event(dg.AssetMaterialization("somebody_elses"))
    for _ in range(2):
        found = samples(api)
        for outcome, count in {"loaded": 1, "failed": 2, "not_yet": 1}.items():
            assert found["refresh_runs_total", outcome, "fred_fx"] == count
        assert (found["refresh_run_seconds_count",], found["refresh_run_seconds_sum",]) == (4, 8.0)
        assert (found["refresh_run_seconds_bucket", "1.0"], found["refresh_run_seconds_bucket", "2.5"]) == (0, 4)
        assert found["refresh_lock_wait_seconds_sum",] == pytest.approx(0.8)
        assert found["refresh_lock_wait_seconds_bucket", "+Inf"] == 4


def test_counters_go_on_where_another_process_stopped(home):
    with Api(home) as first:
        samples(first)
        refreshed(first, "loaded")
        assert samples(first)["refresh_runs_total", "loaded", "fred_fx"] == 1
    with Api(home) as then:
        refreshed(then, "loaded")
        assert samples(then)["refresh_runs_total", "loaded", "fred_fx"] == 2
        (then.settings.data_dir / "status.sqlite").unlink()
    with Api(home) as anew:
        assert ("refresh_runs_total", "loaded", "fred_fx") not in samples(anew)


def test_ages_queue_and_states_are_those_of_now(api):
    refreshed(api, "loaded", NOW - timedelta(hours=2))
    api.home.add({"benin/off.yaml": MINI + "enabled: false\n", "benin/broken.yaml": "a: ["})
    api.post("/api/sources/bsee_ogora/schedule/disable")
    api.post("/api/sources/fred_fx/run")
    api.now = NOW
    found = samples(api)
    states = {state: found["refresh_schedules", state] for state in ("enabled", "paused", "disabled", "broken")}
    assert states == {"enabled": 1, "paused": 1, "disabled": 1, "broken": 1}
    assert found["refresh_queue_length",] == 1
    assert found["refresh_last_success_age_seconds", "fred_fx"] == 7200
    assert ("refresh_last_success_age_seconds", "bsee_ogora") not in found
    assert ("refresh_heartbeat_age_seconds",) not in found


def test_a_hostile_name_is_one_label(api):
    name = 'a"} 1\nrefresh_queue_length 99\\'
    api.home.add({f"benin/{name}.yaml": "a: ["})
    found = samples(api)
    assert found["refresh_queue_length",] == 0
    assert found["refresh_schedules", "broken"] == 1


def test_ticks_of_schedules_are_counted_by_what_came_of_them(tmp_path, empty_history):
    begin = datetime(2026, 11, 20, 10, 30, tzinfo=timezone.utc)
    with Clockwork(tmp_path, empty_history, "frequency: hourly") as clock:
        settings = Settings.load({"REFRESH_CATALOG": "catalog"}, tmp_path)
        specs = load_catalogue(settings.catalog).sources.values()
        tallies = Tallies(settings)
        assert sum(tallies.look(clock.instance, specs, begin).ticks.values()) == 0
        clock.look(begin)
        for hour in (1, 2):  # the second finds the run of the first still queued
            clock.look(begin + timedelta(hours=hour))
        for _ in range(2):
            found = tallies.look(clock.instance, specs, begin + timedelta(hours=2))
            assert found.ticks == {"requested": 1, "skipped": 1, "failed": 0}
        again = Tallies(settings).look(clock.instance, specs, begin + timedelta(hours=2))
        assert again.ticks == found.ticks


def used(text):
    return {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in re.findall(r"\brefresh_[a-z_]+", text)}


def test_rules_and_dashboard_use_names_that_exist():
    rules = yaml.safe_load((DEPLOY / "prometheus/refresh.rules.yml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    assert all({"alert", "expr", "for", "labels", "annotations"} <= set(rule) for rule in found)
    dashboard = json.loads((DEPLOY / "grafana/refresh.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for text in (*(rule["expr"] for rule in found), *asked):
        assert used(text), text
        assert used(text) <= set(FIXED), text
    assert set().union(*map(used, asked)) == set(FIXED)
