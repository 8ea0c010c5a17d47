"""What the event log says of each source's last refreshes, for `status`: read again only where something was logged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from refresh_pipelines.clocks import clocks_of, savings_of
from refresh_pipelines.kept import Kept
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.herds import sources_of
from refresh_pipelines.orchestration.internals import observed_since
from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines.orchestration.looks import scheduled_runs
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import TRIGGER
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

_LOOK_BACK = 100
_MOST_RUNS = 500
_MOST_UNKEPT = 100
# Where reading the observations has come to; no source is called so.
_CURSOR = "|observed"
_SCHEDULED = "last_scheduled_run_at"


def pasts_of(
    instance: dg.DagsterInstance, specs: Sequence[SourceSpec], settings: Settings
) -> dict[str, dict[str, Any]]:
    """Return by source what `status` says of its past, as plain JSON values."""
    keys = {spec.source: [key_of(spec), *former_keys(spec)] for spec in specs}
    loaded = newest_materializations(instance, [key for own in keys.values() for key in own])
    kept = Kept(settings.data_dir, "past 2")
    known, new, out = kept.read(), {}, {}
    observed, cursor = observed_since(instance, int(known[_CURSOR][1]) if _CURSOR in known else None)
    if _CURSOR not in known:
        kept.write({_CURSOR: ("", str(cursor))})
    for spec in specs:
        ids = {key.to_user_string(): loaded[key] for key in keys[spec.source] if key in loaded}
        basis, before = json.dumps(ids), known.get(spec.source)
        if before and before[0] == basis and observed.isdisjoint(keys[spec.source]):
            out[spec.source] = json.loads(before[1])
        else:
            # A run that was scheduled since is entered below, for all sources at once.
            scheduled = json.loads(before[1])[_SCHEDULED] if before else _iso(_scheduled(instance, spec))
            out[spec.source] = _past(history(instance, spec, _LOOK_BACK) if ids else [], scheduled)
            new[spec.source] = basis
            if len(new) % _MOST_UNKEPT == 0:
                # Of a first reading that is broken off the next one finds what was done.
                kept.write({source: (basis, json.dumps(out[source])) for source, basis in new.items()})
    for source in _newly_scheduled(instance, keys, out):
        new.setdefault(source, known[source][0] if source in known else "")
    entries = {source: (basis, json.dumps(out[source])) for source, basis in new.items()}
    if str(cursor) != known.get(_CURSOR, ("", ""))[1]:
        entries[_CURSOR] = ("", str(cursor))
    kept.write(entries)
    return out


def _past(outcomes: Sequence[Outcome], scheduled_at: str | None) -> dict[str, Any]:
    clocks, savings = clocks_of(outcomes), savings_of(outcomes)
    last = outcomes[0] if outcomes else None
    return {
        "last_success_at": _iso(clocks.checked),
        "last_changed_at": _iso(clocks.changed),
        "last_published_at": _iso(clocks.published),
        "bytes_transferred": savings.transferred,
        "bytes_saved": savings.saved,
        "last_outcome": last.outcome if last else None,
        "last_run_id": last.run_id if last else None,
        _SCHEDULED: scheduled_at,
        "consecutive_failures": _failures_in_a_row(outcomes),
        "incident": last.error_class if last and last.outcome in ("failed", "quarantined") else None,
    }


def _newly_scheduled(
    instance: dg.DagsterInstance, keys: Mapping[str, Sequence[dg.AssetKey]], pasts: Mapping[str, dict[str, Any]]
) -> set[str]:
    """Enter the scheduled runs since the newest that is known, which need not have logged anything yet."""
    since = max((past[_SCHEDULED] for past in pasts.values() if past[_SCHEDULED]), default=None)
    sources = {key.path[-1]: source for source, own in keys.items() for key in own}
    filters = dg.RunsFilter(tags={TRIGGER: "schedule"}, created_after=since and datetime.fromisoformat(since))
    found = set()
    for record in instance.get_run_records(filters, limit=_MOST_RUNS, ascending=True):
        at = _iso(record.create_timestamp)
        for source in filter(None, map(sources.get, sources_of(record.dagster_run.tags))):
            if at and at > (pasts[source][_SCHEDULED] or ""):
                pasts[source][_SCHEDULED] = at
                found.add(source)
    return found


def _scheduled(instance: dg.DagsterInstance, spec: SourceSpec) -> datetime | None:
    names = [spec.source, *(key.path[-1] for key in former_keys(spec))]
    records = scheduled_runs(instance, names, ["schedule"], limit=1)
    return records[0].create_timestamp if records else None


def _failures_in_a_row(outcomes: Sequence[Outcome]) -> int:
    count = 0
    for outcome in outcomes:
        if outcome.success:
            break
        count += outcome.outcome == "failed"
    return count


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(timezone.utc).isoformat(timespec="seconds") if at else None
