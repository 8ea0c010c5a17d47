"""Dagster's history in SQLite by our store: the same files, tables and rows as by Dagster's own, made at less cost."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import dagster as dg
import psutil
import pytest
import sqlalchemy
import yaml

from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.orchestration.internals import many_events
from refresh_pipelines.orchestration.internals_sqlite import VERSION, SqliteStorage
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.cheap_history import let_go

ROOT = Path(__file__).parent.parent
OWN = {"sqlite": {"base_dir": "history"}}
OURS = {
    "custom": {
        "module": SqliteStorage.__module__,
        "class": SqliteStorage.__name__,
        "config": {"base_dir": "history"},
    }
}


@dg.asset(key=["benin", "a"])
def loaded() -> None:
    pass


@pytest.fixture
def instance_of(tmp_path, monkeypatch):
    """Return a function that opens the history below a folder, by a store."""
    made = []

    def opened(name, storage):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        config = {"storage": storage, "telemetry": {"enabled": False}}
        (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
        made.append(dg.DagsterInstance.from_config(str(folder)))
        return made[-1]

    yield opened
    for instance in made:
        instance.dispose()


def job():
    return dg.Definitions([loaded]).get_repository_def().get_implicit_global_asset_job_def()


def run_in(instance):
    return dg.materialize([loaded], instance=instance).run_id


def files(folder):
    """The files of a history by their names, in which a run's number is RUN."""
    run_id = (folder / "run").read_text()
    return {str(path.relative_to(folder)).replace(run_id, "RUN"): path for path in folder.rglob("*.db")}


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        made = sorted(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())
        version = connection.execute("SELECT * FROM alembic_version").fetchall()
        return made, version, connection.execute("PRAGMA journal_mode").fetchall()


def events(instance, run_id):
    found = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    return [(event.event_type, event.step_key) for event in found]


