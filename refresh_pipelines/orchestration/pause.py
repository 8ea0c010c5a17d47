"""Pausing a source: the state of its schedule or file sensor on the Dagster instance, and the log of it.

The state outlives restarts, deploys and reloads and overrules the YAML; daemon, webserver and commands read the same
one. It does not say since when or why, so each pause is logged as well (`pauses`), and `watch_pauses` takes down what
somebody pauses in the UI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Literal, NamedTuple

import dagster as dg

from refresh_pipelines.orchestration.internals_ticks import (
    Switch,
    first_tick_after,
    newest_tick,
    switch_of,
    switch_off,
    switch_on,
    switches,
)
from refresh_pipelines.orchestration.looks import batch_of, batch_schedule, own_schedule
from refresh_pipelines.pauses import IN_DAGSTER, Pause, begin_pauses, end_pauses, open_pauses, pauses
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

# What was stopped before the first tick was stopped since before anything is known.
EVER = datetime.fromtimestamp(0, timezone.utc)
# The log and Dagster's state are written one after the other.
_TOGETHER = timedelta(minutes=1)


class Lever(NamedTuple):
    """The schedule or sensor of its own that requests a source's runs."""

    name: str
    kind: Literal["schedule", "sensor"]
    cron: str = ""


def lever_of(spec: SourceSpec) -> Lever | None:
    """Return what requests a source's runs by itself; None where nothing does, or what does so for others too.

    Derived sources share one sensor, and those of a batch its schedule. A pause of theirs is in the log alone, which
    that sensor or schedule reads.
    """
    if spec.schedule is None or not spec.enabled or batch_of(spec):
        return None
    if spec.schedule.frequency == "on_event":
        return Lever(f"{spec.source}_files", "sensor")
    return Lever(own_schedule(spec), "schedule", cron_of(spec.schedule, spec.source))


def shared_lever_of(spec: SourceSpec) -> Lever | None:
    """Return the schedule that requests the runs of a source's whole batch; None for a source of none."""
    batch = batch_of(spec)
    if spec.schedule is None or batch is None:
        return None
    return Lever(batch_schedule(batch), "schedule", cron_of(spec.schedule, spec.source))


def paused_sources(instance: dg.DagsterInstance, settings: Settings, specs: Iterable[SourceSpec]) -> set[str]:
    """Return which of the sources are paused, whoever did it. Raises InternalError if the log cannot be read."""
    found, logged = switches(instance), open_pauses(settings.data_dir)
    return {spec.source for spec in specs if _is_paused(spec, found, logged)}


def pause(
    instance: dg.DagsterInstance,
    settings: Settings,
    specs: Sequence[SourceSpec],
    *,
    now: datetime,
    reason: str,
    by: str,
) -> list[SourceSpec]:
    """Pause sources and log it; return those that were not paused already.

    Raises:
        InternalError: the log cannot be written; what was paused in Dagster is then paused.
    """
    before = paused_sources(instance, settings, specs)
    changed = [spec for spec in specs if (lever_of(spec) or _shares(spec)) and spec.source not in before]
    for spec in changed:
        _stop(instance, spec)
    begin_pauses(settings.data_dir, [Pause(spec.source, now, None, reason, by) for spec in changed])
    return changed


def resume(
    instance: dg.DagsterInstance, settings: Settings, specs: Sequence[SourceSpec], *, now: datetime
) -> list[SourceSpec]:
    """End pauses and log it; return the sources that were paused. No tick before `now` is made up for.

    Where somebody has stopped the schedule of a whole batch, it goes on for all its sources that are not paused one
    by one.

    Raises:
        InternalError: the log cannot be written; what was resumed in Dagster is then resumed.
    """
    before = paused_sources(instance, settings, specs)
    changed = [spec for spec in specs if spec.source in before]
    for spec in changed:
        lever = lever_of(spec) or _stopped(partial(switch_of, instance), spec)
        if lever:
            switch_on(instance, lever.name, lever.kind, now, lever.cron)
    if changed:
        end_pauses(settings.data_dir, [(spec.source, now) for spec in changed])
    return changed


