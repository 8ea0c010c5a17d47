"""What backup and restore ask of Dagster's history beside its files."""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.errors import InternalError
from refresh_pipelines.orchestration.reads import UNDER_WAY
from refresh_pipelines.settings import INSTANCE, Settings

_WHY = "this run was under way, or waited, when the backup was made that this history is from"


def require_known_store(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Return if a history that is not in SQLite is in the database of REFRESH_INSTANCE. Raises InternalError."""
    if settings.instance is None:
        raise InternalError(
            "this history is neither in SQLite nor in the database of REFRESH_INSTANCE",
            expected=f"one of the two: then a backup can hold it ({INSTANCE})",
            came=type(instance.run_storage).__name__,
            todo="Back up that database by its own means, or set REFRESH_INSTANCE in place of `storage`.",
        )


def end_runs(instance: dg.DagsterInstance) -> int:
    """Record the runs that were under way or queued as cancelled, which is nobody's trouble; return how many."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    for run in runs:
        instance.report_run_canceled(run, message=_WHY)
    return len(runs)


def is_empty(instance: dg.DagsterInstance) -> bool:
    """Whether nothing was ever recorded here."""
    return not instance.get_runs_count() and not instance.all_asset_keys()
