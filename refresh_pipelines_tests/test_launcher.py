"""Templates and the launcher: runs begin in forks, once or not at all, and any process finds them again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc import server

from refresh_pipelines.orchestration import internals_forked, prefork, run_process, template
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.launcher import CLOSING, PreforkRunLauncher
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.command_home import ROOT, Home
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.upstream import Upstream, answer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
JOB = "__ASSET_JOB"
SOURCE = """\
description: a test
request: {url: "https://example.org/data.csv"}
format: csv
columns: {day: {type: date}, n: {type: int}}
merge_key: [day]
schedule: {frequency: daily}
"""
SLEEPER = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('up', flush=True); time.sleep(99)"


class Place(Home):
    """A home with one source, its instance, and runs of it that nobody has started yet."""

    def __init__(self, folder, history, upstream):
        super().__init__(folder, history, upstream)
        self.add({"benin/one.yaml": SOURCE})
        self.origin = RepositoryPythonOrigin(
            sys.executable, ModuleCodePointer("refresh_pipelines.definitions", "defs", str(ROOT))
        )
        self.settings = Settings.load(self.environ, root=folder)
        with self.entered():  # dagster.yaml names relative folders
            self.instance = dg.DagsterInstance.from_config(str(folder))

    def run(self):
        job = build_definitions(self.settings).get_repository_def().get_implicit_global_asset_job_def()
        wanted = frozenset({dg.AssetKey(["benin", "one"])})
        return self.instance.create_run_for_job(
            job.get_subset(asset_selection=wanted),
            asset_selection=wanted,
            job_code_origin=JobPythonOrigin(JOB, self.origin),
            status=dg.DagsterRunStatus.STARTING,
        )

    def fork(self, templates, run):
        origin, instance = internals_forked.origin_text(run), internals_forked.instance_text(self.instance)
        return templates.fork(self.settings, origin, instance, sys.executable, run.run_id)

    def ended(self, run):
        found = self.instance.get_run_by_id(run.run_id)
        return found if found.is_finished else None

    def said(self, run):
        """Return what the log of a run says, with errors."""
        entries = [entry.dagster_event for entry in self.instance.all_logs(run.run_id)]
        return [
            f"{entry.message} {getattr(entry.event_specific_data, 'error', '') or ''}" for entry in entries if entry
        ]


@pytest.fixture(scope="module")
def upstream():
    with Upstream(answer(b"day,n\n2026-01-01,1\n")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_history, upstream):
    place = Place(tmp_path_factory.mktemp("home"), empty_history, upstream)
    # The template is a process of its own, and reads them there.
    (place.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in place.environ.items()))
    with place.entered(), place.instance:
        yield place


@pytest.fixture(scope="module")
def templates(place):
    templates = prefork.Templates()
    yield templates
    templates.leave()


def test_a_run_is_executed_in_a_fork_and_says_which_process_it_is(place, templates):
    run = place.run()
    pid = place.fork(templates, run)
    assert wait_until(lambda: place.ended(run), 60, "the run to end").is_success, place.said(run)
    process = run_process.read(run.run_id, place.ended(run).tags[run_process.TAG])
    assert process.pid == pid
    wait_until(lambda: process.look() == "gone", 10, "the fork to be reaped")


def test_a_second_run_is_forked_from_the_same_template_until_a_source_file_changes(place, templates):
    place.fork(templates, first := place.run())
    before = templates.template.process.pid
    place.fork(templates, second := place.run())
    assert templates.template.process.pid == before
    place.add({"benin/one.yaml": SOURCE.replace("a test", "another test")})
    place.fork(templates, third := place.run())
    assert templates.template.process.pid != before
    for run in (first, second, third):
        assert wait_until(lambda run=run: place.ended(run), 60, "a run").status is dg.DagsterRunStatus.SUCCESS
    wait_until(lambda: run_process.began(before) is None, 10, "the old template to end")


def test_a_fork_that_is_killed_is_told_to_the_instance(place, templates, upstream):
    upstream.script.insert(0, lambda handler: upstream.released.wait(60))
    place.fork(templates, run := place.run())
    process = wait_until(lambda: run_process.read(run.run_id, tag(place, run)), 30, "its mark")
    os.kill(process.pid, signal.SIGKILL)
    ended = wait_until(lambda: place.ended(run), 60, "its end")
    upstream.released.set()
    assert ended.status is dg.DagsterRunStatus.FAILURE
    assert any("was killed by SIGKILL" in message for message in place.said(run))


def tag(place, run):
    return place.instance.get_run_by_id(run.run_id).tags.get(run_process.TAG)


def test_a_template_that_was_killed_is_replaced(place, templates):
    place.fork(templates, first := place.run())
    os.kill(templates.template.process.pid, signal.SIGKILL)
    place.fork(templates, second := place.run())
    for run in (first, second):
        assert wait_until(lambda run=run: place.ended(run), 60, "a run").status is dg.DagsterRunStatus.SUCCESS


def test_without_an_answer_the_run_has_not_begun(place, templates):
    place.fork(templates, first := place.run())
    wait_until(lambda: place.ended(first), 60, "a run")
    os.kill(templates.template.process.pid, signal.SIGSTOP)
    run = place.run()
    with pytest.raises(prefork.NoTemplate, match="does not answer"):
        templates.template.fork(run.run_id, internals_forked.instance_text(place.instance), seconds=0.2)
    assert not templates.template.alive
    assert place.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTING
    assert tag(place, run) is None


def test_definitions_that_cannot_be_loaded_are_no_template_and_are_not_tried_at_once_again(place):
    wrong = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("refresh_pipelines.nowhere", "defs", str(ROOT)))
    templates = prefork.Templates()
    instance, words = internals_forked.instance_text(place.instance), dg.serialize_value(wrong)
    with pytest.raises(prefork.NoTemplate, match=r"refresh_pipelines\.nowhere"):
        templates.fork(place.settings, words, instance, sys.executable, "a")
    begun = time.monotonic()
    with pytest.raises(prefork.NoTemplate, match=r"refresh_pipelines\.nowhere"):
        templates.fork(place.settings, words, instance, sys.executable, "b")
    assert time.monotonic() - begun < 1


def test_what_two_processes_must_not_share_keeps_a_process_from_being_forked():
    script = "import socket, sys; from refresh_pipelines.orchestration.template import unfit; {}; print(unfit(()))"
    for opened, said in (
        ("pass", "None"),
        ("file = open('/etc/hostname')", "the file or socket /etc/hostname is open"),
        ("line = socket.socket()", "the file or socket socket:"),
        ("import duckdb; c = duckdb.connect(); c.sql('SELECT 1')", "the threads"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script.format(opened)], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.stdout.startswith(said), (opened, done)


def test_a_mark_is_read_by_its_own_run_alone():
    own = run_process.of_this("12345678-rest")
    assert run_process.read("12345678-rest", own.mark()) == own
    assert run_process.read("87654321-rest", own.mark()) is None
    assert run_process.read("12345678-rest", run_process.word("12345678-rest", run_process.FORKING)) is None
    assert own.look() == "alive"
    assert run_process.RunProcess(own.run, own.boot, own.space, own.pid, own.began + 1).look() == "gone"
    assert run_process.RunProcess(own.run, own.boot, "pid:[1]", own.pid, own.began).look() == "unseen"


def test_a_socket_of_this_place_is_known_by_the_process_that_listens(tmp_path):
    path = str(tmp_path / "s")
    assert not run_process.serves_here(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert run_process.serves_here(path)


class Marked:
    """A run under way whose process is one that sleeps."""

    def __init__(self, place):
        self.run = place.run()
        self.process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n"
        boot, space = run_process.place()
        began = run_process.began(self.process.pid)
        self.mark = run_process.RunProcess(self.run.run_id[:8], boot, space, self.process.pid, began)
        place.instance.add_run_tags(self.run.run_id, {run_process.TAG: self.mark.mark()})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def launcher(place):
    launcher = PreforkRunLauncher()
    launcher.register_instance(place.instance)
    return launcher


def test_any_process_ends_a_run_and_sees_whether_it_lives(place, launcher):
    with Marked(place) as marked:
        run = place.instance.get_run_by_id(marked.run.run_id)
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        assert launcher.terminate(run.run_id)
        assert marked.process.wait(10) == -signal.SIGINT
        assert place.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELING
        assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_whose_process_is_gone_is_cancelled_without_it(place, launcher):
    with Marked(place) as marked:
        pass
    assert launcher.terminate(marked.run.run_id)
    assert place.ended(marked.run).status is dg.DagsterRunStatus.CANCELED


def test_runs_of_others_count_as_running(place, launcher):
    run = place.run()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    place.instance.add_run_tags(run.run_id, {run_process.TAG: run_process.of_this("another").mark()})
    assert launcher.check_run_worker_health(place.instance.get_run_by_id(run.run_id)).status is WorkerStatus.RUNNING


@pytest.mark.parametrize(("said", "raised"), [(CLOSING, True), ("The job is not there", False)])
def test_a_run_that_a_code_server_refuses_because_it_is_ending_goes_back_into_the_queue(
    place, launcher, monkeypatch, said, raised
):
    def refuse(*_):
        raise DagsterLaunchFailedError(said)

    monkeypatch.setattr(dg.DefaultRunLauncher, "launch_run", refuse)
    with pytest.raises(DagsterUserCodeUnreachableError if raised else DagsterLaunchFailedError, match=said):
        launcher.launch_run(LaunchRunContext(place.run(), None))


def test_that_is_what_dagsters_code_server_says():
    assert CLOSING in Path(server.__file__).read_text()


def test_the_launcher_imports_nothing_of_ours_before_it_is_asked_for_a_run():
    script = (
        "import refresh_pipelines.orchestration.launcher, sys; "
        "print([name for name in sys.modules if name.startswith('refresh_pipelines')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    ours = ["refresh_pipelines", "refresh_pipelines.orchestration", "refresh_pipelines.orchestration.launcher"]
    assert done.stdout.strip() == str(ours)


def test_a_template_has_imported_what_a_run_needs(place, templates):
    place.fork(templates, run := place.run())
    script = (
        "import sys; from refresh_pipelines.orchestration import internals_forked as f; "
        "f.preload(sys.argv[1], sys.argv[2], 'duckdb'); before = set(sys.modules); "
        "f.execute(sys.argv[3], sys.argv[2], {}); print('NEW', sorted(set(sys.modules) - before))"
    )
    other = place.run()
    words = [internals_forked.origin_text(run), internals_forked.instance_text(place.instance), other.run_id]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    new = done.stdout.partition("NEW ")[2]
    assert len(new.split(",")) < 12, new
    assert place.ended(other).status is dg.DagsterRunStatus.SUCCESS


def test_runs_end_with_the_process_that_is_to_take_them_along(place, upstream, monkeypatch):
    ending = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    monkeypatch.setenv(template.END_WITH, str(ending.pid))
    templates = prefork.Templates()
    upstream.released.clear()
    upstream.script.insert(0, lambda handler: upstream.released.wait(60))
    asked = len(upstream.seen)
    place.fork(templates, run := place.run())
    wait_until(lambda: len(upstream.seen) > asked, 60, "its request")
    templates.leave()
    ending.kill()
    ending.wait()
    assert not wait_until(lambda: place.ended(run), 60, "the run to end").is_success
    upstream.released.set()
