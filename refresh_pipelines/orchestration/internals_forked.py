"""What a template does with Dagster's internals: load a location once, and execute a run of it in a fork.

`dagster api execute_run` does the same in a process that begins with nothing. Pinned with Dagster itself;
test_launcher.py fails where one of these names or its ways has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import dagster as dg
from dagster._cli.api import _execute_run_command_body
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import deserialize_value, serialize_value
from dagster._serdes.config_class import ConfigurableClassData
from dagster._utils.hosted_user_process import recon_repository_from_origin
from dagster._utils.interrupts import capture_interrupts

from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB
from refresh_pipelines.orchestration.internals_sqlite import kept_open

__all__ = ["GRPC_INFO_TAG", "execute", "instance_text", "interruptible", "module_of", "origin_text", "preload"]
# What a run imports on its way that loading the definitions does not: test_launcher.py compares sys.modules.
_LATER = (
    "dagster._core.execution.plan.active",
    "dagster._core.instance.factory",
    "dagster._core.storage.migration.utils",
    "dagster._core.system_config.composite_descent",
    "fsspec.implementations.local",
    "pyarrow.compute",
    "pyarrow.csv",
    "pyarrow.ipc",
    "refresh_pipelines.orchestration.execute",
    "refresh_pipelines.orchestration.limited",
    "refresh_pipelines.orchestration.recovering",
    "refresh_pipelines.orchestration.replaying",
    "refresh_pipelines.orchestration.telling",
    "refresh_pipelines.orchestration.verdicts",
    "refresh_pipelines.refresh_range",
    "refresh_pipelines.warehouse.carry",
    "refresh_pipelines.warehouse.leftovers",
    "refresh_pipelines.warehouse.rebuild",
    "sqlalchemy.dialects.sqlite",
    "upath.implementations.local",
)
_STORES = {"duckdb": "refresh_pipelines.warehouse.duckdb", "postgresql": "refresh_pipelines.warehouse.postgres"}


def origin_text(run: dg.DagsterRun) -> str | None:
    """Return where the code of a run is, as text; None where its run does not say."""
    origin = run.job_code_origin
    return serialize_value(origin.repository_origin) if origin else None


def module_of(run: dg.DagsterRun) -> tuple[str, str] | None:
    """Return the module that the code of a run is in, and the interpreter for it; None for other kinds of code."""
    origin = run.job_code_origin
    if origin is None or not isinstance(origin.repository_origin.code_pointer, ModuleCodePointer):
        return None
    return origin.repository_origin.code_pointer.module, origin.repository_origin.executable_path


def instance_text(instance: dg.DagsterInstance) -> str:
    """Return what another process opens the same instance with."""
    return serialize_value(instance.get_ref())


def preload(origin: str, instance: str, warehouse: str) -> None:
    """Load the definitions of an origin, and the modules of an instance's storages and of a warehouse; open nothing.

    Args:
        warehouse: what stands before `://` in its address.
    """
    repository = recon_repository_from_origin(deserialize_value(origin, RepositoryPythonOrigin)).get_definition()
    if repository.has_job(IMPLICIT_ASSET_JOB):
        repository.get_job(IMPLICIT_ASSET_JOB)
    storages = _storages(deserialize_value(instance, InstanceRef))
    for name in (*storages, *_LATER, _STORES.get(warehouse, _STORES["postgresql"])):
        import_module(name)


def _storages(ref: Any) -> Iterator[str]:
    """Yield the modules of the parts of an instance, those that are made of parts included."""
    for part in ref:
        if isinstance(part, ConfigurableClassData):
            yield part.module_name
            if part.module_name == "dagster._core.storage.sqlite_storage":
                yield "dagster._core.storage.event_log.sqlite.sqlite_event_log"
                yield "dagster._core.storage.runs.sqlite.sqlite_run_storage"
                yield "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage"


@contextmanager
def interruptible() -> Iterator[None]:
    """Keep what asks this process to stop until its run can be told."""
    with capture_interrupts():
        yield


def execute(run_id: str, instance_ref: str, tags: dict[str, str]) -> None:
    """Execute a run in this process, which is a fork made for it. What comes of it is in the instance alone.

    Args:
        tags: what the run is tagged with before it begins.
    """
    with kept_open(), dg.DagsterInstance.from_ref(deserialize_value(instance_ref, InstanceRef)) as instance:
        instance.add_run_tags(run_id, tags)
        try:
            _execute_run_command_body(run_id, instance, _nobody, set_exit_code_on_failure=False)
        finally:
            _end_cancelled(instance, run_id)


def _nobody(_event: object) -> None:
    """Who executes a run is sent its events; here nobody listens, and they are in the event log."""


def _end_cancelled(instance: dg.DagsterInstance, run_id: str) -> None:
    """End a run that was cancelled before it began: Dagster takes its process for one too many, and leaves it so."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run)


def report_death(run_id: str, instance_ref: str, how: str) -> None:
    """Say in the instance that the process of a run has died, unless the run has ended."""
    with dg.DagsterInstance.from_ref(deserialize_value(instance_ref, InstanceRef)) as instance:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        if run.status is DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, f"The process of the run {how} while it was being cancelled.")
        else:
            instance.report_engine_event(f"The process of the run {how}.", run)
            instance.report_run_failed(run)
    sys.stderr.flush()
