"""Runs that several sources share: what the tags of one say of each source, and which of its sources are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import dagster as dg

from refresh_pipelines.decide import Request
from refresh_pipelines.orchestration.partitions import dynamic_keys, keys_of
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import BATCH, COALESCED, KEYS, MEMBER, SKIPPED, SOURCE, TICK
from refresh_pipelines.ranges import between
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import partition_keys

# No key holds it.
_TO = "..."
# PostgreSQL indexes the values of tags, and takes 2,700 bytes.
_LONGEST_REASON = 300
_ENDED = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED}


def step_of(spec: SourceSpec) -> str:
    """Return the name of the step that refreshes a source."""
    return key_of(spec).to_python_identifier()


def member_tags(spec: SourceSpec, request: Request) -> dict[str, str]:
    """Return the tags by which a run that others share is for a source too."""
    tags: dict[str, str] = {MEMBER + spec.source: request.trigger}
    if request.keys:
        ends = (request.keys[0], request.keys[-1])
        tags[KEYS + spec.source] = _TO.join(dict.fromkeys(ends))
    if request.coalesced > 1:
        tags[f"{COALESCED}/{spec.source}"] = str(request.coalesced)
    return tags


def skipped_tags(spec: SourceSpec, reason: str) -> dict[str, str]:
    """Return the tags that say why a run is not for a source of its batch."""
    return {SKIPPED + spec.source: reason[:_LONGEST_REASON]}


def sources_of(tags: Mapping[str, str]) -> list[str]:
    """Return the stems of the sources that a run is for, as its tags say."""
    alone = tags.get(SOURCE)
    return [alone] if alone else [name[len(MEMBER) :] for name in tags if name.startswith(MEMBER)]


def shared_by(tags: Mapping[str, str], source: str) -> bool:
    """Whether a run that several sources share is for one of this stem."""
    return MEMBER + source in tags


def coalesced_of(tags: Mapping[str, str], source: str) -> int:
    """Return for how many due ticks of a source a run stands."""
    return int(tags.get(f"{COALESCED}/{source}") or tags.get(COALESCED, "1"))


def member_keys(instance: dg.DagsterInstance, spec: SourceSpec, tags: Mapping[str, str]) -> list[str]:
    """Return the partitions of a source that a run is for which others share; none for a source without any.

    Raises:
        ValueError: the source has them no more.
    """
    first, _, last = tags.get(KEYS + spec.source, "").partition(_TO)
    if not first or not last:
        return [first] if first else []
    at = datetime.fromisoformat(tags[TICK].replace("Z", "+00:00"))
    return between(spec, partition_keys(spec, at, dynamic_keys(instance, spec)), first, last)


def keys_of_run(context: dg.AssetExecutionContext, spec: SourceSpec) -> list[str | None]:
    """Return the partitions of a source that a run refreshes; one None for a source without any.

    Raises:
        dagster.Failure: the run names none, or some that the source has no more.
    """
    tags = context.run.tags
    if not shared_by(tags, spec.source) or spec.partitions is None:
        return keys_of(context, spec)
    try:
        keys = member_keys(context.instance, spec, tags)
    except ValueError as error:
        raise dg.Failure(f"{error}; the run was asked for before its YAML was changed.", allow_retries=False) from error
    if not keys:
        raise dg.Failure(f"{spec.name}: the run names no partition of it.", allow_retries=False)
    return [*keys]


def has_output(spec: SourceSpec, keys: Sequence[str | None], tags: Mapping[str, str]) -> bool:
    """Whether the one event of a step is its output, to which Dagster gives the run's partition: it must have it."""
    return len(keys) == 1 and not (shared_by(tags, spec.source) and spec.partitions is not None)


def member_ends(tags: Mapping[str, str], source: str) -> list[str]:
    """Return the first and the last of these partitions, one if it is the same."""
    return [key for key in tags.get(KEYS + source, "").split(_TO) if key]


def is_shared(tags: Mapping[str, str]) -> bool:
    """Whether a run is one that several sources share."""
    return BATCH in tags


def steps_ended(instance: dg.DagsterInstance, run_id: str) -> frozenset[str]:
    """Return the steps of a run that are over although the run may not be."""
    entries = instance.all_logs(run_id, of_type=_ENDED)
    return frozenset(entry.dagster_event.step_key or "" for entry in entries if entry.dagster_event)