def watch_pauses(instance: dg.DagsterInstance, settings: Settings, specs: Iterable[SourceSpec], now: datetime) -> None:
    """Log what was paused or resumed in Dagster itself, and pause again what was not resumed by anybody.

    Dagster forgets the state of a schedule that was away for twelve hours, and its daemon may write an older state
    over a newer one. A person's switch in the UI is told from both by its time.

    Raises:
        InternalError: the log cannot be written.
    """
    found, logged = switches(instance), open_pauses(settings.data_dir)
    begun: list[Pause] = []
    ended: list[tuple[str, datetime]] = []
    for spec in specs:
        lever, known = lever_of(spec) or shared_lever_of(spec), logged.get(spec.source)
        if lever is None:
            continue
        if _is_off(lever, found):
            begun += [] if known else [Pause(spec.source, _last_seen(instance, lever) or now, None, "", IN_DAGSTER)]
        elif known:
            at = _switched_on(found.get(lever.name), known, now)
            if lever_of(spec) is None:
                # One of a batch whose schedule is on: only what came with the schedule's stop is over.
                ended += [(spec.source, at or now)] if known.by == IN_DAGSTER else []
            elif at is None:
                _stop(instance, spec)
            else:
                ended.append((spec.source, at))
    if begun:
        begin_pauses(settings.data_dir, begun)
    if ended:
        end_pauses(settings.data_dir, ended)


def pauses_of(
    instance: dg.DagsterInstance,
    settings: Settings,
    spec: SourceSpec,
    known: Callable[[str], Switch | None] | None = None,
) -> list[tuple[datetime, datetime | None]]:
    """Return when a source was paused, oldest first; None for a pause that lasts.

    Args:
        known: the state of a schedule by its name, where all of them have been read already.

    Pauses by `refresh pause` are exact. Of one made in the UI the end is exact while its state is there; it is taken
    to have begun with the last tick before it was seen, or `EVER` without one, so a daemon that was down in between
    counts as paused. A pause that began and ended in the UI while no daemon ran, and of which a later switch is known,
    cannot be known, and neither can those older than the operational store.
    """
    spans = [(pause.paused_at, pause.resumed_at) for pause in pauses(settings.data_dir, spec.source)]
    ask = known or partial(switch_of, instance)
    lever = lever_of(spec)
    if lever is None or lever.kind == "sensor":
        lever = _stopped(ask, spec)
    switch = ask(lever.name) if lever else None
    lasting = bool(spans) and spans[-1][1] is None
    if lever is None or switch is None:
        return spans
    if not switch.on:
        return spans if lasting else [*spans, (newest_tick(instance, lever.name) or EVER, None)]
    if lasting:
        begun = spans[-1][0]
        ended = switch.started_at if switch.started_at and switch.started_at > begun else None
        return [*spans[:-1], (begun, ended or first_tick_after(instance, lever.name, begun))]
    at = switch.started_at
    if switch.declared or at is None or any(end and abs(end - at) < _TOGETHER for _, end in spans):
        return spans
    return sorted([*spans, (newest_tick(instance, lever.name, before=at) or EVER, at)])


def _is_paused(spec: SourceSpec, found: Mapping[str, Switch], logged: Mapping[str, Pause]) -> bool:
    if _shares(spec):
        return spec.source in logged or _is_off(shared_lever_of(spec), found)
    return _is_off(lever_of(spec), found)


def _shares(spec: SourceSpec) -> bool:
    return spec.enabled and (spec.derived or batch_of(spec) is not None)


def _stopped(ask: Callable[[str], Switch | None], spec: SourceSpec) -> Lever | None:
    """Return the schedule of a source's batch where somebody has stopped it."""
    lever = shared_lever_of(spec)
    switch = ask(lever.name) if lever else None
    return lever if switch is not None and not switch.on else None


def _is_off(lever: Lever | None, found: Mapping[str, Switch]) -> bool:
    switch = found.get(lever.name) if lever else None
    return switch is not None and not switch.on


def _last_seen(instance: dg.DagsterInstance, lever: Lever) -> datetime | None:
    return newest_tick(instance, lever.name) if lever.kind == "schedule" else None


def _stop(instance: dg.DagsterInstance, spec: SourceSpec) -> None:
    lever = lever_of(spec)
    if lever:
        switch_off(instance, lever.name, lever.kind, lever.cron)


def _switched_on(switch: Switch | None, pause: Pause, now: datetime) -> datetime | None:
    """Return when somebody ended a pause in the UI; None if nobody did and the pause was lost."""
    if switch is None:
        return None
    if switch.declared:
        return now if switch.started_at is None else None  # "reset" leaves no time, the daemon one of its own
    return switch.started_at if switch.started_at and switch.started_at >= pause.paused_at else None
