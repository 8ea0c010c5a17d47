"""The daemon's life sign: who leaves it, who does not, and what `refresh status` says without one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.heartbeat import Life, life_of, status_file
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.settings import Settings

NOW = datetime(2026, 11, 22, 10, 9, tzinfo=timezone.utc)
WAITS = "schedules, probes and alerts wait; `refresh start` or `make up` starts one."
NEVER = f"No daemon has ever looked here: {WAITS}"
MINUTE = timedelta(minutes=1)


def written(folder, text):
    status_file(folder).write_text(text)
    return life_of(folder)


@pytest.mark.parametrize(
    ("age", "words"),
    [(7 * MINUTE, "7 min"), (119 * MINUTE, "119 min"), (5 * 60 * MINUTE, "5 h"), (timedelta(days=9), "9 d")],
)
def test_a_daemon_that_has_stopped_is_named_with_its_age(age, words):
    at = NOW - age
    said = Life(at).sentence(NOW)
    assert said == f"No daemon has looked for {words} (since {at:%Y-%m-%d %H:%M} UTC): {WAITS}"


@pytest.mark.parametrize("age", [timedelta(0), 2 * MINUTE, -MINUTE])
def test_nothing_is_said_of_a_daemon_that_looks(age):
    assert Life(NOW - age).sentence(NOW) == ""


def test_what_was_never_there_is_no_damage(tmp_path):
    assert life_of(tmp_path) == Life()
    assert Life().sentence(NOW) == NEVER
    assert written(tmp_path, '{"version": 1, "heartbeat": null, "sources": []}') == Life()


def test_the_file_of_another_version_is_read_as_far_as_it_is_known(tmp_path):
    assert (
        written(tmp_path, '{"version": 7, "sources": {}, "heartbeat": "2026-11-22T10:02:00+00:00"}').at
        == NOW - 7 * MINUTE
    )
    assert written(tmp_path, '{"heartbeat": "2026-11-22T11:02:00+01:00"}').text == "2026-11-22T10:02:00+00:00"
    assert written(tmp_path, "{}") == Life()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ('{"version": 1, "heartb', "it is no JSON, or cut off"),
        ("[]", "it holds something else"),
        ('{"heartbeat": 7}', "it holds something else"),
        ('{"heartbeat": "noon"}', "its heartbeat is 'noon'"),
    ],
)
def test_a_damaged_file_is_named_and_breaks_nothing(tmp_path, text, why):
    life = written(tmp_path, text)
    assert life.at is None
    assert (
        life.problem
        == f"{tmp_path / 'status.json'} cannot be read ({why}): the next refresh or the daemon writes a new one."
    )
    assert life.sentence(NOW) == ""


def test_bytes_and_folders_are_damage_too(tmp_path):
    status_file(tmp_path).write_bytes(b"\xff\xfe\x00")
    assert "it is no text" in life_of(tmp_path).problem
    status_file(tmp_path).unlink()
    status_file(tmp_path).mkdir()
    assert "directory" in life_of(tmp_path).problem.lower()


def beat(home, at):
    """Leave a life sign as the daemon does."""
    with home.entered():
        settings = Settings.load(home.environ)
        with open_instance(settings) as instance:
            write_status_file(instance, settings, at, alive=True)


def document(home):
    return json.loads((home.folder / "data/status.json").read_text())


def test_a_run_pretends_no_life_sign_and_keeps_the_daemons(home):
    home.refresh("run", "bsee_ogora", "--partition", "2026-01-01")
    assert document(home)["heartbeat"] is None
    assert NEVER in home.refresh("status").stdout
    at = datetime.now(timezone.utc).replace(microsecond=0) - 7 * MINUTE
    beat(home, at)
    assert document(home)["heartbeat"] == document(home)["generated_at"] == at.isoformat()
    home.refresh("run", "bsee_ogora", "--partition", "2026-01-01")
    assert document(home)["heartbeat"] == at.isoformat()
    assert document(home)["generated_at"] > at.isoformat()
    result = home.refresh("status")
    assert f"\nNo daemon has looked for 7 min (since {at:%Y-%m-%d %H:%M} UTC): {WAITS}\n" in result.stdout
    assert result.exit_code == 0
    assert json.loads(home.refresh("status", "--json").stdout)["heartbeat"] == at.isoformat()


def test_status_with_a_damaged_file_names_it_and_a_run_mends_it(home):
    (home.folder / "data").mkdir(exist_ok=True)
    (home.folder / "data/status.json").write_text('{"version": 1, "gener')
    result = home.refresh("status")
    assert result.exit_code == 0
    assert "data/status.json cannot be read (it is no JSON, or cut off)" in result.stdout
    assert json.loads(home.refresh("status", "--json").stdout)["heartbeat"] is None
    home.refresh("run", "bsee_ogora", "--partition", "2026-01-01")
    assert document(home)["heartbeat"] is None
    assert "cannot be read" not in home.refresh("status").stdout


def test_each_tick_of_the_sensor_leaves_a_life_sign(bench):
    repository = bench.definitions().get_repository_def()
    context = dg.build_sensor_context(bench.instance, repository_def=repository)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    repository.get_sensor_def("failures").evaluate_tick(context)
    assert before <= life_of(bench.settings.data_dir).at <= datetime.now(timezone.utc)
    assert repository.get_sensor_def("failures").minimum_interval_seconds <= 30
