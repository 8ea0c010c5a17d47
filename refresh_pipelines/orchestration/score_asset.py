"""The asset `refresh/scores`: once a week each source's score as a number, which Dagster's UI plots over time.

It is no source: no refresh, no host, no warehouse, and nothing is late without it.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands.

from collections.abc import Sequence

import dagster as dg

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB
from refresh_pipelines.orchestration.schedules import SWITCHED_OFF
from refresh_pipelines.orchestration.scores import Asked, score_totals
from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines.spec import SourceSpec

SCORES = dg.AssetKey(["refresh", "scores"])
SCHEDULE = "weekly_scores"
# Monday morning, when somebody may look; not at a full hour, when everybody else is due.
_CRON = "17 5 * * 1"


def scores_asset(specs: Sequence[SourceSpec], workshop: Workshop) -> dg.AssetsDefinition:
    """Return the asset over the given sources."""

    @dg.asset(
        key=SCORES,
        group_name="refresh",
        description="How reliable each source is, from 0 to 1: `refresh status SOURCE` explains it. "
        "Each materialization has one number for each source; the plots show how they change.",
        kinds={"python"},
    )
    def scores(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        changes = Rhythms(workshop.settings.data_dir).read()
        asked = Asked(workshop.settings, specs, changes, workshop.clock(), patience=None)
        try:
            totals = score_totals(context.instance, asked)
        except history_errors(RefreshError) as error:
            raise dg.Failure(f"The scores cannot be worked out: {error}", allow_retries=False) from error
        context.log.info(f"{len(totals)} of {len(specs)} sources have a score")
        return dg.MaterializeResult(asset_key=SCORES, metadata={source: totals[source] for source in sorted(totals)})

    return scores


def scores_schedule(workshop: Workshop, *, shared: bool) -> dg.ScheduleDefinition:
    """Return the schedule of the asset, weekly; nothing is late when it was missed.

    Args:
        shared: target the job that Dagster has for all assets in place of one of its own.
    """

    def tick(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not workshop.settings.schedules_enabled:
            return dg.SkipReason(SWITCHED_OFF)
        return dg.RunRequest(asset_selection=[SCORES] if shared else None)

    return dg.ScheduleDefinition(
        name=SCHEDULE,
        cron_schedule=_CRON,
        execution_timezone="UTC",
        job_name=IMPLICIT_ASSET_JOB if shared else None,
        target=None if shared else dg.AssetSelection.assets(SCORES),
        execution_fn=tick,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Works out the score of every source, for the plots of refresh/scores.",
    )
