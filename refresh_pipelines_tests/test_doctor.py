"""`refresh doctor`: each trap set for real and found, and nothing found where all is well."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import get_args

import dagster as dg
import duckdb
import pytest
from dagster._daemon.types import DaemonHeartbeat

from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import ErrorClass
from refresh_pipelines.incident import Failure
from refresh_pipelines.notices import Notices
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.service.doctor.examine import CHECKS, look_at
from refresh_pipelines.service.doctor.history import MANY_RUNS, MANY_SOURCES
from refresh_pipelines.service.doctor.machine import Mount, disk, file_system
from refresh_pipelines.service.doctor.traps import TRAPS
from refresh_pipelines.settings import Settings
from refresh_pipelines.worker import at_work
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.served import free_port
from refresh_pipelines_tests.upstream import Upstream, answer
from refresh_pipelines_tests.workbench import start

PAGE = (ROOT / "docs/operations.md").read_text()


class Patient:
    """A home that a doctor finds well, and what makes it ill."""

    def __init__(self, home):
        self.home, self.folder = home, home.folder
        home.environ["REFRESH_WEBHOOK_URL"] = "http://127.0.0.1:9/hook"
        with self.instance() as instance:
            write_status_file(instance, self.settings(), alive=True)

    def settings(self, **more):
        return Settings.load({**self.home.environ, **more}, root=self.folder)

    @contextmanager
    def instance(self):
        with self.home.entered(), dg.DagsterInstance.from_config(str(self.folder)) as instance:
            yield instance

    def place(self, online=False, later=timedelta(0), **more):
        home = os.environ.pop("DAGSTER_HOME", None)
        with self.home.entered():
            place = look_at(self.settings(**more), utc_now() + later, ask_upstreams=online)
        os.environ.pop("DAGSTER_HOME", None)
        if home:
            os.environ["DAGSTER_HOME"] = home
        return place

    def found(self, check, **more):
        """Return what a check finds, as names of traps and by what they were seen."""
        return [(one.trap.name, one.came) for one in CHECKS[check](self.place(**more))]

    def names(self, check, **more):
        return [name for name, _ in self.found(check, **more)]

    def edit(self, before, after):
        path = self.folder / "dagster.yaml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))


@pytest.fixture
def patient(home):
    return Patient(home)


def test_where_all_is_well_no_check_finds_anything(patient):
    place = patient.place(online=True)
    assert {name: list(check(place)) for name, check in CHECKS.items()} == {name: [] for name in CHECKS}


def test_a_dagster_yaml_that_is_not_there_or_cannot_be_read_is_found(patient, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    assert "no-dagster-yaml" in patient.names("history", DAGSTER_HOME=str(tmp_path / "elsewhere"))
    patient.edit("run_monitoring:", "run_monitorng:")
    [(name, came)] = patient.found("history")
    assert name == "history-unreadable" and "run_monitorng" in came


def test_runs_in_two_places_are_found(patient, tmp_path):
    for folder in (patient.folder / "data/dagster", tmp_path / "other/dagster"):
        (tmp_path / "made").mkdir(exist_ok=True)
        with dg.DagsterInstance.local_temp(str(tmp_path / "made")) as instance:
            instance.create_run_for_job(dg.Definitions(jobs=[_job]).resolve_job_def("_job"))
        shutil.copytree(tmp_path / "made/history", folder / "history", dirs_exist_ok=True)
    found = patient.found("history", REFRESH_DATA_DIR=str(tmp_path / "other"))
    assert [name for name, _ in found] == ["two-histories"]
    assert "(1 runs)" in found[0][1] or "(2 runs)" in found[0][1]


@dg.job
def _job():
    pass


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("run_monitoring:\n  enabled: true", "run_monitoring:\n  enabled: false", "monitoring-off"),
        ("max_concurrent_runs: 4", "max_concurrent_runs: -1", "no-slot-limit"),
        ("max_concurrent_runs: 4", "max_concurrent_runs: 0", "no-slots"),
        ("granularity: run", "granularity: op", "pools-by-op"),
    ],
)
def test_settings_of_dagster_yaml_that_stop_or_drown_runs_are_found(patient, before, after, name):
    patient.edit(before, after)
    assert patient.names("slots") == [name]


def test_a_pool_that_lets_nothing_through_is_found(patient):
    with patient.instance() as instance:
        instance.event_log_storage.set_concurrency_slots("api.example.org", 0)
    assert patient.found("slots") == [("closed-pool", "pool api.example.org")]


def test_more_sources_than_sqlite_is_good_for_are_found(patient):
    text = (patient.folder / "catalog/commodities/fred_fx.yaml").read_text()
    for number in range(MANY_SOURCES + 1):
        own = re.sub(r"^table: .*$", "", text, flags=re.M) + f"\ntable: many_{number}\n"
        (patient.folder / f"catalog/commodities/many_{number}.yaml").write_text(own)
    [(name, came)] = patient.found("SQLite")
    assert name == "sqlite-many-sources" and f"more than {MANY_SOURCES}" in came


def test_more_runs_than_sqlite_is_good_for_are_found(patient):
    place = patient.place()
    ill = replace(place, health=replace(place.health, runs=MANY_RUNS + 1))
    assert [one.trap.name for one in CHECKS["SQLite"](ill)] == ["sqlite-many-runs"]


@contextmanager
def daemon(home):
    """Start what the list of processes shows as a daemon of a home, as far as that goes by its words."""
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "dagster-daemon", "run"]
    env = {**os.environ, "DAGSTER_HOME": str(home)}
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE) as process:
        yield process
        process.stdin.close()


def test_two_daemons_of_one_history_are_found_and_one_elsewhere_is_not(patient, tmp_path):
    with daemon(patient.folder) as one, daemon(tmp_path / "elsewhere"):
        assert patient.names("daemons") == []
        with daemon(patient.folder) as other:
            [(name, came)] = patient.found("daemons")
    assert name == "two-daemons" and f"PID {one.pid}" in came and f"PID {other.pid}" in came


def test_life_signs_of_two_daemons_are_found_wherever_they_run(patient):
    with patient.instance() as instance:
        for kind, number in (("SCHEDULER", "one"), ("SENSOR", "two")):
            instance.add_daemon_heartbeat(DaemonHeartbeat(utc_now().timestamp(), kind, number, []))
    [(name, came)] = patient.found("daemons")
    assert name == "two-daemons" and came.endswith("one, two")


def test_a_daemon_that_has_stopped_looking_or_never_looked_is_found(patient):
    assert patient.names("daemons", later=timedelta(minutes=5)) == ["daemon-silent"]
    status = patient.folder / "data/status.json"
    status.write_text("{")
    assert patient.names("daemons") == ["daemon-silent"]
    status.unlink()
    assert patient.names("daemons") == ["no-daemon"]


def test_schedules_that_are_switched_off_are_found(patient):
    assert patient.names("daemons", REFRESH_SCHEDULES_ENABLED="false") == ["schedules-off"]


def test_a_service_whose_supervisor_is_gone_is_found(patient):
    (patient.folder / "data/run").mkdir()
    (patient.folder / "data/run/started").touch()
    (patient.folder / "data/run/supervisor.lock").touch()
    assert patient.names("service") == ["service-gone"]


def test_a_missing_key_and_a_broken_file_are_found(patient):
    assert patient.found("sources", FRED_API_KEY="") == [
        ("missing-key", "commodities/fred_fx: FRED_API_KEY is not set")
    ]
    patient.home.add({"commodities/half.yaml": "descr: nothing\n"})
    assert patient.found("sources") == [("broken-source", "commodities/half")]


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_program_that_has_the_warehouse_open_is_named(patient, how):
    path = patient.folder / "data/warehouse.duckdb"
    duckdb.connect(str(path)).close()
    assert patient.names("warehouse") == []
    with start("holding_child", how, path) as stranger:
        assert stranger.stdout.readline() == "ready\n"
        [(name, came)] = patient.found("warehouse")
        stranger.stdin.close()
    assert name == "foreign-holder"
    assert came.startswith(f"PID {stranger.pid} (") and "holding_child" in came
    assert patient.names("warehouse") == []


def test_a_notice_that_waits_too_long_and_a_webhook_that_is_not_set_are_found(patient):
    Notices(patient.settings()).report(Failure("fred_fx", "run", (), "transient", "no answer"))
    assert patient.names("notices") == []
    [(name, came)] = patient.found("notices", later=timedelta(minutes=16))
    assert name == "waiting-notices" and came.startswith("fred_fx, written ")
    assert patient.names("notices", REFRESH_WEBHOOK_URL="") == ["nobody-told"]


def test_a_store_that_is_no_database_is_found(patient):
    (patient.folder / "data/ops.sqlite").write_text("no database at all, and long enough to be told as none" * 9)
    assert patient.names("notices") == ["store-unusable"]


def test_a_disk_with_less_room_than_is_wanted_is_found(patient):
    place = patient.place()
    free = shutil.disk_usage(patient.folder).free
    assert list(disk(place, least=free // 2)) == []
    [one] = disk(place, least=free * 2)
    assert one.trap.name == "disk-full" and str(patient.folder) in one.came


def test_what_cannot_be_written_or_belongs_to_somebody_else_is_found(patient):
    path = patient.folder / "data/staging"
    path.mkdir()
    if os.geteuid() == 0:  # who may write everything, whatever its mode
        os.chown(path, 12345, -1)
        expected = "foreign-owner"
    else:
        path.chmod(0o500)
        expected = "not-writable"
    [(name, came)] = patient.found("rights")
    assert name == expected and str(path) in came


def test_keys_that_everybody_can_read_are_found(patient):
    keys = patient.folder / ".env"
    keys.write_text("A=b\n")
    keys.chmod(0o644)
    assert patient.names("rights") == ["readable-secrets"]
    keys.chmod(0o600)
    assert patient.names("rights") == []


def test_a_data_folder_on_a_network_is_found(patient):
    place = patient.place()
    local, share = Mount("/", "ext4"), Mount(str(patient.folder), "nfs4")
    [one] = file_system(place, lambda: [share, local])
    assert one.trap.name == "network-folder" and "nfs4" in one.came
    assert list(file_system(place, lambda: [local, Mount("/elsewhere", "nfs4")])) == []


def test_a_clock_that_was_set_back_is_found(patient):
    [(name, came)] = patient.found("clock", later=-timedelta(hours=1))
    assert name == "clock-set-back" and "life sign" in came


def test_what_killed_processes_have_left_is_found(patient):
    data = patient.folder / "data"
    dead = subprocess.run(
        [sys.executable, "-c", _DIES, str(data)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dead.returncode == -9, dead.stderr
    old = data / "staging/0123abcd"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    (data / "locks/x.lock.owner").write_text(json.dumps({"pid": 2**22 + 1, "since": "then", "program": "a"}))
    with at_work(data, "lives"):
        document = json.loads(patient.home.refresh("doctor", "--json").stdout)
    found = {item["trap"]: item for item in document["items"]}
    assert "run deadbeef" in found["dead-run"]["found"]
    assert str(old) in found["old-staging"]["found"]
    assert "x.lock.owner" in found["stale-owner"]["found"]


_DIES = """
import os, sys
from pathlib import Path
from refresh_pipelines.worker import at_work
with at_work(Path(sys.argv[1]), "deadbeef-0"):
    os.kill(os.getpid(), 9)
