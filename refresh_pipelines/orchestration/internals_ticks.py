"""More of `internals`: switches of schedules and sensors, and their ticks, as Dagster keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

import dagster as dg
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)

from refresh_pipelines.gaps import Look
from refresh_pipelines.orchestration.internals import repository_origin

_TICK_WORDS: dict[TickStatus, Literal["started", "skipped", "success", "failure"]] = {
    TickStatus.STARTED: "started",
    TickStatus.SKIPPED: "skipped",
    TickStatus.SUCCESS: "success",
    TickStatus.FAILURE: "failure",
}


@dataclass(frozen=True)
class Switch:
    """The state of a schedule or sensor of our code location as Dagster keeps it.

    Dagster finds it by location, repository and name alone, so it is the same one for `dagster dev`, whose servers
    listen on another socket at each start, and for a command that talks to no server.

    Attributes:
        on: whether it is evaluated.
        declared: nobody has switched it on or off since it was last left to the definitions.
        started_at: from when ticks count: when it was switched on, or first seen by the daemon. None otherwise.
    """

    name: str
    kind: Literal["schedule", "sensor"]
    on: bool
    declared: bool
    started_at: datetime | None


def switches(instance: dg.DagsterInstance) -> dict[str, Switch]:
    """Return the states there are, by name. What has none does as its definition says."""
    return {name: _switch(state) for name, state in _states(instance).items()}


def switch_of(instance: dg.DagsterInstance, schedule: str) -> Switch | None:
    """Return the state of one schedule, if there is one; cheaper than all of them."""
    key = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    state = instance.get_instigator_state(key.instigator_origin_id, key.selector_id)
    return _switch(state) if state else None


def switch_off(instance: dg.DagsterInstance, name: str, kind: Literal["schedule", "sensor"], cron: str = "") -> None:
    """Stop a schedule or sensor as the UI does; a sensor keeps its cursor.

    Args:
        cron: the schedule's, which its state repeats.
    """
    state = _states(instance).get(name)
    data = ScheduleInstigatorData(cron) if kind == "schedule" else _sensor_data(state)
    _put(instance, state, _stated(name, kind, InstigatorStatus.STOPPED, data))


def switch_on(
    instance: dg.DagsterInstance, name: str, kind: Literal["schedule", "sensor"], now: datetime, cron: str = ""
) -> None:
    """Leave a schedule or sensor to its definition again, with no tick before `now` to make up for.

    The UI's switch would leave it on for ever, also where the definition goes away and comes back.
    """
    state = _states(instance).get(name)
    at = now.timestamp()
    data = (
        ScheduleInstigatorData(cron, start_timestamp=at)
        if kind == "schedule"
        else _sensor_data(state).with_sensor_start_timestamp(at)
    )
    _put(instance, state, _stated(name, kind, InstigatorStatus.DECLARED_IN_CODE, data))


def newest_tick(instance: dg.DagsterInstance, schedule: str, before: datetime | None = None) -> datetime | None:
    """Return the due time of the newest tick of a schedule that was looked at, before an instant if one is given.

    One that broke off or failed was not: Dagster comes back to it, or leaves it behind for a newer one.
    """
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    limit = before.timestamp() if before else None
    looked_at = [TickStatus.SUCCESS, TickStatus.SKIPPED]
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, before=limit, limit=1, statuses=looked_at)
    return _utc(found[0].timestamp) if found else None


def first_tick_after(instance: dg.DagsterInstance, schedule: str, after: datetime) -> datetime | None:
    """Return the due time of the first of the last hundred ticks of a schedule after an instant."""
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after.timestamp(), limit=100)
    return _utc(min(tick.timestamp for tick in found)) if found else None


def ticks_of(instance: dg.DagsterInstance, schedule: str, after: datetime) -> list[Look]:
    """Return a schedule's ticks whose due time is later than an instant, oldest first."""
    state = _stated(schedule, "schedule", InstigatorStatus.STOPPED, ScheduleInstigatorData(""))
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=after.timestamp())
    return sorted((_look(tick) for tick in found), key=lambda look: look.at)


def _look(tick: InstigatorTick) -> Look:
    error = (tick.error.message if tick.error else "").strip().splitlines()
    reason = tick.skip_reason or (error[-1] if error else "")
    return Look(_utc(tick.timestamp), _TICK_WORDS[tick.status], reason, tuple(tick.run_ids))


def ticks_kept_days(instance: dg.DagsterInstance) -> int | None:
    """Return for how many days Dagster keeps the ticks of schedules, None for ever."""
    kept = instance.get_tick_retention_settings(InstigatorType.SCHEDULE).values()
    return min((days for days in kept if days >= 0), default=None)


def _states(instance: dg.DagsterInstance) -> dict[str, InstigatorState]:
    ours = repository_origin().get_selector()
    return {s.instigator_name: s for s in instance.all_instigator_state() if s.repository_selector == ours}


def _stated(
    name: str,
    kind: Literal["schedule", "sensor"],
    status: InstigatorStatus,
    data: ScheduleInstigatorData | SensorInstigatorData,
) -> InstigatorState:
    type_ = InstigatorType.SCHEDULE if kind == "schedule" else InstigatorType.SENSOR
    return InstigatorState(RemoteInstigatorOrigin(repository_origin(), name), type_, status, data)


def _put(instance: dg.DagsterInstance, old: InstigatorState | None, new: InstigatorState) -> None:
    """Write a state over the old one, whose origin is the key of one of Dagster's two tables."""
    if old is None:
        instance.add_instigator_state(new)
    else:
        instance.update_instigator_state(new._replace(origin=old.origin))


def _sensor_data(state: InstigatorState | None) -> SensorInstigatorData:
    data = state.instigator_data if state else None
    return data if isinstance(data, SensorInstigatorData) else SensorInstigatorData()


def _switch(state: InstigatorState) -> Switch:
    data = state.instigator_data
    started = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    started = data.last_sensor_start_timestamp if isinstance(data, SensorInstigatorData) else started
    return Switch(
        state.instigator_name,
        "schedule" if state.instigator_type == InstigatorType.SCHEDULE else "sensor",
        on=state.status != InstigatorStatus.STOPPED,
        declared=state.status == InstigatorStatus.DECLARED_IN_CODE,
        started_at=_utc(started) if started else None,
    )


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
