"""What requests a source's runs by itself, as the API shows it."""

from __future__ import annotations

from datetime import datetime, timezone

from refresh_pipelines.orchestration.looks import schedule_name
from refresh_pipelines.schedule import cron_of, next_fires
from refresh_pipelines.service.board import View
from refresh_pipelines.service.models import Job, Schedule, SourceItem
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

_UPCOMING = 5
# The sensor that all derived sources share.
_DERIVED = "derived"


def jobs_of(view: View, settings: Settings) -> list[Job]:
    """Return the schedules and sensors of all sources that have one, by group and source."""
    found = [schedule_of(spec, item, view.at, settings, 1) for item, spec in _loaded(view)]
    return [Job.model_validate(one.model_dump(exclude={"upcoming_runs"})) for one in found if one.kind != "none"]


def schedule_of(
    spec: SourceSpec, item: SourceItem, now: datetime, settings: Settings, count: int = _UPCOMING
) -> Schedule:
    """Return a source's schedule with the next fires, in UTC; a sensor has none that could be foretold."""
    declared = spec.schedule
    timed = declared is not None and declared.frequency != "on_event"
    cron = cron_of(declared, spec.source) if declared and timed else None
    paused = bool(item.paused)
    requested = timed or spec.derived or declared is not None
    enabled = requested and spec.enabled and not paused and settings.schedules_enabled
    fires = next_fires(cron, declared.timezone, now, count) if enabled and declared and cron else []
    upcoming = [at.astimezone(timezone.utc).isoformat(timespec="seconds") for at in fires]
    return Schedule(
        name=_name(spec, timed=timed) if requested else None,
        source=spec.source,
        group=spec.group,
        kind="schedule" if timed else "sensor" if requested else "none",
        enabled=enabled,
        paused=paused,
        frequency=declared.frequency if declared else None,
        cron_expression=cron,
        timezone=declared.timezone if declared and timed else None,
        next_run_time=upcoming[0] if upcoming else None,
        upcoming_runs=upcoming,
    )


def _name(spec: SourceSpec, *, timed: bool) -> str:
    return schedule_name(spec) if timed else _DERIVED if spec.derived else f"{spec.source}_files"


def _loaded(view: View) -> list[tuple[SourceItem, SourceSpec]]:
    return [
        (item, spec)
        for item in view.items
        if item.incident != "broken_yaml" and (spec := view.spec(item.source)) is not None and spec.group == item.group
    ]