"""


def test_an_upstream_that_does_not_answer_is_found_only_when_it_may_be_asked(patient):
    nobody = f"http://127.0.0.1:{free_port()}"
    assert patient.names("upstreams", REFRESH_UPSTREAM=nobody) == []
    found = patient.found("upstreams", online=True, REFRESH_UPSTREAM=nobody)
    assert ("unreachable-upstream", "api.stlouisfed.org: ConnectionError") in found


def test_a_clock_that_the_upstreams_do_not_share_is_found(patient):
    date = format_datetime(utc_now() + timedelta(minutes=7), usegmt=True)
    with Upstream(answer(b"", headers={"Date": date})) as upstream:
        [(name, came)] = patient.found("upstreams", online=True, REFRESH_UPSTREAM=upstream.base)
    assert name == "clock-skew" and re.match(r"4\d\d s behind", came)


def test_the_command_prints_every_check_with_mends_and_ends_with_1_for_what_is_wrong(patient):
    well = patient.home.refresh("doctor")
    assert well.exit_code == 0, well.output
    assert [line.split("  ")[0] for line in well.output.splitlines()[1:]] == list(CHECKS)
    patient.edit("granularity: run", "granularity: op")
    ill = patient.home.refresh("doctor")
    assert ill.exit_code == 1
    assert "wrong: pools-by-op. " in ill.output and f"  mend: {TRAPS['pools-by-op'].mend}" in ill.output
    [item] = patient.home.items("doctor")
    assert item["check"] == "slots" and item["trap"] == "pools-by-op" and item["level"] == "wrong"


def test_advice_alone_is_no_failure(patient):
    del patient.home.environ["REFRESH_WEBHOOK_URL"]
    assert patient.home.refresh("doctor").exit_code == 0
    assert [item["trap"] for item in patient.home.items("doctor")] == ["nobody-told"]


def test_the_page_says_of_every_class_of_errors_what_to_do():
    section = PAGE.partition("## Errors of refreshes")[2]
    assert re.findall(r"^\| `([a-z]+)` \|", section, re.M) == list(get_args(ErrorClass))


def test_the_page_lists_every_trap_and_no_other():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \((?:wrong|advice)\) \| (.*) \|$", PAGE, re.M))
    assert rows == {one.name: f"{one.what} | {one.mend}" for one in TRAPS.values()}
