"""What incidents are made of: failures, good refreshes, conditions, and the incident itself. Values, and pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from refresh_pipelines.outcome import Outcome
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import split_key

# Not failures of a refresh: they hold as long as somebody says so, and end when nobody does.
STANDING = frozenset({"overdue", "breaker"})
_NAMES = uuid.UUID("6f4b7c1e-8d53-5c0a-9a55-1d0c0f5e2b11")
EventKind = Literal["opened", "reminder", "recovered"]


@dataclass(frozen=True)
class Rule:
    """How a source's trouble is told.

    Attributes:
        after: failed runs in a row before the first notice.
        host: set where several sources ask it; None: the source is told by itself and at once.
    """

    after: int = 1
    remind: timedelta = timedelta(hours=24)
    route: str = "default"
    host: str | None = None


@dataclass(frozen=True)
class Failure:
    """One source in one run that failed.

    Attributes:
        partitions: the bad partition keys, empty without partitions.
        at: when; None: when it is reported. Good refreshes after it make up for it.
        shown: how the partitions are named, "" for their keys.
    """

    source: str
    run_id: str
    partitions: tuple[str, ...]
    error_class: str
    message: str
    at: datetime | None = None
    rule: Rule = Rule()
    shown: str = ""

    @classmethod
    def of(
        cls, source: str, run_id: str, bad: Sequence[Outcome], at: datetime | None = None, rule: Rule = Rule()
    ) -> Failure:
        """Return what to tell about a run's failed outcomes; the first one gives the class."""
        keys = tuple(outcome.partition for outcome in bad if outcome.partition)
        text = "\n".join(dict.fromkeys(outcome.message or "" for outcome in bad))
        return cls(source, run_id, keys, bad[0].error_class or "internal", text, at, rule)


@dataclass(frozen=True)
class Good:
    """One good refresh; `rows` are those it added or updated."""

    key: str | None
    at: datetime
    rows: int
    run_id: str


@dataclass(frozen=True)
class Condition:
    """A trouble of a source that holds now; `kind` is one of `STANDING`."""

    source: str
    kind: str
    message: str
    rule: Rule = Rule()
    partition: str | None = None


@dataclass(frozen=True)
class Incident:
    """One trouble.

    Attributes:
        source: "" for several sources of one host that are told together.
        count: failed refreshes so far, each partition of a run one; of several sources their number.
        failures: failed runs so far.
        pending: the partitions that failed, "" without partitions, and when they did last.
        hold_until: before it the first notice waits for others of the host.
        silent: it was there before anybody watched, and is not told.
        group: the incident under which it is told.
        rows: added or updated by good refreshes since it began.
    """

    id: str
    source: str
    kind: str
    rule: Rule
    began_at: datetime
    last_at: datetime
    message: str
    run_id: str
    partition: str | None = None
    count: int = 0
    failures: int = 0
    pending: Mapping[str, datetime] = field(default_factory=dict)
    opened_at: datetime | None = None
    hold_until: datetime | None = None
    told_at: datetime | None = None
    reminders: int = 0
    remind_at: datetime | None = None
    silent: bool = False
    group: str | None = None
    rows: int = 0
    recovered_at: datetime | None = None

    @property
    def standing(self) -> bool:
        """Whether it ends when nobody says any more that it holds."""
        return self.kind in STANDING

    @property
    def grouped(self) -> bool:
        """Whether it stands for several sources."""
        return not self.source

    @property
    def told(self) -> bool:
        """Whether it is open and somebody was told."""
        return self.told_at is not None and self.recovered_at is None


@dataclass(frozen=True)
class Event:
    """What is to be told: the incident as it is then, the nth event of its kind, and the sources it stands for."""

    incident: Incident
    kind: EventKind
    number: int = 1
    members: tuple[Incident, ...] = ()

    @property
    def id(self) -> str:
        """The same whoever generates it, and whenever."""
        return event_id(self.incident.id, self.kind, self.number)


def event_id(incident: str, kind: str, number: int) -> str:
    """Return the id of an incident's nth event of a kind."""
    return str(uuid.uuid5(_NAMES, f"{incident}|{kind}|{number}"))


def incident_id(*parts: object) -> str:
    """Return the id of the incident that began so."""
    return str(uuid.uuid5(_NAMES, "|".join(map(str, parts))))


def covers(spec: SourceSpec, good: str | None, failed: str) -> bool:
    """Whether a good refresh of one partition ends the trouble with another, "" for none.

    A newer period does: the source works again, and what is missing is overdue or a gap. Another static key does not,
    unless nobody asks for the failed one any more.
    """
    if spec.partitions is None or not failed or good is None or good == failed:
        return True
    declared = [key for keys in spec.partitions.static.values() for key in keys]
    if spec.partitions.time is None:
        return bool(declared) and failed not in declared
    (period, other), (failed_period, failed_other) = split_key(good), split_key(failed)
    return period >= failed_period and (other == failed_other or failed_other not in declared)
