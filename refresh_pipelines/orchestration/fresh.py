"""The asset check `fresh`: red while a source is overdue.

The sensor `overdue` reports it without a run. Dagster has no check without a step, and adds every
check of an asset to what the UI launches; there the step asks, after the refresh, what the sensor asks.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.freshness import Verdict, judged, sentence
from refresh_pipelines.orchestration.checks import FRESH
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.internals import newest_checks
from refresh_pipelines.orchestration.report import key_of, listed
from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.units import format_duration

# Metadata of the check's evaluations.
VERDICT, PARTITIONS = "refresh/verdict", "refresh/overdue_partitions"


def fresh_checks(
    specs: Sequence[SourceSpec], freshness: Freshness, workshop: Workshop
) -> list[dg.AssetChecksDefinition]:
    """Return the check of every source that has a limit: one definition for all, as each would cost milliseconds."""
    sources = {key_of(spec): spec for spec in specs if judged(spec)}
    if not sources:
        return []
    checks = [dg.AssetCheckSpec(FRESH, asset=key, description=_rule(spec)) for key, spec in sources.items()]

    @dg.multi_asset_check(name=FRESH, specs=checks, can_subset=True)
    def fresh(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = [sources[key.asset_key] for key in context.selected_asset_check_keys]
        now = workshop.clock()
        try:
            freshness.reads.note(context.instance, now, wanted)
            found = news(context.instance, wanted, freshness.verdicts(context.instance, wanted, now))
        except history_errors(RefreshError) as error:
            # No trouble of the refresh this step stands beside; the sensor meets it too, and shows it.
            context.log.warning(f"Whether the source is fresh cannot be said: {error}")
            return
        for spec, verdict in found:
            yield result_of(spec, verdict)

    return [fresh]


def news(
    instance: dg.DagsterInstance, specs: Sequence[SourceSpec], verdicts: Mapping[str, Verdict]
) -> list[tuple[SourceSpec, Verdict]]:
    """Return the verdicts that differ from those the instance holds: what turns red first, then what turns green.

    Those on sources that never had any come last. An evaluation that was asked for and never came
    holds nothing.
    """
    told = [(spec, one) for spec in specs if (one := verdicts.get(spec.source)) and one.overdue is not None]
    held = newest_checks(instance, [key_of(spec) for spec, _ in told], FRESH, VERDICT)
    new = [(spec, one) for spec, one in told if held.get(key_of(spec)) != one.identity]
    return sorted(new, key=lambda pair: (not pair[1].overdue, key_of(pair[0]) not in held))


def result_of(spec: SourceSpec, verdict: Verdict) -> dg.AssetCheckResult:
    """Return a verdict as the check tells it."""
    text = sentence(spec, verdict.late[0]) if verdict.late else _rule(spec)
    metadata: dict[str, Any] = {VERDICT: verdict.identity}
    if verdict.partitions:
        metadata[PARTITIONS] = listed(verdict.partitions)
    return dg.AssetCheckResult(
        asset_key=key_of(spec), check_name=FRESH, passed=not verdict.overdue, description=text, metadata=metadata
    )


def _rule(spec: SourceSpec) -> str:
    checked, changed = spec.freshness.checked, spec.freshness.changed
    parts = [f"every expected partition was refreshed within {format_duration(checked)}"] if checked else []
    parts += [f"something changed within {format_duration(changed)}"] if changed else []
    return " and ".join(parts)
