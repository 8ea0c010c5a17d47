"""Ticks of a source, of the schedule that it has or had alone and of the one that it shares with its batch.

A source may join a batch, or leave it, and its due times stay the same: then both have a part of its history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import dagster as dg

from refresh_pipelines.gaps import Look
from refresh_pipelines.orchestration.internals_ticks import newest_tick, ticks_of
from refresh_pipelines.orchestration.tags import MEMBER, SKIPPED, SOURCE, TRIGGER
from refresh_pipelines.spec import SourceSpec

# What a tick says of each source that it asks nothing for, a line each.
_SAID = ": "
_FEW = 3


def own_schedule(spec: SourceSpec) -> str:
    """Return the name of the schedule that a source has alone."""
    return f"{spec.source}_schedule"


def batch_schedule(batch: str) -> str:
    """Return the name of the schedule that the sources of a batch share."""
    return f"{batch}_batch"


def batch_of(spec: SourceSpec) -> str | None:
    """Return the batch of a source that shares its runs; None for one that has its own."""
    return spec.schedule.batch if spec.schedule and spec.enabled else None


def schedule_name(spec: SourceSpec) -> str:
    """Return the name of the schedule that requests a source's runs."""
    batch = batch_of(spec)
    return batch_schedule(batch) if batch else own_schedule(spec)


def reason_line(spec: SourceSpec, reason: str) -> str:
    """Return what a tick says of one source of its batch."""
    return f"{spec.source}{_SAID}{' '.join(reason.split())}"


def newest_look(instance: dg.DagsterInstance, spec: SourceSpec, before: datetime | None = None) -> datetime | None:
    """Return the due time of the newest tick of a source that was looked at, before an instant if one is given."""
    names = dict.fromkeys([schedule_name(spec), own_schedule(spec)])
    return max(filter(None, (newest_tick(instance, name, before) for name in names)), default=None)


def looks_of(instance: dg.DagsterInstance, spec: SourceSpec, after: datetime) -> list[Look]:
    """Return the ticks of a source whose due time is later than an instant, oldest first."""
    own, batch = ticks_of(instance, own_schedule(spec), after), batch_of(spec)
    if batch is None:
        return own
    shared = (look_of_source(instance, look, spec.source) for look in ticks_of(instance, batch_schedule(batch), after))
    return sorted([*own, *filter(None, shared)], key=lambda look: look.at)


def look_of_source(instance: dg.DagsterInstance, look: Look, source: str) -> Look | None:
    """Return what a tick of a batch means to one source; None if it knew nothing of it."""
    if look.status == "skipped":
        lines = (line.partition(_SAID) for line in look.reason.splitlines())
        return next((replace(look, reason=reason) for name, _, reason in lines if name == source), None)
    if look.status != "success":
        return look
    for run_id in look.run_ids:
        run = instance.get_run_by_id(run_id)
        tags = run.tags if run else {}
        if SKIPPED + source in tags:
            return replace(look, status="skipped", reason=tags[SKIPPED + source], run_ids=())
        if MEMBER + source in tags or tags.get(SOURCE) == source:
            return replace(look, run_ids=(run_id,))
    return None


def scheduled_runs(
    instance: dg.DagsterInstance,
    names: Sequence[str],
    triggers: Sequence[str],
    *,
    limit: int | None = None,
    created_after: datetime | None = None,
) -> list[dg.RunRecord]:
    """Return the runs that ticks have asked for, of sources alone and of those that share one, newest first.

    Args:
        names: the stems of the sources.
        triggers: as the tags of runs have them.
        limit: at most so many.
        created_after: only those made after an instant.
    """
    # Most sources have never had a run together with others; where there are many, that is asked once.
    known = set(instance.get_run_tag_keys()) if len(names) > _FEW else {MEMBER + name for name in names}
    members = [MEMBER + name for name in names if MEMBER + name in known]
    asked = [{SOURCE: [*names], TRIGGER: [*triggers]}, *({member: [*triggers]} for member in members)]
    found = {
        record.storage_id: record
        for tags in asked
        for record in instance.get_run_records(dg.RunsFilter(tags=tags, created_after=created_after), limit=limit)
    }
    return [found[number] for number in sorted(found, reverse=True)][:limit]


def is_of(tags: Mapping[str, str], source: str) -> bool:
    """Whether a run with these tags is a source's, alone or together with others."""
    return tags.get(SOURCE) == source or MEMBER + source in tags
