"""The launcher that dagster.yaml names: runs begin as forks of a process that has loaded everything already.

Webserver, daemon, code server and every command import this module, so it imports nothing of ours before it is needed:
a package that is broken must not keep Dagster from showing that. Where runs cannot be forked, Dagster's default
launcher starts them, and the run says why.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus

if TYPE_CHECKING:
    from refresh_pipelines.orchestration.prefork import Templates
    from refresh_pipelines.settings import Settings

_LOG = logging.getLogger(__name__)
# What a code server answers that has been told to end, for instance because its daemon was suspended for long.
CLOSING = "Tried to start a run on a server after telling it to shut down"
_OURS = "refresh_pipelines.definitions"
_HERE = ("localhost", "127.0.0.1", "::1")
# A process that was forked says which it is within a moment, on a crowded machine within seconds.
_SAYING, _LOOK = 15.0, 0.1
_templates: Templates | None = None


class PreforkRunLauncher(dg.DefaultRunLauncher):
    """Forks a process for each run with REFRESH_LAUNCHER=prefork, on Linux; otherwise Dagster's default launcher.

    A run bears the mark of its process (`run_process`), so that any process of the machine can end it and see whether
    it lives. Of runs that somebody else has started it knows nothing, and takes them for running.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run that Dagster has marked as starting."""
        run = context.dagster_run
        why = self._fork(context, run)
        if why is None:
            return
        if why:
            _LOG.warning("Run %s is started by Dagster's default launcher: %s", run.run_id, why)
            last = why.strip().splitlines()[-1]
            self._instance.report_engine_event(f"Started without a template, by the default launcher: {last}", run)
        try:
            super().launch_run(context)
        except DagsterLaunchFailedError as error:
            if CLOSING not in str(error):
                raise
            # Nothing was started. The queue takes the run back and tries again, as for a server that is gone already;
            # of a failure Dagster's second try is asked of the same server, and never comes.
            raise DagsterUserCodeUnreachableError(f"The code server is ending: {error}") from error

    def terminate(self, run_id: str) -> bool:
        """Ask a run's process to stop; return whether it was asked, or the run could be ended without."""
        from refresh_pipelines.orchestration import run_process  # noqa: PLC0415 - see above

        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        mark = run.tags.get(run_process.TAG)
        if not run_process.is_forking(run_id, mark) and run_process.read(run_id, mark) is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        process = run_process.read(run_id, self._said(run_id))
        if process is None:
            self._instance.report_run_canceled(run, "No process of the run has ever said that it is at work.")
            return True
        sight = process.look()
        if sight == "unseen":
            self._instance.report_engine_event(
                f"Process {process.pid} belongs to another machine or container: only there it can be stopped.", run
            )
            return False
        if process.interrupt():
            return True
        again = self._instance.get_run_by_id(run_id)
        if again is not None and not again.is_finished:
            self._instance.report_run_canceled(again, f"Process {process.pid} was gone already.")
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether Dagster's monitoring may ask for the health of a run's process."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run lives. What cannot be known from here counts as running."""
        from refresh_pipelines.orchestration import run_process  # noqa: PLC0415

        process = run_process.read(run.run_id, run.tags.get(run_process.TAG)) if sys.platform == "linux" else None
        if process is None or process.look() != "gone":
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"process {process.pid} is gone")

    def _said(self, run_id: str) -> str | None:
        """Return the mark of a run's process; one that is being forked is waited for."""
        from refresh_pipelines.orchestration import run_process  # noqa: PLC0415

        deadline = time.monotonic() + _SAYING
        while True:
            run = self._instance.get_run_by_id(run_id)
            mark = run.tags.get(run_process.TAG) if run else None
            if not run_process.is_forking(run_id, mark) or time.monotonic() > deadline:
                return mark
            time.sleep(_LOOK)

    def _fork(self, context: LaunchRunContext, run: dg.DagsterRun) -> str | None:
        """Start a run in a fork. Return None if that was done, otherwise why not; empty where it is not wanted."""
        if sys.platform != "linux":
            return ""
        try:
            from refresh_pipelines.orchestration import internals_forked, prefork, run_process  # noqa: PLC0415
            from refresh_pipelines.settings import Settings, SettingsError  # noqa: PLC0415
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, Dagster must go on without it
            _LOG.exception("The package cannot be imported")
            return f"the package cannot be imported: {error}"
        try:
            settings = Settings.load()
        except SettingsError as error:
            return str(error)
        code, where = internals_forked.module_of(run), self._server(context, run)
        if not self._wanted(settings) or code is None or code[0] != _OURS or where is None:
            if run_process.TAG in run.tags:  # of the run that this one is made after
                self._instance.add_run_tags(run.run_id, {run_process.TAG: _elsewhere(run.run_id)})
            return ""
        tags = {internals_forked.GRPC_INFO_TAG: json.dumps(where)}
        tags[run_process.TAG] = run_process.word(run.run_id, run_process.FORKING)
        self._instance.add_run_tags(run.run_id, tags)
        origin, instance = internals_forked.origin_text(run), internals_forked.instance_text(self._instance)
        try:
            _of_this_process().fork(settings, origin or "", instance, code[1], run.run_id)
        except prefork.NoTemplate as reason:
            self._instance.add_run_tags(run.run_id, {run_process.TAG: _elsewhere(run.run_id)})
            return str(reason) or "no template"
        return None

    @staticmethod
    def _wanted(settings: Settings) -> bool:
        from refresh_pipelines.orchestration import prefork  # noqa: PLC0415

        return settings.launcher == prefork.PREFORK

    def _server(self, context: LaunchRunContext, run: dg.DagsterRun) -> dict[str, object] | None:
        """Return where the code server of a run listens, as the default launcher remembers it; None if not here.

        Runs of a code server elsewhere belong there: it has its own files, and its own processes.
        """
        from refresh_pipelines.orchestration import run_process  # noqa: PLC0415

        origin = run.remote_job_origin
        if context.workspace is None or origin is None:
            return None
        name = origin.repository_origin.code_location_origin.location_name
        client = getattr(context.workspace.get_code_location(name), "client", None)
        if client is None or not (run_process.serves_here(client.socket) if client.socket else client.host in _HERE):
            return None
        place = {"socket": client.socket} if client.socket else {"port": client.port}
        return {"host": client.host, **place}


def _elsewhere(run_id: str) -> str:
    from refresh_pipelines.orchestration import run_process  # noqa: PLC0415

    return run_process.word(run_id, run_process.ELSEWHERE)


def _of_this_process() -> Templates:
    global _templates  # noqa: PLW0603 - an instance is opened anew now and then, and its launcher with it
    from refresh_pipelines.orchestration.prefork import Templates  # noqa: PLC0415

    if _templates is None:
        _templates = Templates()
    return _templates
