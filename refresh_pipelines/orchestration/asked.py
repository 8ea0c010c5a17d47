"""Runs that somebody asks the daemon for: put into Dagster's queue, with the tags and pools of any other run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import dagster as dg

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.errors import InternalError
from refresh_pipelines.orchestration.assets import host_of
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.inside import queue_asset_run
from refresh_pipelines.orchestration.internals import know_pools
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.reads import UNDER_WAY, Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import FORCE, range_tags, run_tags
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys, partition_keys

# For the service, which must not import Dagster by name.
Instance: TypeAlias = dg.DagsterInstance


def keys_due(instance: Instance, spec: SourceSpec, now: datetime) -> list[str]:
    """Return the partitions that a run without a named one refreshes, as `refresh run SOURCE` does."""
    return due_keys(spec, now, dynamic_keys(instance, spec))


def keys_known(instance: Instance, spec: SourceSpec, now: datetime) -> list[str]:
    """Return every partition of a source, oldest first."""
    return partition_keys(spec, now, dynamic_keys(instance, spec))


def under_way(
    instance: Instance, settings: Settings, spec: SourceSpec, keys: Sequence[str], now: datetime
) -> str | None:
    """Return a run that is queued or in progress and refreshes any of the partitions, None if there is none."""
    reads = Reads([spec], settings, timedelta(0), noting=False)
    for flight in reads.flights(instance, spec, now):
        if not keys or not flight.keys or flight.keys & set(keys):
            return flight.run_id
    return None


def queue_run(
    instance: Instance,
    settings: Settings,
    catalogue: Catalogue,
    spec: SourceSpec,
    keys: Sequence[str],
    *,
    force: bool = False,
) -> str:
    """Queue a run over a contiguous range of partitions (none: the source has none) and return its id.

    Raises:
        InternalError: this instance has no queue.
    """
    job = build_definitions(settings, catalogue, only=[spec.source]).get_repository_def()
    tags = {**run_tags(spec, "manual"), **({FORCE: "true"} if force else {})}
    if len(keys) > 1:
        tags |= range_tags(keys)
    elif keys:
        tags["dagster/partition"] = keys[0]
    if not spec.derived:
        know_pools(instance, {host_of(spec)})
    try:
        return queue_asset_run(
            instance,
            job.get_implicit_global_asset_job_def(),
            assets=[key_of(spec)],
            checks=own_checks(spec),
            tags=tags,
        )
    except RuntimeError as error:
        raise InternalError(
            "Dagster has no queue here, so no run can be asked for",
            expected="QueuedRunCoordinator, which dagster.yaml of this project has",
            came=str(error),
            todo=f"Run `refresh run {spec.source}`, or mend run_coordinator in dagster.yaml.",
        ) from error


def run_counts(instance: Instance) -> tuple[int, int]:
    """Return how many runs wait in the queue, and how many were launched and have not ended."""
    queued = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    launched = [status for status in UNDER_WAY if status is not dg.DagsterRunStatus.QUEUED]
    return queued, instance.get_runs_count(dg.RunsFilter(statuses=launched))
