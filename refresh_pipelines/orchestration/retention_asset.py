"""The asset `refresh/retention`: once a day what is too old goes, and each materialization lists what that was.

It is no source: no refresh, no host, no warehouse, and nothing is late without it.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands.

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB
from refresh_pipelines.orchestration.retention import Cleared, clear
from refresh_pipelines.orchestration.schedules import SWITCHED_OFF
from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.spec import SourceSpec

if TYPE_CHECKING:
    from refresh_pipelines.archive.retention import Removed

RETENTION = dg.AssetKey(["refresh", "retention"])
SCHEDULE = "daily_retention"
# At night, and not at a full hour, when everybody else is due.
_CRON = "47 3 * * *"


def retention_asset(specs: Sequence[SourceSpec], workshop: Workshop) -> dg.AssetsDefinition:
    """Return the asset; the runs that the given sources go on from stay."""

    @dg.asset(
        key=RETENTION,
        group_name="refresh",
        description="Removes runs that ended longer ago than REFRESH_KEEP_RUNS, payloads that `archive` of their "
        "source no longer keeps, and what killed processes have left. "
        "What runs say of assets stays. Each materialization lists what was removed.",
        kinds={"python"},
    )
    def retention(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        try:
            cleared = clear(context.instance, workshop.settings, specs, workshop.clock())
        except history_errors(RefreshError) as error:
            raise dg.Failure(f"Nothing old can be removed: {error}", allow_retries=False) from error
        context.log.info(cleared.sentence())
        return dg.MaterializeResult(asset_key=RETENTION, metadata=metadata_of(cleared))

    return retention


def report(instance: dg.DagsterInstance, cleared: Cleared) -> None:
    """List what was removed where the asset's runs list it, for who removes it without a run."""
    instance.report_runless_asset_event(
        dg.AssetMaterialization(RETENTION, metadata=metadata_of(cleared), description=cleared.sentence())
    )


def metadata_of(cleared: Cleared) -> Mapping[str, dg.MetadataValue]:
    """Return the list: numbers, which the UI plots, and a table of the runs by source."""
    numbers = {
        "runs": cleared.runs, "rows": cleared.rows, "bytes": cleared.bytes, "orphans": cleared.orphans,
        "staging": cleared.staging, "locks": cleared.locks, "payloads": cleared.payloads,
    }  # fmt: skip
    out: dict[str, dg.MetadataValue] = {name: dg.MetadataValue.int(count) for name, count in numbers.items()}
    out["finished"] = dg.MetadataValue.bool(cleared.finished)
    if cleared.oldest:
        out["oldest_run"] = dg.MetadataValue.timestamp(cleared.oldest)
    if cleared.sources:
        rows = sorted(cleared.sources.values(), key=lambda row: row.source)
        out["removed"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {"source": row.source, "runs": row.runs, "first": f"{row.first:%Y-%m-%d %H:%M}",
                     "last": f"{row.last:%Y-%m-%d %H:%M}"}
                )
                for row in rows
            ]
        )  # fmt: skip
    if cleared.archive:
        out["removed_payloads"] = dg.MetadataValue.table([_row(row) for row in cleared.archive.values()])
    if cleared.untouched:
        said = "\n".join(f"- {source}: {why}" for source, why in sorted(cleared.untouched.items()))
        out["untouched_archives"] = dg.MetadataValue.md(said)
    return out


def _row(removed: "Removed") -> dg.TableRecord:
    newest = f"{removed.newest:%Y-%m-%d %H:%M}" if removed.newest else ""
    return dg.TableRecord(
        {"source": removed.source, "payloads": removed.payloads, "bytes": removed.bytes, "newest": newest}
    )  # fmt: skip


def retention_schedule(workshop: Workshop, *, shared: bool) -> dg.ScheduleDefinition:
    """Return the schedule of the asset, daily; nothing is late when it was missed.

    Args:
        shared: target the job that Dagster has for all assets in place of one of its own.
    """

    def tick(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not workshop.settings.schedules_enabled:
            return dg.SkipReason(SWITCHED_OFF)
        return dg.RunRequest(asset_selection=[RETENTION] if shared else None)

    return dg.ScheduleDefinition(
        name=SCHEDULE,
        cron_schedule=_CRON,
        execution_timezone="UTC",
        job_name=IMPLICIT_ASSET_JOB if shared else None,
        target=None if shared else dg.AssetSelection.assets(RETENTION),
        execution_fn=tick,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes what is older than REFRESH_KEEP_RUNS; refresh/retention lists what that was.",
    )
