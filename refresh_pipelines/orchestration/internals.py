"""The one place that reaches into Dagster behind its public API. Pinned by pyproject, watched by a test.

The public `dg.execute_job` over `dg.build_reconstructable_job` refuses a job called `__ASSET_JOB`,
which is the job of every run from the UI or a schedule, and leaves a run without its remote origin,
which the UI needs to re-execute it. A run made here has both.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import dagster as dg
from dagster._core.code_pointer import CustomPointer, ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

IMPLICIT_ASSET_JOB = "__ASSET_JOB"
# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
DEFINITIONS_MODULE = "refresh_pipelines.definitions"


def execute_asset_run(
    instance: dg.DagsterInstance,
    pointer: tuple[str, str, tuple[object, ...]],
    *,
    assets: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None,
) -> str:
    """Execute the implicit asset job in this process and return the run's id. A failed run raises nothing.

    Args:
        instance: where the run is recorded.
        pointer: module, function and arguments that return a repository with the assets.
        assets: the assets to materialize.
        tags: of the run; partitions are tags too.
        run_config: of the run, None for none.
    """
    job = implicit_asset_job(*pointer)
    run_id = str(uuid.uuid4())
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
    return run_id


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
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(module_name=DEFINITIONS_MODULE), location_name=LOCATION_NAME
    )
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), IMPLICIT_ASSET_JOB)
