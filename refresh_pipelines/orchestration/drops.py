"""One sensor for each source of dropped files: looks into the folder, and requests a run for each day with new ones.

It lists and remembers, and opens no warehouse; which files a run loads is the run's own decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.breaker import sentence
from refresh_pipelines.drop.decide import DayRun, days_due
from refresh_pipelines.drop.listing import MissingCredential, drop_of
from refresh_pipelines.drop.look import Look, by_day, look_at
from refresh_pipelines.drop.sightings import Sightings
from refresh_pipelines.drop.stability import Sighting
from refresh_pipelines.errors import InternalError, Interrupted, RefreshError
from refresh_pipelines.orchestration.checks import own_checks, own_target
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, shared_instance
from refresh_pipelines.orchestration.logged import log_requested, log_skipped
from refresh_pipelines.orchestration.partitions import dynamic_name
from refresh_pipelines.orchestration.probing import may_probe, next_number, probe_tags
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.schedules import SWITCHED_OFF
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.spec import SourceSpec

INTERVAL = 30


def files_sensor_name(spec: SourceSpec) -> str:
    """Return the name of a source's file sensor."""
    return f"{spec.source}_files"


def files_sensor(spec: SourceSpec, workshop: Workshop, reads: Reads, *, shared: bool = False) -> dg.SensorDefinition:
    """Return the sensor of a source with a drop; it runs unless somebody stops it.

    A folder that cannot be listed skips the tick and is its reason.

    Args:
        reads: what the ticks of this process ask of the instance.
        shared: target the job that Dagster has for all assets, as `source_schedule`.
    """
    return dg.SensorDefinition(
        name=files_sensor_name(spec),
        evaluation_fn=_tick(spec, workshop, reads, shared=shared),
        job_name=IMPLICIT_ASSET_JOB if shared else None,
        target=None if shared else own_target(spec),
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for new files of {spec.name} in {drop_of(spec).url}.",
    )


def _tick(
    spec: SourceSpec, workshop: Workshop, reads: Reads, *, shared: bool
) -> Callable[[dg.SensorEvaluationContext], dg.SensorResult]:
    selection = [key_of(spec)] if shared else None

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not workshop.settings.schedules_enabled:
            return dg.SensorResult(skip_reason=SWITCHED_OFF)
        now = workshop.clock()
        try:
            look = look_at(spec, workshop.settings, now)
        except MissingCredential as missing:
            return dg.SensorResult(skip_reason=f"blocked: {missing}")
        except (Interrupted, InternalError):
            raise
        except RefreshError as error:
            # A tick that fails writes its traceback into the log every 30 seconds, and says no more than this.
            return dg.SensorResult(skip_reason=f"failed: {error.at(spec.name, None)}")
        pending = look.pending(spec.spec_hash)
        busy = _busy(shared_instance(context), spec, reads, now) if pending else set()
        runs = days_due(pending, drop_of(spec), busy, now)
        if not runs:
            return dg.SensorResult(skip_reason=_why_not(look, pending, busy))
        instance, tags = shared_instance(context), run_tags(spec, "sensor")
        state = reads.breaker(instance, spec, now)
        if state.holds:
            if busy or not may_probe(state):
                return dg.SensorResult(skip_reason=sentence(spec.source, state))
            # The next files are the probe.
            runs, tags = runs[:1], probe_tags(spec, next_number(instance, spec))
        files = [file for run in runs for file in run.files]
        Sightings(workshop.settings.data_dir, spec.source).requested(files, now)
        days = [run.day for run in runs]
        log.event("drop.found", source=spec.source, group=spec.group, files=len(files), days=days)
        return dg.SensorResult(
            run_requests=[_request(spec, run, tags, selection) for run in runs],
            dynamic_partitions_requests=[dg.AddDynamicPartitionsRequest(dynamic_name(spec), days)],
        )

    return _logged(spec, tick)


def _logged(
    spec: SourceSpec, asked: Callable[[dg.SensorEvaluationContext], dg.SensorResult]
) -> Callable[[dg.SensorEvaluationContext], dg.SensorResult]:
    name = files_sensor_name(spec)

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        result = asked(context)
        log_requested(name, result.run_requests or ())
        if result.skip_reason:
            # Every half minute, and nearly always that nothing new has come.
            log_skipped(name, spec, result.skip_reason.skip_message or "", level="debug")
        return result

    return tick


def _busy(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, now: datetime) -> set[str]:
    """Return the days of which a run is queued or in progress, whoever launched it."""
    return {key for flight in reads.flights(instance, spec, now) for key in flight.keys}


def _request(
    spec: SourceSpec, run: DayRun, tags: Mapping[str, str], selection: list[dg.AssetKey] | None
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run.run_key,
        tags=tags,
        partition_key=run.day,
        asset_selection=selection,
        asset_check_keys=own_checks(spec) if selection else None,
    )


def _why_not(look: Look, pending: list[Sighting], busy: set[str]) -> str:
    if not pending:
        return look.sentence()
    days = by_day(pending)
    waiting = [f"{len(files)} files of {day}" for day, files in days.items()]
    if busy & days.keys():
        return f"{', '.join(waiting)} wait: a run of {', '.join(sorted(busy & days.keys()))} is under way"
    return f"{', '.join(waiting)} were asked for and are not settled; they are asked for again later"
