"""Dagster's history in PostgreSQL: runs, commands, ticks, scores and the doctor over it, and a server that goes."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import dagster as dg
import psycopg
import pytest

from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import InternalError
from refresh_pipelines.orchestration.instance import prepare
from refresh_pipelines.orchestration.internals import many_events, observed_since, settled
from refresh_pipelines.orchestration.internals_ticks import newest_tick, switches
from refresh_pipelines.orchestration.pause import pause
from refresh_pipelines.orchestration.server import HistoryAway, require_server
from refresh_pipelines.orchestration.stuck import end_stuck
from refresh_pipelines.postgres_url import for_dagster
from refresh_pipelines.service.doctor.examine import CHECKS
from refresh_pipelines.service.doctor.postgres import Server, findings_of
from refresh_pipelines.service.doctor.traps import Place
from refresh_pipelines.settings import Settings
from refresh_pipelines.worker import at_work
from refresh_pipelines_tests.clockwork import QUEUED
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.dagster_bench import Bench, at, partitions, values
from refresh_pipelines_tests.overdue_bench import WHOLE
from refresh_pipelines_tests.served import free_port
from refresh_pipelines_tests.test_gaps_history import DAILY, HOUR, Watched, utc
from refresh_pipelines_tests.test_score_log import Log


@contextmanager
def kept_in(history, folder, **more):
    """An instance whose history is in a database."""
    folder.mkdir(exist_ok=True)
    storage = {"postgres": {"postgres_url": for_dagster(history)}}
    with dg.DagsterInstance.local_temp(str(folder), {"storage": storage, **more}) as instance:
        yield instance


@pytest.fixture
def there(bench: Bench, postgres_history, tmp_path):
    """The bench with its history in PostgreSQL."""
    bench.environ["REFRESH_INSTANCE"] = postgres_history
    with kept_in(postgres_history, tmp_path / "instance") as instance:
        bench.instance = instance
        yield bench


def test_commands_record_and_read_there_and_write_no_password_anywhere(home, postgres_history):
    home.environ["REFRESH_INSTANCE"] = postgres_history
    ran = home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    assert ran.exit_code == 0, ran.output
    [item] = home.items("history", "fred_fx")
    assert (item["partition"], item["outcome"], item["trigger"]) == ("DEXUSEU", "loaded", "manual")
    [status] = home.items("status", "fred_fx")
    assert status["last_run_id"] == item["run_id"]
    with psycopg.connect(postgres_history) as connection:
        [(run_id, state)] = connection.execute("SELECT run_id, status FROM runs").fetchall()
        tags = dict(connection.execute("SELECT key, value FROM run_tags WHERE run_id = %s", [run_id]).fetchall())
    assert (run_id, state, tags["refresh/source"]) == (item["run_id"], "SUCCESS", "fred_fx")
    home.environ["REFRESH_WEBHOOK_URL"] = "http://127.0.0.1:9/hook"
    doctor = home.refresh("doctor")
    assert "PostgreSQL" in doctor.output and "wrong" not in doctor.output
    assert "env: REFRESH_INSTANCE" in (home.folder / "data/dagster.yaml").read_text()
    written = [path for path in (home.folder / "data").rglob("*") if path.is_file()]
    assert [path for path in written if b"planted5ecret" in path.read_bytes()] == []
    assert not list((home.folder / "data/dagster/history").glob("runs/*-*.db"))


@pytest.mark.e2e
def test_a_server_that_is_cut_in_the_middle_of_a_run_is_waited_for(there, postgres_server):
    there.environ["REFRESH_LOCK_TIMEOUT"] = "30s"

    def cut():
        postgres_server.stop()
        Thread(target=postgres_server.start).start()

    there.adjust = once(at("committed", cut))
    result = there.launch("fred_fx", "DEXUSEU", "DEXBZUS")
    assert there.run(result).status is dg.DagsterRunStatus.SUCCESS
    assert partitions(there.good(result)) == ["DEXUSEU", "DEXBZUS"]


def test_a_run_keeps_its_connections_from_event_to_event(there):
    """Fails when Dagster has moved what `orchestration/internals_postgres.py` reaches for; then mend that module."""
    stores = (there.instance.event_log_storage, there.instance.run_storage)
    assert [type(store._engine.pool).__name__ for store in stores] == ["NullPool", "NullPool"]
    for _ in range(2):
        with many_events(there.instance, "a-run", there.settings):
            assert there.instance.get_runs_count() == 0
        engines = [store._engine for store in stores]
        assert [type(engine.pool).__name__ for engine in engines] == ["QueuePool", "QueuePool"]
    assert engines[1].pool.checkedin() == 1


def once(adjust):
    """Adjust the tools of the first attempt only, and there do what is done only for the first partition."""
    left = [adjust]

    def do(tools):
        if not left:
            return tools
        progress = left.pop()(tools).progress
        seen = []

        def first(stage):
            if stage not in seen:
                seen.append(stage)
                progress(stage)

        return replace(tools, progress=first)

    return do


def test_what_no_event_could_be_written_of_stays_loaded_and_the_run_ends_later(there, postgres_server):
    there.environ["REFRESH_LOCK_TIMEOUT"] = "0.1"
    there.adjust = once(at("committed", postgres_server.stop))
    run_id = "00000000-0000-4000-8000-000000000001"
    try:
        # As by a process of its own, which is then gone.
        with pytest.raises(HistoryAway) as told, at_work(there.settings.data_dir, run_id):
            there.launch("fred_fx", "DEXUSEU", run_id=run_id)
    finally:
        postgres_server.start()
    assert "the next refresh makes up for its event" in str(told.value) and "planted" not in str(told.value)
    assert there.instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.STARTED
    [ended] = end_stuck(there.instance, there.settings)
    assert ended.run_id == run_id and "could not record how it ended" in ended.why
    assert there.instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE
    again = there.launch("fred_fx", "DEXUSEU")
    lost, unchanged = map(values, there.good(again))
    assert (lost["refresh/recovered"], lost["refresh/added"]) == (True, 24)
    assert unchanged["refresh/outcome"] == "unchanged"


def test_a_server_that_is_away_or_lets_nobody_in_is_one_sentence_without_the_password(home, postgres_history):
    away = f"postgresql://me:planted5ecret@127.0.0.1:{free_port()}/dagster"
    settings = Settings.load({"REFRESH_INSTANCE": away}, home.folder)
    with pytest.raises(HistoryAway) as told:
        require_server(settings, patience=0)
    said = str(told.value)
    assert said.startswith(
        f"Dagster's history, postgresql://127.0.0.1:{away.rsplit(':', maxsplit=1)[-1]}, cannot be reached; "
    )
    assert said.endswith("Nothing was started. Start the server, or correct REFRESH_INSTANCE; then run this again.")
    assert "planted" not in said and told.value.error_class == "busy"
    home.environ["REFRESH_INSTANCE"] = postgres_history.rpartition("/")[0] + "/not_there"
    refused = home.refresh("history")
    assert refused.exit_code == 1 and len(refused.output.splitlines()) == 1
    assert "does not let us in" in refused.output and "CREATE DATABASE" in refused.output
    assert "planted" not in refused.output


def test_what_the_server_refuses_in_the_middle_of_a_command_is_one_sentence_too(home, postgres_history):
    home.environ["REFRESH_INSTANCE"] = postgres_history
    with psycopg.connect(postgres_history) as connection:
        connection.execute("DROP TABLE run_tags")
    result = home.refresh("status")
    assert result.exit_code == 1 and len(result.output.splitlines()) == 1
    assert 'cannot be used; got relation "run_tags" does not exist. The command broke off.' in result.output
    assert "SELECT" not in result.output and "planted" not in result.output


def test_scores_overdue_and_counts_are_those_of_the_log(there):
    log = Log(there, WHOLE)
    log.loaded("2026-11-20T06:05")
    log.failed("2026-11-21T06:05")
    log.loaded("2026-11-23T06:05")
    assert log.score() == round(log.full().total, 2) < 1
    assert log.tick("2026-11-23T12:00").startswith("0 of 1 overdue")
    assert log.tick("2026-11-25T12:00").startswith("1 of 1 overdue")
    log.loaded("2026-11-25T12:01")
    log.tick("2026-11-25T12:02")
    assert [passed for passed, _ in log.checks()] == [True, False, True]


def test_ticks_gaps_and_switches_are_there(tmp_path, empty_history, postgres_history):
    with There(tmp_path, empty_history, postgres_history) as watched:
        start = utc("2026-06-01T05:00")
        watched.enabled(start)
        watched.look(start)
        [run] = watched.look(start + HOUR)
        watched.end(run)
        assert watched.words(start + 2 * HOUR) == ["run"]
        pause(watched.instance, watched.settings, [watched.spec], now=start + 3 * HOUR, reason="", by="me")
        assert not switches(watched.instance)["a_schedule"].on
        assert newest_tick(watched.instance, "a_schedule") == start + HOUR


class There(Watched):
    """Dagster's scheduler over a history in PostgreSQL."""

    def __init__(self, folder, history, url):
        super().__init__(folder, history, DAILY)
        self.instance = self._stack.enter_context(kept_in(url, folder / "instance", **QUEUED))


