"""What lies ahead of a source: its next fires with the marks of the clock, and the minutes many fall into. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from croniter import croniter

from refresh_pipelines.decide import Decision, Request
from refresh_pipelines.expected import Rhythm, rhythm_of
from refresh_pipelines.schedule import next_fires, shift_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.units import format_duration
from refresh_pipelines.window import due_keys

AHEAD = timedelta(hours=24)
# The profile that ships requests sixty runs within a minute; what falls due beyond that comes later.
MOST_IN_A_MINUTE = 60
# A cron of every minute has so many fires a day; with more sources than that a day is not looked at whole.
_MOST_FIRES = 100_000


@dataclass(frozen=True)
class Fire:
    """One instant at which a source is due.

    Attributes:
        at: UTC.
        local: the same in the schedule's zone.
        mark: what the change of the clock does to it, empty if nothing.
        keys: the partitions it asks for, empty without partitions.
    """

    at: datetime
    local: datetime
    mark: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """What would be done at an instant about the newest tick.

    Attributes:
        action: `nothing`, `skip`, `schedule` or `catch_up`.
        tick: the newest due tick, None if there was none.
    """

    action: str
    reason: str = ""
    tick: datetime | None = None
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True)
class Peak:
    """A minute in which several sources are due.

    Attributes:
        runs: how many runs they are requested in; the sources of a batch share one.
    """

    at: datetime
    sources: tuple[str, ...]
    hosts: Mapping[str, int] = field(default_factory=dict)
    runs: int = 0


def fires_of(spec: SourceSpec, at: datetime, count: int, dynamic: Sequence[str] = ()) -> list[Fire]:
    """Return the next fires after an instant; none for a source that is disabled or not due at times.

    Args:
        dynamic: the keys of a dynamic dimension, as far as they are known.
    """
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return []
    zone = ZoneInfo(rhythm.zone)
    fires = next_fires(rhythm.cron, rhythm.zone, at, count)
    return [
        Fire(one, one.astimezone(zone), clock_mark(rhythm, one, before), tuple(due_keys(spec, one, dynamic)))
        for before, one in zip([rhythm.newest(at), *fires], fires, strict=False)
    ]


def clock_mark(rhythm: Rhythm, at: datetime, before: datetime) -> str:
    """Say what a change of the clock does to a fire; empty on all other days.

    Args:
        before: the fire before it.
    """
    zone = ZoneInfo(rhythm.zone)
    local = at.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    if not croniter.match(rhythm.cron, wall):
        meant = croniter(rhythm.cron, wall, ret_type=datetime).get_prev()
        return f"the clock goes forward that night: {meant:%H:%M} does not exist, moved to {local:%H:%M}"
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    if first != second:
        when = "both times" if croniter.expand(rhythm.cron)[0][1] == ["*"] else "at the second"
        return f"the clock goes back that night: {wall:%H:%M} comes twice, runs {when}"
    was, now = (one.astimezone(zone).utcoffset() for one in (before, at))
    if was is None or now is None or was == now:
        return ""
    way = "forward" if now > was else "back"
    return f"the clock went {way} by {format_duration(abs(now - was))} since the fire before"


def shift_text(spec: SourceSpec) -> str:
    """Say by how much jitter moves a source's minute; empty if it does not."""
    schedule = spec.schedule
    if schedule is None or schedule.cron or not schedule.jitter:
        return ""
    return f"{schedule.time} moved by {shift_of(schedule, spec.source)} min (jitter {format_duration(schedule.jitter)})"


def why_no_fires(spec: SourceSpec) -> str:
    """Say why a source has no fires; empty if it has."""
    if rhythm_of(spec) is not None:
        return ""
    if not spec.enabled:
        return "disabled in its YAML"
    if spec.derived:
        return "not due at times: built when " + ", ".join(need.source for need in spec.requires) + " have changed"
    if spec.schedule is not None and spec.schedule.frequency == "on_event":
        return "not due at times: refreshed when files arrive"
    return "not due at times"


def standing_of(decision: Decision, tick: datetime) -> Standing:
    """Return what a tick's decision means to somebody who asks before it is taken."""
    if not decision.requests:
        return Standing("skip", decision.reason, tick)
    caught_up = any(request.trigger == "catch_up" for request in decision.requests)
    return Standing("catch_up" if caught_up else "schedule", decision.reason, tick, decision.requests)


def peaks_of(specs: Iterable[SourceSpec], at: datetime, most: int = 5) -> list[Peak]:
    """Return the fullest minutes of the next 24 hours with more than one source, the fullest first."""
    due: dict[datetime, list[SourceSpec]] = defaultdict(list)
    left = _MOST_FIRES
    for spec in specs:
        rhythm = rhythm_of(spec)
        fires = rhythm.between(at, at + AHEAD) if rhythm and left > 0 else []
        left -= len(fires)
        for one in fires:
            due[one].append(spec)
    full = sorted(((one, found) for one, found in due.items() if len(found) > 1), key=lambda x: (-len(x[1]), x[0]))
    return [Peak(one, tuple(spec.name for spec in found), _hosts(found), _runs(found)) for one, found in full[:most]]


def _runs(specs: Sequence[SourceSpec]) -> int:
    batches = [spec.schedule.batch if spec.schedule else None for spec in specs]
    return batches.count(None) + len(set(batches) - {None})


def _hosts(specs: Iterable[SourceSpec]) -> dict[str, int]:
    return dict(Counter(filter(None, map(_host, specs))).most_common())


def _host(spec: SourceSpec) -> str | None:
    return urlsplit(spec.request.candidates[0]).hostname if spec.request.candidates else None
