"""How each source is doing, from catalogue and event log alone; and `status.json` for everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from refresh_pipelines.breaker import State
from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.catalogue_now import catalogue_now
from refresh_pipelines.clock import utc_now
from refresh_pipelines.freshness import Verdict
from refresh_pipelines.heartbeat import life_of, status_file
from refresh_pipelines.notices import Notices
from refresh_pipelines.ops import telling
from refresh_pipelines.orchestration.breakers import Breakers, Log
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.pause import paused_sources
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.recent import pasts_of
from refresh_pipelines.orchestration.scores import PATIENCE, Asked, score_totals
from refresh_pipelines.quarantine import Quarantine
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines.schedule import cron_of, next_fires
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.whole import write_whole

# A run has its own score worked out first, and leaves the rest to the daemon and to whoever asks.
_A_MOMENT = timedelta(seconds=0.5)
_FIELDS = (
    "source", "group", "tenant", "enabled", "paused", "last_success_at", "last_changed_at", "last_published_at",
    "last_outcome", "last_run_id", "next_run_at", "last_scheduled_run_at", "overdue", "breaker",
    "consecutive_failures", "score", "incident", "quarantine", "stale_yaml", "breaker_since", "next_probe_at",
    "bytes_transferred", "bytes_saved",
)  # fmt: skip


def verdicts_of(
    instance: dg.DagsterInstance, catalogue: Catalogue, now: datetime, settings: Settings
) -> dict[str, Verdict]:
    """Return how fresh each source is, as the check `fresh` has it; those that are not judged are left out.

    Args:
        instance: whose event log is asked.
        catalogue: the sources.
        now: the time it is.
        settings: where the operational store is, and whether schedules are switched on.
    """
    specs = list(catalogue.sources.values())
    return Freshness(Reads(specs, settings)).verdicts(instance, specs, now)


def status_items(
    instance: dg.DagsterInstance,
    catalogue: Catalogue,
    now: datetime,
    settings: Settings,
    verdicts: Mapping[str, Verdict] | None = None,
    patience: timedelta = PATIENCE,
) -> list[dict[str, Any]]:
    """Return one item per source (design §11). What no mechanism measures yet is null, not a guess.

    `verdicts` are those of `verdicts_of`, for who has them already; `patience` is for scores that are a day old.
    """
    if verdicts is None:
        verdicts = verdicts_of(instance, catalogue, now, settings)
    specs = list(catalogue.sources.values())
    pasts = pasts_of(instance, specs, settings)
    paused = paused_sources(instance, settings, specs)
    breakers = Breakers(specs, settings)
    logs = breakers.logs(instance)
    states = breakers.states_of(instance, breakers.specs, logs, now)
    scores = score_totals(instance, Asked(settings, specs, Rhythms(settings.data_dir).read(), now, patience))
    notices = Notices(settings)
    with telling(notices.path, "the store of incidents and notices"):
        incidents = notices.kinds()
    items = [_item(spec, now, pasts[spec.source], paused=spec.source in paused) for spec in specs]
    waiting = _waiting(settings)
    for item in items:
        item["quarantine"] = waiting.get(item["source"])
        verdict = verdicts.get(item["source"])
        item["overdue"] = bool(verdict and verdict.overdue)
        stale = catalogue.stale.get(item["source"])
        item["stale_yaml"] = _iso(stale.good_at) if stale else None
        item["score"] = scores.get(item["source"])
        # Of a failure that nobody has entered (a store that was deleted) the event log still knows.
        item["incident"] = incidents.get(item["source"]) or item["incident"]
        if item["source"] in states:
            item.update(_breaker(logs[item["source"]], states[item["source"]]))
    return items + [_broken_item(broken.group, broken.source) for broken in catalogue.broken.values()]


def write_status_file(
    instance: dg.DagsterInstance, settings: Settings, now: datetime | None = None, *, alive: bool = False
) -> None:
    """Rewrite `data/status.json` in one step, so that a reader never sees half of it.

    Args:
        instance: whose event log is asked.
        settings: where the file is.
        now: the time it is.
        alive: whether it is the daemon who writes: then this is its life sign. Anybody else keeps the last one.
    """
    now = now or utc_now()
    catalogue = catalogue_now(settings)
    verdicts = verdicts_of(instance, catalogue, now, settings)
    items = status_items(instance, catalogue, now, settings, verdicts, PATIENCE if alive else _A_MOMENT)
    at = now.isoformat(timespec="seconds")
    path = status_file(settings.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Read last of all: the daemon may have written while the items were gathered.
    heartbeat = at if alive else life_of(settings.data_dir).text
    write_whole(
        path, json.dumps({"version": 1, "generated_at": at, "heartbeat": heartbeat, "sources": items}, indent=1)
    )


def _item(spec: SourceSpec, now: datetime, past: Mapping[str, Any], *, paused: bool) -> dict[str, Any]:
    own = {
        "source": spec.source,
        "group": spec.group,
        "tenant": spec.tenant,
        "enabled": spec.enabled,
        "paused": paused,
        "next_run_at": None if paused or not spec.enabled else _iso(_next_run(spec, now)),
        "overdue": False,
        "breaker": None,
        "breaker_since": None,
        "next_probe_at": None,
        "score": None,
        "quarantine": None,
        "stale_yaml": None,
    }
    return {name: own[name] if name in own else past[name] for name in _FIELDS}


def _waiting(settings: Settings) -> dict[str, str]:
    """Return the payload that waits for a person, by source; of several the newest."""
    newest_last = reversed(Quarantine(settings.data_dir).all())
    return {record.source: record.id for record in newest_last if record.state == "waiting"}


def _breaker(log: Log, state: State) -> dict[str, Any]:
    """Return what the breaker says. Failures in a row are counted from the last success, whatever a person forgave."""
    return {
        "breaker": state.phase,
        "consecutive_failures": len(log.tries),
        "breaker_since": _iso(state.since),
        "next_probe_at": _iso(state.probe_at),
    }


def _broken_item(group: str, source: str) -> dict[str, Any]:
    item: dict[str, Any] = dict.fromkeys(_FIELDS)
    return {**item, "source": source, "group": group, "enabled": False, "incident": "broken_yaml"}


def _next_run(spec: SourceSpec, now: datetime) -> datetime | None:
    if spec.schedule is None or spec.schedule.frequency == "on_event":
        return None
    return next_fires(cron_of(spec.schedule, spec.source), spec.schedule.timezone, now, 1)[0]


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(timezone.utc).isoformat(timespec="seconds") if at else None
