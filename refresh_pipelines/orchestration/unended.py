"""Runs that have begun, have not ended, and have nobody at work on them.

A refresh holds a lock while it works (`worker`), and `stuck` ends the run of a process that dies meanwhile. Before and
after that a run is in the hands of Dagster alone, for seconds. Where its history goes away just then, the process dies
of an error that it can write nowhere, and with it the thread of the code server that would have told; the run would be
"started" for a day, and hold up its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import dagster as dg

from refresh_pipelines.errors import Interrupted
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.stuck import Ended, bury
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.worker import Found, has_worker

# Between a run's start and its first refresh, and from the last one to its end, a crowded machine needs half a minute;
# a step that waits for a slot of a pool inside its run says so every five.
SILENCE = timedelta(minutes=7)


def end_unended(
    instance: dg.DagsterInstance, settings: Settings, specs: Sequence[SourceSpec], now: datetime
) -> list[Ended]:
    """End the runs of these sources that say nothing for `SILENCE` and have no process; return what was done.

    Runs of which nothing can be said from here are left alone: those of other assets, and of a launcher that starts
    them on other machines.
    """
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return []
    ours, out = {key_of(spec) for spec in specs}, []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if not run.asset_selection or not run.asset_selection <= ours or has_worker(settings.data_dir, run.run_id):
            continue
        if now - _spoke(instance, run.run_id) > SILENCE:
            out.append(bury(instance, settings, Found(run.run_id, False, True, 0, ()), _unended()))
    return out


def _spoke(instance: dg.DagsterInstance, run_id: str) -> datetime:
    """Return when a run said something last, or was to go on after a wait that it had announced."""
    newest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    waits = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    seconds = [one.event_log_entry.timestamp for one in newest]
    for entry in waits:
        event = entry.get_dagster_event()
        seconds.append(entry.timestamp + (event.step_retry_data.seconds_to_wait or 0))
    return datetime.fromtimestamp(max(seconds, default=0), timezone.utc)


def _unended() -> Interrupted:
    return Interrupted(
        "this run could not record how it ended",
        came=f"no word of it for {SILENCE.total_seconds() / 60:.0f} minutes, and no process at work on it",
        todo="What it loaded stays loaded; the next refresh makes up for what was not recorded.",
    )
