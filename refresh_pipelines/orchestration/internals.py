"""The one place that reaches into Dagster behind its public API. Pinned by pyproject, watched by a test.

The public `dg.execute_job` over `dg.build_reconstructable_job` refuses a job called `__ASSET_JOB`,
which is the job of every run from the UI or a schedule, and leaves a run without its remote origin,
which the UI needs to re-execute it. A run made here has both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

import dagster as dg
from dagster._core.code_pointer import CustomPointer, ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import AssetObservationData, DagsterEvent
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from refresh_pipelines.gaps import Look

IMPLICIT_ASSET_JOB = "__ASSET_JOB"
# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
# SQLite takes a limited number of values in one statement.
_ASSETS_AT_ONCE = _EVENTS_AT_ONCE = 500
DEFINITIONS_MODULE = "refresh_pipelines.definitions"
_TICK_WORDS: dict[TickStatus, Literal["started", "skipped", "success", "failure"]] = {
    TickStatus.STARTED: "started",
    TickStatus.SKIPPED: "skipped",
    TickStatus.SUCCESS: "success",
    TickStatus.FAILURE: "failure",
}


def execute_asset_run(
    instance: dg.DagsterInstance,
    pointer: tuple[str, str, tuple[object, ...]],
    *,
    assets: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None,
    run_id: str,
) -> None:
    """Execute the implicit asset job in this process. A failed run raises nothing.

    Args:
        instance: where the run is recorded.
        pointer: module, function and arguments that return a repository with the assets.
        assets: the assets to materialize.
        tags: of the run; partitions are tags too.
        run_config: of the run, None for none.
        run_id: a new one.
    """
    job = implicit_asset_job(*pointer)
    with many_events(instance, run_id):
        run = instance.create_run_for_job(
            job_def=job.get_definition(),
            run_id=run_id,
            run_config=run_config,
            tags=tags,
            asset_selection=frozenset(assets),
            job_code_origin=job.get_python_origin(),
            remote_job_origin=remote_origin(),
        )
        execute_run(job, run, instance, raise_on_error=False)


@contextmanager
def many_events(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Make each event of a run cheaper to write, where the event log is SQLite; otherwise do nothing.

    Dagster opens and closes the files for every event. Whoever closes a file last writes SQLite's own
    log back into it and deletes that log, so a connection that stays open spares each event two of these.
    """
    # With SQLAlchemy and Alembic half a second, which a process that only shows definitions need not spend.
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import (  # noqa: PLC0415
        INDEX_SHARD_NAME,
        SqliteEventLogStorage,
    )

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    with ExitStack() as stack:
        for shard in (INDEX_SHARD_NAME, run_id):
            with storage.run_connection(shard):
                pass  # which creates the file
            connection = stack.enter_context(closing(sqlite3.connect(storage.path_for_shard(shard))))
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        yield


def implicit_asset_job(module: str, function: str, arguments: tuple[object, ...]) -> ReconstructableJob:
    """Return the implicit asset job of the repository that `module.function(*arguments)` returns."""
    pointer = CustomPointer(
        reconstructor_pointer=ModuleCodePointer(module, function, working_directory=None),
        reconstructable_args=list(arguments),
        reconstructable_kwargs=[],
    )
    return ReconstructableRepository(pointer).get_reconstructable_job(IMPLICIT_ASSET_JOB)


def remote_origin() -> RemoteJobOrigin:
    """Return the origin by which webserver and daemon find the job in the code location."""
    return RemoteJobOrigin(_repository_origin(), IMPLICIT_ASSET_JOB)


def _repository_origin() -> RemoteRepositoryOrigin:
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(module_name=DEFINITIONS_MODULE), location_name=LOCATION_NAME
    )
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)


@dataclass(frozen=True)
class Switch:
    """The state of a schedule or sensor of our code location as Dagster keeps it.

    Dagster finds it by location, repository and name alone, so it is the same one for `dagster dev`, whose servers
    listen on another socket at each start, and for a command that talks to no server.

    Attributes:
        on: whether it is evaluated.
        declared: nobody has switched it on or off since it was last left to the definitions.
        started_at: from when ticks count: when it was switched on, or first seen by the daemon. None otherwise.
    """

    name: str
    kind: Literal["schedule", "sensor"]
    on: bool
    declared: bool
    started_at: datetime | None


def switches(instance: dg.DagsterInstance) -> dict[str, Switch]:
    """Return the states there are, by name. What has none does as its definition says."""
    return {name: _switch(state) for name, state in _states(instance).items()}


def switch_of(instance: dg.DagsterInstance, schedule: str) -> Switch | None:
    """Return the state of one schedule, if there is one; cheaper than all of them."""
    key = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    state = instance.get_instigator_state(key.instigator_origin_id, key.selector_id)
    return _switch(state) if state else None


