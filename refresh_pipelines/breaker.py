"""When to stop knocking at a failing upstream, and when to knock again: the breaker of one source. Pure.

Everything is derived from what the event log says, so it survives restarts and there is no second truth. One
refresh is one run of one source, however many partitions it had: "Materialize all" is one run over many
sources, and a run over 200 partitions knocks once. A run in which any partition succeeded is a success,
because the upstream answers; what failed beside it is tried again (`later`) and told by its incident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from refresh_pipelines.outcome import SUCCESS
from refresh_pipelines.spec import Breaker, SourceSpec
from refresh_pipelines.window import available_at, split_key

Phase = Literal["closed", "open", "half_open"]
# The class of a step that failed without saying why.
SILENT = "step"
# Trouble of the upstream or of what it serves. busy, interrupted and internal are ours.
COUNTED = frozenset({"transient", "permanent", "contract", SILENT})
_LONGEST = 100
_PREFIX = re.compile(r"^[\w/]+(\[[^\]]*\])?: ")
_EXPECTED, _TODO = re.compile(r"; expected [^;]*(?=; got )"), re.compile(r"\.(\s+[A-Z].*)?$")


@dataclass(frozen=True)
class Event:
    """What the log says of one partition of a source.

    Attributes:
        order: its place in the log.
        key: None without partitions.
        outcome: as `Outcome.outcome`.
        own: whether it tells of the run it stands in; false for one that makes up for a lost event.
        retry_at: before this instant the upstream wants no other request.
    """

    order: int
    run_id: str
    at: datetime
    key: str | None
    outcome: str
    error_class: str = ""
    trigger: str = "manual"
    message: str = ""
    retry_at: datetime | None = None
    own: bool = True

    @property
    def success(self) -> bool:
        """Whether the table was then known to hold what the upstream serves."""
        return self.outcome in SUCCESS

    @property
    def counts(self) -> bool:
        """Whether it is a failure that the breaker counts."""
        return self.outcome == "failed" and self.error_class in COUNTED


@dataclass(frozen=True)
class Try:
    """One refresh that failed: what its last partition said, and when."""

    run_id: str
    at: datetime
    trigger: str
    error_class: str
    message: str
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Probe:
    """The newest probe that was asked for; `running` while it is queued or in progress."""

    run_id: str
    at: datetime
    running: bool


@dataclass(frozen=True)
class State:
    """A breaker at an instant.

    Attributes:
        phase: closed; open; half_open when a probe is due or under way, whose answer decides.
        failures: refreshes in a row without success that count.
        since: when it opened.
        last: the newest failure, None without any.
        probes: how many probes have failed since.
        probe_at: when the next probe is due.
        probing: the run that probes now, "" if none does.
    """

    phase: Phase = "closed"
    failures: int = 0
    since: datetime | None = None
    last: Try | None = None
    probes: int = 0
    probe_at: datetime | None = None
    probing: str = ""

    @property
    def holds(self) -> bool:
        """Whether schedules ask for nothing."""
        return self.phase != "closed"


def failed_tries(events: Iterable[Event]) -> tuple[Try, ...]:
    """Return the refreshes that failed since the newest success, oldest first."""
    known = sorted(events, key=lambda event: event.order)
    newest = max((event.order for event in known if event.success), default=-1)
    good = {event.run_id for event in known if event.success and event.own and event.run_id}
    last: dict[str, Event] = {}
    for event in known:
        if event.counts and event.order > newest and event.run_id not in good:
            last[event.run_id or f"event {event.order}"] = event
    return tuple(_try(event) for event in sorted(last.values(), key=lambda event: event.order))


def _try(event: Event) -> Try:
    return Try(event.run_id, event.at, event.trigger, event.error_class, short(event.message), event.retry_at)


def short(message: str) -> str:
    """Return of an error's text what is wrong and what came, cut to what fits into a reason."""
    line = _TODO.sub("", _EXPECTED.sub("", _PREFIX.sub("", next(iter(message.splitlines()), ""))))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def state_of(
    breaker: Breaker,
    tries: Sequence[Try],
    now: datetime,
    reset_at: datetime | None = None,
    probe: Probe | None = None,
) -> State:
    """Return the state of a breaker.

    Args:
        breaker: how many failures open it, and how long it waits for a probe.
        tries: `failed_tries` of the source.
        now: the time it is.
        reset_at: what failed up to then was forgiven by a person.
        probe: the newest one that was asked for.
    """
    counted = [one for one in tries if reset_at is None or one.at > reset_at]
    last = counted[-1] if counted else None
    if last is None or len(counted) < breaker.failures:
        return State(failures=len(counted), last=last)
    probes = sum(one.trigger == "probe" for one in counted[breaker.failures :])
    asked = probe if probe is not None and probe.at > last.at else None
    probe_at = _probe_at(breaker, asked.at if asked else last.at, probes, last.retry_at)
    running = asked is not None and asked.running
    return State(
        "half_open" if running or now >= probe_at else "open",
        len(counted),
        counted[breaker.failures - 1].at,
        last,
        probes,
        probe_at,
        asked.run_id if asked and running else "",
    )


def _probe_at(breaker: Breaker, after: datetime, probes: int, retry_at: datetime | None) -> datetime:
    """Return the instant of the next probe; what the upstream asks for is heard up to `probe_max`."""
    pause = breaker.probe
    for _ in range(probes):
        if pause >= breaker.probe_max:
            break
        pause *= 2
    earliest, latest = after + min(pause, breaker.probe_max), after + breaker.probe_max
    return max(earliest, min(retry_at, latest)) if retry_at else earliest


def probe_key(spec: SourceSpec, due: Sequence[str], probes: int, now: datetime) -> str | None:
    """Return the one partition that a probe asks for, None without any.

    The newest period that is published comes first, and each probe takes another partition, so that one which
    never comes again does not keep the breaker open.

    Args:
        spec: the source.
        due: what the newest tick asked for, oldest first or as declared.
        probes: how many probes have failed.
        now: the time it is.
    """
    keys, partitions = list(due), spec.partitions
    if partitions is not None and partitions.time is not None:
        published = [key for key in keys if available_at(partitions, key) <= now]
        keys = sorted(published or keys, key=lambda key: split_key(key)[0], reverse=True)
    return keys[probes % len(keys)] if keys else None


def sentence(source: str, state: State) -> str:
    """Return why nothing is asked of a source whose breaker is not closed, as the reason of a tick."""
    if state.since is None or state.last is None or state.probe_at is None:
        return ""
    why = f"{state.last.error_class}: {state.last.message}" if state.last.message else state.last.error_class
    if state.probing:
        following = f"run {state.probing[:8]} probes now"
    elif state.phase == "half_open":
        following = "a probe is due"
    else:
        following = f"next probe {_clock(state.probe_at, state.since)}"
    failures = f"{state.failures} failures in a row" if state.failures > 1 else "a failure"
    return (
        f"breaker open since {_clock(state.since)} after {failures} ({why}); "
        f"{following}; `refresh reset {source}` closes it"
    )


def _clock(at: datetime, since: datetime | None = None) -> str:
    utc = at.astimezone(timezone.utc)
    same_day = since is not None and utc.date() == since.astimezone(timezone.utc).date()
    return f"{utc:%H:%M} UTC" if same_day else f"{utc:%Y-%m-%d %H:%M} UTC"
