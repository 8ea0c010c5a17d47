"""The failure sensor: finds runs that died without a word, and delivers notices that wait.

A run that fails tells so itself, last of all. What it cannot tell is its own death (the worker
killed, the launch failed), so this sensor reads failed runs after its cursor and reports those the
outbox does not know. It is an ordinary sensor: its cursor moves only past what is in the outbox.
"""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.clock import utc_now
from refresh_pipelines.notices import Failure, Notices
from refresh_pipelines.orchestration.events import outcomes_of_run
from refresh_pipelines.orchestration.pause import watch_pauses
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.tags import RANGE_END, RANGE_START, SOURCE
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.spec import SourceSpec

BATCH = 50
_WILL_RETRY = "dagster/will_retry"


def failure_sensor(specs: list[SourceSpec], workshop: Workshop) -> dg.SensorDefinition:
    """Return the sensor `failures` over the given sources."""

    @dg.sensor(
        name="failures",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the webhook about failed runs that could not do so themselves, and rewrites status.json.",
    )
    def failures(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        instance, notices = context.instance, workshop.notices()
        found = 0
        cursor = int(context.cursor) if context.cursor else _newest(instance)
        wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_FAILURE, after_storage_id=cursor)
        for record in instance.fetch_run_status_changes(wanted, limit=BATCH, ascending=True).records:
            run = instance.get_run_by_id(record.run_id)
            for failure in _failures(instance, run, specs) if run else []:
                found += 1
                notices.report(failure)
            cursor = record.storage_id
        context.update_cursor(str(cursor))
        problems = notices.deliver()
        write_status_file(instance, workshop.settings)
        watch_pauses(instance, workshop.settings, specs, utc_now())
        return dg.SkipReason(_sentence(found, notices, problems, told=bool(workshop.settings.webhook_url)))

    return failures


def _sentence(found: int, notices: Notices, problems: list[str], *, told: bool) -> str:
    waiting = f"; {notices.waiting()} waiting: {problems[0]}" if problems else ""
    nobody = "" if told or not found else "; nobody was told: REFRESH_WEBHOOK_URL is not set"
    return f"{found} new failures{nobody}{waiting}; status.json is current"


def _newest(instance: dg.DagsterInstance) -> int:
    """Start after what is already in the log: the first start raises no flood."""
    records = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return records[0].storage_id if records else 0


def _failures(instance: dg.DagsterInstance, run: dg.DagsterRun, specs: list[SourceSpec]) -> list[Failure]:
    """Return what a failed run did to each of its sources, by their own events and not by the run's status."""
    if run.tags.get(_WILL_RETRY) == "true":
        return []  # Dagster launches a crashed run once more; that one tells.
    finished = {entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)}
    out = []
    for spec in specs:
        chosen = key_of(spec) in (run.asset_selection or ()) or run.tags.get(SOURCE) == spec.source
        if not chosen or key_of(spec).to_python_identifier() in finished:
            continue
        outcomes = outcomes_of_run(instance, spec, run.run_id)
        bad = [outcome for outcome in outcomes if outcome.outcome == "failed"]
        if bad:
            out.append(Failure.of(spec.source, run.run_id, bad))
        elif not any(outcome.outcome == "blocked" for outcome in outcomes):
            text = f"{spec.name}: the run broke off; its process was killed or could not start."
            out.append(Failure(spec.source, run.run_id, _partitions(run), "interrupted", text))
    return out


def _partitions(run: dg.DagsterRun) -> tuple[str, ...]:
    single = run.tags.get("dagster/partition")
    ends = [run.tags[name] for name in (RANGE_START, RANGE_END) if name in run.tags]
    return (single,) if single else ("…".join(ends),) if ends else ()