def test_every_file_has_the_tables_version_and_mode_that_dagster_gives_it(instance_of, tmp_path):
    for name, storage in (("own", OWN), ("ours", OURS)):
        instance = instance_of(name, storage)
        (tmp_path / name / "run").write_text(run_in(instance))
        instance.all_instigator_state()
    own, ours = (
        sorted(path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*.db")) for n in ("own", "ours")
    )
    named = {n: (tmp_path / n / "run").read_text() for n in ("own", "ours")}
    assert [str(path).replace(named["own"], "RUN") for path in own] == [
        str(path).replace(named["ours"], "RUN") for path in ours
    ]
    assert len(own) == 4
    for a, b in zip(own, ours, strict=True):
        assert tables(tmp_path / "own" / a) == tables(tmp_path / "ours" / b)


def test_a_history_that_dagster_made_is_read_and_gone_on_with_and_the_other_way_round(instance_of):
    first = run_in(instance_of("one", OWN))
    ours = instance_of("one", OURS)
    assert (dg.DagsterEventType.STEP_SUCCESS, "benin__a") in events(ours, first)
    second = run_in(ours)
    own = instance_of("one", OWN)
    assert events(own, second) == events(own, first)
    assert own.get_latest_materialization_event(dg.AssetKey(["benin", "a"])).run_id == second
    assert own.get_runs_count() == 2


def test_a_file_of_an_older_version_is_left_to_dagster(instance_of):
    run_id = run_in(instance_of("one", OURS))
    (path,) = (path for path in Path().rglob("*.db") if run_id in path.name)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    assert (dg.DagsterEventType.STEP_SUCCESS, "benin__a") in events(instance_of("one", OURS), run_id)
    assert tables(path)[1] == [(VERSION,)]


def test_what_stands_in_the_file_of_a_run_stays_when_it_is_opened_anew(instance_of):
    run_id = run_in(instance_of("one", OURS))
    again = instance_of("one", OURS)
    before = events(again, run_id)
    again.report_engine_event("later", again.get_run_by_id(run_id))
    assert events(again, run_id)[: len(before)] == before
    assert len(events(again, run_id)) == len(before) + 1


def test_stores_that_begin_a_run_at_once_lose_no_event(instance_of):
    stores = [instance_of("one", OURS) for _ in range(4)]
    run = stores[0].create_run_for_job(
        dg.Definitions([loaded]).get_repository_def().get_implicit_global_asset_job_def()
    )
    gate = threading.Barrier(len(stores))

    def say(number, instance):
        gate.wait(30)
        for nth in range(5):
            instance.report_engine_event(f"{number} {nth}", run)

    threads = [threading.Thread(target=say, args=one) for one in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    said = {entry.dagster_event.message for entry in stores[0].all_logs(run.run_id) if entry.dagster_event}
    assert {f"{number} {nth}" for number in range(len(stores)) for nth in range(5)} <= said
    assert not list(Path().rglob("*.new"))


def test_a_file_that_is_no_database_is_dagsters_to_complain_of(instance_of):
    instance = instance_of("one", OURS)
    run = instance.create_run_for_job(job())
    (path,) = (path for path in Path().rglob("*.db") if run.run_id in path.name)
    path.write_bytes(b"no database " * 100)
    with pytest.raises(Exception, match="not a database"):
        instance_of("one", OURS).all_logs(run.run_id)


def test_a_folder_that_was_deleted_and_made_anew_is_a_new_history(instance_of, tmp_path):
    run_in(instance_of("one", OURS)).strip()
    let_go()  # who closes a file last deletes the log beside it by its name, which is the new one's by then
    (tmp_path / "one" / "history").rename(tmp_path / "gone")
    anew = instance_of("one", OURS)
    assert anew.get_runs_count() == 0
    run_in(anew)
    assert anew.get_runs_count() == 1


def test_the_instance_of_the_project_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with open_instance(Settings.load({}, root=tmp_path)) as instance:
        assert type(instance.run_storage).__module__ == SqliteStorage.__module__
        assert type(instance.event_log_storage).__module__ == SqliteStorage.__module__
        assert type(instance.schedule_storage).__module__ == SqliteStorage.__module__


def open_files(folder):
    """Return the files of a history that this process has open."""
    names = (Path(file.path) for file in psutil.Process().open_files())
    return {name.name for name in names if folder in name.parents and name.suffix == ".db"}


def test_a_run_keeps_its_files_open_and_nobody_else_waits_for_it(instance_of, tmp_path):
    instance, other = instance_of("ours", OURS), instance_of("ours", OURS)
    let_go()
    folder = tmp_path / "ours"
    with many_events(instance, "some-run", Settings.load({}, tmp_path)):
        run_id = run_in(instance)
        assert {"runs.db", "index.db", f"{run_id}.db"} <= open_files(folder)
        seen = []
        elsewhere = threading.Thread(target=lambda: seen.append(run_in(other)))
        elsewhere.start()
        elsewhere.join(60)
        assert f"{seen[0]}.db" not in open_files(folder)
        with instance.run_storage.connect() as outer:
            outer.execute(sqlalchemy.text("SELECT 1"))
            assert len(instance.get_runs()) == 2
    let_go()
    assert open_files(folder) == set()
    assert {run.run_id for run in other.get_runs()} == {run_id, *seen}
    assert events(other, run_id) == events(other, seen[0])


def test_what_fails_in_a_run_is_rolled_back_and_the_file_goes_on(instance_of, tmp_path):
    instance = instance_of("ours", OURS)
    with many_events(instance, "some-run", Settings.load({}, tmp_path)):
        before = instance.get_runs_count()
        with pytest.raises(RuntimeError), instance.run_storage.connect() as connection:
            connection.execute(sqlalchemy.text("INSERT INTO run_tags (run_id, key, value) VALUES ('a', 'b', 'c')"))
            raise RuntimeError
        assert "b" not in instance.get_run_tag_keys()
        run_in(instance)
        assert instance.get_runs_count() == before + 1


def test_what_an_interrupt_has_left_open_keeps_nobody_from_writing(instance_of, tmp_path):
    instance, other = instance_of("ours", OURS), instance_of("ours", OURS)
    with many_events(instance, "some-run", Settings.load({}, tmp_path)):
        with instance.run_storage.connect() as connection:
            pass
        connection.begin()
        connection.execute(sqlalchemy.text("INSERT INTO run_tags (run_id, key, value) VALUES ('a', 'b', 'c')"))
        instance.get_runs_count()
        assert run_in(other) != run_in(instance)
    assert "b" not in instance.get_run_tag_keys()
