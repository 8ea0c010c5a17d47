"""How each source is doing, from catalogue and event log alone; and `status.json` for everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.freshness import Verdict
from refresh_pipelines.lastgood import working_catalogue
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.pause import paused_sources
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import SOURCE, TRIGGER
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.schedule import cron_of, next_fires
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.whole import write_whole

_LOOK_BACK = 100
_FIELDS = (
    "source", "group", "tenant", "enabled", "paused", "last_success_at", "last_changed_at", "last_published_at",
    "last_outcome", "last_run_id", "next_run_at", "last_scheduled_run_at", "overdue", "breaker",
    "consecutive_failures", "score", "incident", "stale_yaml",
)  # fmt: skip


def verdicts_of(
    instance: dg.DagsterInstance, catalogue: Catalogue, now: datetime, settings: Settings, *, note: bool = False
) -> dict[str, Verdict]:
    """Return how fresh each source is, as the check `fresh` has it; those that are not judged are left out.

    Args:
        instance: whose event log is asked.
        catalogue: the sources.
        now: the time it is.
        settings: where the operational store is, and whether schedules are switched on.
        note: write into the schedule-change log what is new in the catalogue: from then on its ticks count.
    """
    specs = list(catalogue.sources.values())
    reads = Reads(specs, settings)
    if note:
        reads.note(instance, now)
    return Freshness(reads).verdicts(instance, specs, now)


def status_items(
    instance: dg.DagsterInstance,
    catalogue: Catalogue,
    now: datetime,
    settings: Settings,
    verdicts: Mapping[str, Verdict] | None = None,
) -> list[dict[str, Any]]:
    """Return one item per source (design §11). What no mechanism measures yet is null, not a guess.

    `verdicts` are those of `verdicts_of`, for who has them already.
    """
    if verdicts is None:
        verdicts = verdicts_of(instance, catalogue, now, settings)
    specs = list(catalogue.sources.values())
    keys = {spec.source: [key_of(spec), *former_keys(spec)] for spec in specs}
    wanted = [key for own in keys.values() for key in own]
    seen = {record.asset_entry.asset_key for record in instance.get_asset_records(wanted)}
    paused = paused_sources(instance, settings, specs)
    items = [_item(instance, spec, now, known=not seen.isdisjoint(keys[spec.source]), paused=paused) for spec in specs]
    for item in items:
        verdict = verdicts.get(item["source"])
        item["overdue"] = bool(verdict and verdict.overdue)
        stale = catalogue.stale.get(item["source"])
        item["stale_yaml"] = _iso(stale.good_at) if stale else None
    return items + [_broken_item(broken.group, broken.source) for broken in catalogue.broken.values()]


def write_status_file(instance: dg.DagsterInstance, settings: Settings, now: datetime | None = None) -> None:
    """Rewrite `data/status.json` in one step, so that a reader never sees half of it; `now` is the time it is."""
    now = now or utc_now()
    catalogue = working_catalogue(settings)
    verdicts = verdicts_of(instance, catalogue, now, settings, note=True)
    items = status_items(instance, catalogue, now, settings, verdicts)
    at = now.isoformat(timespec="seconds")
    path = settings.data_dir / "status.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"version": 1, "generated_at": at, "heartbeat": at, "sources": items}, indent=1))


def _item(
    instance: dg.DagsterInstance, spec: SourceSpec, now: datetime, *, known: bool, paused: set[str]
) -> dict[str, Any]:
    outcomes = history(instance, spec, _LOOK_BACK) if known else []
    success = next((outcome for outcome in outcomes if outcome.success), None)
    changed = max((outcome.changed_at for outcome in outcomes if outcome.changed_at), default=None)
    published = max((outcome.published_at for outcome in outcomes if outcome.published_at), default=None)
    last = outcomes[0] if outcomes else None
    is_paused = spec.source in paused
    last_success_at = _ended_at(success)
    return {
        "source": spec.source,
        "group": spec.group,
        "tenant": spec.tenant,
        "enabled": spec.enabled,
        "paused": is_paused,
        "last_success_at": _iso(last_success_at),
        "last_changed_at": _iso(changed),
        "last_published_at": _iso(published),
        "last_outcome": last.outcome if last else None,
        "last_run_id": last.run_id if last else None,
        "next_run_at": None if is_paused or not spec.enabled else _iso(_next_run(spec, now)),
        "last_scheduled_run_at": _iso(_last_scheduled(instance, spec)),
        "overdue": False,
        "breaker": None,
        "consecutive_failures": _failures_in_a_row(outcomes),
        "score": None,
        "incident": last.error_class if last and last.outcome == "failed" else None,
    }


def _broken_item(group: str, source: str) -> dict[str, Any]:
    item: dict[str, Any] = dict.fromkeys(_FIELDS)
    return {**item, "source": source, "group": group, "enabled": False, "incident": "broken_yaml"}


def _ended_at(outcome: Outcome | None) -> datetime | None:
    return datetime.fromisoformat(outcome.started_at) if outcome and outcome.started_at else None


def _failures_in_a_row(outcomes: list[Outcome]) -> int:
    count = 0
    for outcome in outcomes:
        if outcome.success:
            break
        count += outcome.outcome == "failed"
    return count


def _next_run(spec: SourceSpec, now: datetime) -> datetime | None:
    if spec.schedule is None or spec.schedule.frequency == "on_event":
        return None
    return next_fires(cron_of(spec.schedule, spec.source), spec.schedule.timezone, now, 1)[0]


def _last_scheduled(instance: dg.DagsterInstance, spec: SourceSpec) -> datetime | None:
    names = [spec.source, *(key.path[-1] for key in former_keys(spec))]
    filters = dg.RunsFilter(tags={SOURCE: names, TRIGGER: "schedule"})
    records = instance.get_run_records(filters, limit=1)
    return records[0].create_timestamp if records else None


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(timezone.utc).isoformat(timespec="seconds") if at else None
