"""Rules for sources that share a run: all of a batch are due at the same times, and none waits for another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.spec import Schedule, SourceSpec
from refresh_pipelines.units import format_duration
from refresh_pipelines.yamlpos import Document

_BATCH = ("schedule", "batch")


def check_batch(draft: Draft) -> Iterator[Problem]:
    """A batch goes with a frequency or a cron: what is due when files arrive or inputs change shares no tick."""
    schedule = draft.schedule
    if schedule is None or schedule.batch is None or "schedule" in draft.bad:
        return
    if schedule.cron is None and schedule.frequency in (None, "on_event"):
        hint = "set a frequency or a cron, or take batch out"
        yield draft.problem(_BATCH, "batch goes with sources that are due at times", hint, key=True)


def batches_of(specs: Iterable[SourceSpec]) -> dict[str, list[SourceSpec]]:
    """Return the sources of each batch, in the order in which they come."""
    out: dict[str, list[SourceSpec]] = {}
    for spec in specs:
        if spec.schedule is not None and spec.schedule.batch is not None:
            out.setdefault(spec.schedule.batch, []).append(spec)
    return out


def batch_problems(spec: SourceSpec, document: Document, members: Sequence[SourceSpec]) -> Iterator[Problem]:
    """A source is due when the first of its batch is, and requires none of them.

    Args:
        members: those that can be loaded, in the order in which they were read.
    """
    schedule = spec.schedule
    if schedule is None or schedule.batch is None:
        return
    mark = document.value_mark(_BATCH)
    first = members[0] if members else spec
    if first.schedule is not None and first.source != spec.source:
        own, there = _words(schedule, spec.source), _words(first.schedule, first.source)
        if own != there:
            message = f"{spec.name} and {first.name} are of the batch {schedule.batch} but not due alike"
            yield Problem(*mark, message, f"here {own}; {there} in {first.file}")
    needed = {need.stem for need in spec.requires} & {one.source for one in members} - {spec.source}
    if needed:
        message = f"{spec.name} requires {', '.join(sorted(needed))} of its own batch {schedule.batch}"
        yield Problem(*mark, message, "what waits for another has a run of its own: take batch out, or requires")


def _words(schedule: Schedule, source: str) -> str:
    return f"{cron_of(schedule, source)} {schedule.timezone}, expire {format_duration(schedule.expire)}"