def switch_off(instance: dg.DagsterInstance, name: str, kind: Literal["schedule", "sensor"], cron: str = "") -> None:
    """Stop a schedule or sensor as the UI does; a sensor keeps its cursor.

    Args:
        cron: the schedule's, which its state repeats.
    """
    state = _states(instance).get(name)
    data = ScheduleInstigatorData(cron) if kind == "schedule" else _sensor_data(state)
    _put(instance, state, _stated(name, kind, InstigatorStatus.STOPPED, data))


def switch_on(
    instance: dg.DagsterInstance, name: str, kind: Literal["schedule", "sensor"], now: datetime, cron: str = ""
) -> None:
    """Leave a schedule or sensor to its definition again, with no tick before `now` to make up for.

    The UI's switch would leave it on for ever, also where the definition goes away and comes back.
    """
    state = _states(instance).get(name)
    at = now.timestamp()
    data = (
        ScheduleInstigatorData(cron, start_timestamp=at)
        if kind == "schedule"
        else _sensor_data(state).with_sensor_start_timestamp(at)
    )
    _put(instance, state, _stated(name, kind, InstigatorStatus.DECLARED_IN_CODE, data))


def newest_tick(instance: dg.DagsterInstance, schedule: str, before: datetime | None = None) -> datetime | None:
    """Return the due time of the newest tick of a schedule that was looked at, before an instant if one is given.

    One that broke off or failed was not: Dagster comes back to it, or leaves it behind for a newer one.
    """
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    limit = before.timestamp() if before else None
    looked_at = [TickStatus.SUCCESS, TickStatus.SKIPPED]
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, before=limit, limit=1, statuses=looked_at)
    return _utc(found[0].timestamp) if found else None


def first_tick_after(instance: dg.DagsterInstance, schedule: str, after: datetime) -> datetime | None:
    """Return the due time of the first of the last hundred ticks of a schedule after an instant."""
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after.timestamp(), limit=100)
    return _utc(min(tick.timestamp for tick in found)) if found else None


def ticks_of(instance: dg.DagsterInstance, schedule: str, after: datetime) -> list[Look]:
    """Return a schedule's ticks whose due time is later than an instant, oldest first."""
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after.timestamp())
    return sorted((_look(tick) for tick in found), key=lambda look: look.at)


def _look(tick: InstigatorTick) -> Look:
    error = (tick.error.message if tick.error else "").strip().splitlines()
    reason = tick.skip_reason or (error[-1] if error else "")
    return Look(_utc(tick.timestamp), _TICK_WORDS[tick.status], reason, tuple(tick.run_ids))


def ticks_kept_days(instance: dg.DagsterInstance) -> int | None:
    """Return for how many days Dagster keeps the ticks of schedules, None for ever."""
    kept = instance.get_tick_retention_settings(InstigatorType.SCHEDULE).values()
    return min((days for days in kept if days >= 0), default=None)


def _states(instance: dg.DagsterInstance) -> dict[str, InstigatorState]:
    ours = _repository_origin().get_selector()
    return {s.instigator_name: s for s in instance.all_instigator_state() if s.repository_selector == ours}


def _stated(
    name: str,
    kind: Literal["schedule", "sensor"],
    status: InstigatorStatus,
    data: ScheduleInstigatorData | SensorInstigatorData,
) -> InstigatorState:
    type_ = InstigatorType.SCHEDULE if kind == "schedule" else InstigatorType.SENSOR
    return InstigatorState(RemoteInstigatorOrigin(_repository_origin(), name), type_, status, data)


def _put(instance: dg.DagsterInstance, old: InstigatorState | None, new: InstigatorState) -> None:
    """Write a state over the old one, whose origin is the key of one of Dagster's two tables."""
    if old is None:
        instance.add_instigator_state(new)
    else:
        instance.update_instigator_state(new._replace(origin=old.origin))


def _sensor_data(state: InstigatorState | None) -> SensorInstigatorData:
    data = state.instigator_data if state else None
    return data if isinstance(data, SensorInstigatorData) else SensorInstigatorData()


def _switch(state: InstigatorState) -> Switch:
    data = state.instigator_data
    started = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    started = data.last_sensor_start_timestamp if isinstance(data, SensorInstigatorData) else started
    return Switch(
        state.instigator_name,
        "schedule" if state.instigator_type == InstigatorType.SCHEDULE else "sensor",
        on=state.status != InstigatorStatus.STOPPED,
        declared=state.status == InstigatorStatus.DECLARED_IN_CODE,
        started_at=_utc(started) if started else None,
    )


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)


