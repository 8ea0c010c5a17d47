"""The place that reaches into Dagster behind its public API, with `inside`. Pinned by pyproject, watched by a test.

The public `dg.execute_job` over `dg.build_reconstructable_job` refuses a job called `__ASSET_JOB`,
which is the job of every run from the UI or a schedule, and leaves a run without its remote origin,
which the UI needs to re-execute it. A run made here has both.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.code_pointer import CustomPointer, ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import AssetObservationData, DagsterEvent
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from refresh_pipelines.kept import status_store
from refresh_pipelines.ops import ops_file
from refresh_pipelines.settings import Settings

IMPLICIT_ASSET_JOB = "__ASSET_JOB"
# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
# SQLite takes a limited number of values in one statement.
_ASSETS_AT_ONCE = _EVENTS_AT_ONCE = 500
# Seconds within which an event that has its number is written, and by which clocks of machines may differ.
_SETTLING, _SKEW = 2.0, 60.0
DEFINITIONS_MODULE = "refresh_pipelines.definitions"


def execute_asset_run(
    instance: dg.DagsterInstance,
    pointer: tuple[str, str, tuple[object, ...]],
    *,
    assets: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None,
    run_id: str,
    settings: Settings,
) -> None:
    """Execute the implicit asset job in this process. A failed run raises nothing.

    Args:
        instance: where the run is recorded.
        pointer: module, function and arguments that return a repository with the assets.
        assets: the assets to materialize.
        tags: of the run; partitions are tags too.
        run_config: of the run, None for none.
        run_id: a new one.
        settings: for how long a server of Dagster's history that is away is waited for.
    """
    job = implicit_asset_job(*pointer)
    with many_events(instance, run_id, settings):
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


def is_postgres(instance: dg.DagsterInstance) -> bool:
    """Whether the event log is in PostgreSQL."""
    return type(instance.event_log_storage).__module__.startswith("dagster_postgres.")


@contextmanager
def many_events(instance: dg.DagsterInstance, run_id: str, settings: Settings) -> Iterator[None]:
    """Make it cheaper for a run to say things, to Dagster and to our own stores.

    A server of PostgreSQL that is away is waited for, also after this. Files of SQLite are opened and closed for every
    event; whoever closes one last writes SQLite's own log back into it, deletes that log and waits for the disk, so a
    connection that stays open spares each event two of these.
    """
    with ExitStack() as stack:
        for path in (ops_file(settings.data_dir), status_store(settings.data_dir)):
            _hold(stack, path)
        if is_postgres(instance):
            from refresh_pipelines.orchestration.internals_postgres import hold_open  # noqa: PLC0415

            hold_open(instance, settings)
        else:
            _hold_history(stack, instance, run_id)
        yield


def _hold_history(stack: ExitStack, instance: dg.DagsterInstance, run_id: str) -> None:
    # With SQLAlchemy and Alembic half a second, which a process that only shows definitions need not spend.
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import (  # noqa: PLC0415
        INDEX_SHARD_NAME,
        SqliteEventLogStorage,
    )

    from refresh_pipelines.orchestration.internals_sqlite import is_ours, kept_open  # noqa: PLC0415

    storage = instance.event_log_storage
    if is_ours(storage):
        stack.enter_context(kept_open())
    elif isinstance(storage, SqliteEventLogStorage):
        for shard in (INDEX_SHARD_NAME, run_id):
            with storage.run_connection(shard):
                pass  # which creates the file
            _hold(stack, Path(storage.path_for_shard(shard)))


def _hold(stack: ExitStack, path: Path) -> None:
    """Have a file of SQLite open until the stack is left, where there is one that can be read."""
    if path.exists():
        connection = stack.enter_context(closing(sqlite3.connect(path)))
        with suppress(sqlite3.Error):  # whoever needs it says what is wrong with it
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


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
    return RemoteJobOrigin(repository_origin(), IMPLICIT_ASSET_JOB)


def repository_origin() -> RemoteRepositoryOrigin:
    """Return the origin of our code location, by which Dagster keeps what belongs to it."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(module_name=DEFINITIONS_MODULE), location_name=LOCATION_NAME
    )
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)


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


def settled(instance: dg.DagsterInstance, records: Sequence[dg.EventLogRecord]) -> Sequence[dg.EventLogRecord]:
    """Return the records, which are in the order of their numbers, up to where one may still be missing.

    SQLite numbers an event when it is there. PostgreSQL numbers first and shows it when it is written: of two processes
    that write at once the later number may be seen before the earlier one, and whoever goes on from there never
    sees that. So what is some moments old only is left for the next look.
    """
    if not is_postgres(instance):
        return records
    now = time.time()
    # What is of a time to come is another machine's clock, and is not waited for.
    young = (n for n, record in enumerate(records) if now - _SETTLING < record.timestamp < now + _SKEW)
    return records[: next(young, len(records))]


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
        page = settled(instance, storage.get_event_records(wanted, limit=_EVENTS_AT_ONCE, ascending=True))
        found |= {record.asset_key for record in page if record.asset_key}
        cursor = page[-1].storage_id if page else cursor
        if len(page) < _EVENTS_AT_ONCE:
            return found, cursor


def ever_observed(instance: dg.DagsterInstance, most: int) -> set[dg.AssetKey] | None:
    """Return the assets that have observations; None where there are more of those than `most`."""
    wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_OBSERVATION)
    records = instance.event_log_storage.get_event_records(wanted, limit=most)
    return {record.asset_key for record in records if record.asset_key} if len(records) < most else None