def test_an_event_that_may_have_a_brother_on_its_way_is_left_for_the_next_look(there):
    there.instance.report_runless_asset_event(dg.AssetMaterialization("a"))
    assert observed_since(there.instance, 0)[1] == 0
    wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION)
    [record] = there.instance.event_log_storage.get_event_records(wanted)
    old = replace_time(record, record.timestamp - 60)
    assert list(settled(there.instance, [old, record, old])) == [old]
    ahead = replace_time(record, record.timestamp + 3600)
    assert list(settled(there.instance, [old, ahead])) == [old, ahead], "a machine whose clock is wrong"
    with dg.DagsterInstance.ephemeral() as lite:
        assert list(settled(lite, [record])) == [record]


def replace_time(record, timestamp):
    return dg.EventLogRecord(record.storage_id, record.event_log_entry._replace(timestamp=timestamp))


def test_what_was_read_of_another_history_is_forgotten(home, postgres_history):
    assert home.refresh("run", "fred_fx", "--partition", "DEXUSEU").exit_code == 0
    [item] = home.items("status", "fred_fx")
    assert item["last_run_id"]
    home.environ["REFRESH_INSTANCE"] = postgres_history
    [other] = home.items("status", "fred_fx")
    assert other["last_run_id"] is None
    del home.environ["REFRESH_INSTANCE"]
    assert home.items("status", "fred_fx") == [item]