def shared_instance(context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext) -> dg.DagsterInstance:
    """Return the instance of a tick, opened once in this process and not for each tick, which takes fifty milliseconds.

    The context would open its own at the end of every tick, also where nobody has asked for it.
    """
    ref = context.instance_ref
    if ref is None or context._instance is not None:
        return context.instance
    key = repr(ref)
    if key not in _shared:
        _shared.clear()  # a process serves one instance
        _shared[key] = dg.DagsterInstance.from_ref(ref)
    context._instance = _shared[key]
    return context.instance


_shared: dict[str, dg.DagsterInstance] = {}


def know_pools(instance: dg.DagsterInstance, pools: Collection[str]) -> None:
    """Give pools that are new the default limit of dagster.yaml, unless there is none.

    The run queue does so by itself, but holds nothing to it in that first look: as many runs as there are slots would
    start at once, all of one host.
    """
    store = instance.event_log_storage
    known = {limit.name for limit in store.get_pool_limits()}
    for pool in sorted({*pools} - known):
        store.initialize_concurrency_limit_to_default(pool)


def cancel_run(instance: dg.DagsterInstance, run_id: str, why: str) -> bool:
    """Cancel a run that is queued or in progress; return whether it could be.

    One that is in progress is asked to stop and ends by itself; `why` is in the log of the run.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    if run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED):
        instance.report_run_canceled(run, message=why)
        return True
    instance.report_engine_event(why, run)
    return instance.run_launcher.terminate(run_id)


def report_observation(instance: dg.DagsterInstance, run: dg.DagsterRun, event: dg.AssetObservation) -> None:
    """Write an observation into the log of a run whose process cannot do so any more."""
    data = AssetObservationData(event)
    kind = dg.DagsterEventType.ASSET_OBSERVATION.value
    entry = DagsterEvent(kind, run.job_name, message=event.description, event_specific_data=data)
    instance.report_dagster_event(entry, run.run_id)


def newest_checks(
    instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey], name: str, metadata: str
) -> dict[dg.AssetKey, str | None]:
    """Return one metadata value of the newest evaluation of a check, for each of the assets that has any.

    None stands for an evaluation that never came: its run ended before, or goes on. The public API asks
    for one asset at a time.
    """
    out: dict[dg.AssetKey, str | None] = {}
    for first in range(0, len(assets), _ASSETS_AT_ONCE):
        keys = [dg.AssetCheckKey(asset, name) for asset in assets[first : first + _ASSETS_AT_ONCE]]
        for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
            event = record.event.dagster_event if record.event else None
            said = event.asset_check_evaluation_data.metadata.get(metadata) if event and _is_evaluated(record) else None
            out[key.asset_key] = str(said.value) if said else None
    return out


def failed_checks(instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey], name: str) -> dict[dg.AssetKey, str]:
    """Return the assets whose newest evaluation of a check has failed, and the run that evaluated it."""
    out: dict[dg.AssetKey, str] = {}
    for first in range(0, len(assets), _ASSETS_AT_ONCE):
        keys = [dg.AssetCheckKey(asset, name) for asset in assets[first : first + _ASSETS_AT_ONCE]]
        for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
            if record.status is AssetCheckExecutionRecordStatus.FAILED:
                out[key.asset_key] = record.run_id
    return out


def _is_evaluated(record: AssetCheckExecutionRecord) -> bool:
    done = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)
    return record.status in done


def observed_since(instance: dg.DagsterInstance, cursor: int | None) -> tuple[set[dg.AssetKey], int]:
    """Return the assets with observations after a storage id, and the newest such id; None asks for that alone.

    The public API asks for one asset at a time, and an asset's record does not know its observations.
    """
    storage, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_OBSERVATION
    if cursor is None:
        newest = storage.get_event_records(dg.EventRecordsFilter(kind), limit=1)
        return set(), newest[0].storage_id if newest else 0
    found: set[dg.AssetKey] = set()
    while True:
        wanted = dg.EventRecordsFilter(kind, after_cursor=cursor)
        page = storage.get_event_records(wanted, limit=_EVENTS_AT_ONCE, ascending=True)
        found |= {record.asset_key for record in page if record.asset_key}
        cursor = page[-1].storage_id if page else cursor
        if len(page) < _EVENTS_AT_ONCE:
            return found, cursor


def ever_observed(instance: dg.DagsterInstance, most: int) -> set[dg.AssetKey] | None:
    """Return the assets that have observations; None where there are more of those than `most`."""
    wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_OBSERVATION)
    records = instance.event_log_storage.get_event_records(wanted, limit=most)
    return {record.asset_key for record in records if record.asset_key} if len(records) < most else None
