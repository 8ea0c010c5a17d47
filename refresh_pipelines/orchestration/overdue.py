"""The sensor `overdue`: reports the check `fresh` where its verdict is another one, and ends runs that waited too long.

It is the net for what leaves no failed run: a schedule somebody stopped, a run that is queued for
ever, a source that was never refreshed. An event costs twenty milliseconds and stays for ever, so
one is written only when the verdict changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import dagster as dg

from refresh_pipelines.freshness import Verdict, clock
from refresh_pipelines.orchestration.checks import FRESH
from refresh_pipelines.orchestration.expire import expire_runs
from refresh_pipelines.orchestration.fresh import news, result_of
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.internals import shared_instance
from refresh_pipelines.orchestration.report import key_of, listed
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.spec import SourceSpec

# So many events take a second; the rest waits for the next tick, and what is overdue comes first.
MOST_REPORTED = 50
# Dagster gives an evaluation a minute. After a start everything is looked at; what is left over comes next.
PATIENCE = timedelta(seconds=20)


def overdue_sensor(specs: Sequence[SourceSpec], freshness: Freshness, workshop: Workshop) -> dg.SensorDefinition:
    """Return the sensor `overdue` over the given sources."""

    @dg.sensor(
        name="overdue",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Turns the check `fresh` red for what is overdue, and cancels runs that were queued too long.",
    )
    def overdue(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        instance, now = shared_instance(context), workshop.clock()
        freshness.reads.note(instance, now)
        expired = expire_runs(instance, specs, now)
        verdicts = freshness.verdicts(instance, specs, now, PATIENCE)
        waiting = report(instance, specs, verdicts)
        parts = [_overdue(specs, verdicts, switched_on=workshop.settings.schedules_enabled)]
        parts += [f"{waiting} verdicts wait for the next tick"] if waiting else []
        parts += [f"expired in the queue: {listed(expired)}"] if expired else []
        return dg.SkipReason("; ".join(parts))

    return overdue


def report(instance: dg.DagsterInstance, specs: Sequence[SourceSpec], verdicts: Mapping[str, Verdict]) -> int:
    """Report the check of each source whose verdict differs from the one the instance holds.

    Returns how many have to wait because one tick has reported enough. `status.json` is left to the
    sensor `failures`, which rewrites it every half minute.
    """
    new = news(instance, specs, verdicts)
    for spec, verdict in new[:MOST_REPORTED]:
        result = result_of(spec, verdict)
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key_of(spec),
                check_name=FRESH,
                passed=result.passed,
                metadata=result.metadata,
                description=result.description,
            )
        )
    return len(new[MOST_REPORTED:])


def _overdue(specs: Sequence[SourceSpec], verdicts: Mapping[str, Verdict], *, switched_on: bool) -> str:
    if not switched_on:
        return "nothing is judged while REFRESH_SCHEDULES_ENABLED is false"
    late = [(spec, verdict) for spec in specs if (verdict := verdicts.get(spec.source)) and verdict.overdue]
    names = [f"{spec.name} (since {clock(verdict.late[0].since)})" for spec, verdict in late]
    return f"{len(late)} of {len(verdicts)} overdue" + (f": {listed(names)}" if names else "")