def test_a_home_of_somebodys_own_that_keeps_history_elsewhere_is_refused(home, postgres_history):
    own = home.folder / "own"
    own.mkdir()
    shutil.copy(ROOT / "dagster.yaml", own)
    with home.entered():
        with pytest.raises(InternalError, match=r"disagree on where Dagster's history is.*does not name it"):
            prepare(Settings.load({"REFRESH_INSTANCE": postgres_history, "DAGSTER_HOME": str(own)}, home.folder))
        (own / "dagster.yaml").write_text("storage: {postgres: {postgres_url: {env: REFRESH_INSTANCE}}}")
        with pytest.raises(InternalError, match="expected REFRESH_INSTANCE to be set"):
            prepare(Settings.load({"DAGSTER_HOME": str(own)}, home.folder))


def findings(home, **environ):
    settings = Settings.load({**home.environ, **environ}, root=home.folder)
    place = Place(settings, utc_now(), home.folder, None, None)
    return [(one.trap.name, one.came) for one in CHECKS["PostgreSQL"](place)]


def test_the_doctor_finds_a_server_that_is_away_and_one_that_loses_what_it_has_acknowledged(home, postgres_history):
    away = f"postgresql://me:planted5ecret@127.0.0.1:{free_port()}/w"
    assert findings(home, REFRESH_INSTANCE=postgres_history, REFRESH_WAREHOUSE=postgres_history) == []
    [(name, came)] = findings(home, REFRESH_WAREHOUSE=away)
    assert name == "postgres-away" and "(REFRESH_WAREHOUSE): " in came and "planted" not in came
    with psycopg.connect(postgres_history, autocommit=True) as connection:
        database = postgres_history.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    [(name, came)] = findings(home, REFRESH_INSTANCE=postgres_history, REFRESH_WAREHOUSE=postgres_history)
    assert name == "postgres-lossy" and "(REFRESH_INSTANCE)" in came


def test_the_doctor_finds_an_old_server_and_one_with_few_connections():
    old = findings_of(Server("", 14, True, 100), "w", 4, history=False)
    assert [(one.trap.name, one.came) for one in old] == [("postgres-old", "w is PostgreSQL 14")]
    [narrow] = findings_of(Server("", 15, True, 40), "h", 10, history=True)
    assert narrow.trap.name == "postgres-few-connections" and "allows 40, 10 runs at once may need 70" in narrow.came
    assert list(findings_of(Server("", 15, True, 40), "h", 4, history=True)) == []
    assert list(findings_of(Server("", 15, False, 40), "w", None, history=False)) == []
