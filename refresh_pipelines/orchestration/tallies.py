"""Running totals over the event log and the ticks of schedules, for `/metrics`.

Counting begins when somebody looks for the first time, and goes on where it stopped: the totals and how far reading
has come are kept in `status.sqlite`. Each look reads what is new, and of a long backlog a part.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

import dagster as dg

from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.kept import Kept
from refresh_pipelines.orchestration.former import CARRIED
from refresh_pipelines.orchestration.inside import asset_events_since
from refresh_pipelines.orchestration.looks import looks_of
from refresh_pipelines.orchestration.report import outcome_from, plain
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

# Upper ends of the buckets, in seconds; the last bucket has none.
BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# Dagster's words for what became of a tick, and ours.
_RESULTS = {"success": "requested", "skipped": "skipped", "failure": "failed"}
_KINDS = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)
_PAGE, _PAGES = 500, 10
# The one entry; no source is called so.
_ALL = "|all"


@dataclass
class Spread:
    """How many values fell into each bucket, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.sum += value


@dataclass
class Totals:
    """What has been counted.

    Attributes:
        runs: refreshes (one for each partition) by source and outcome.
        ticks: ticks of schedules by result: requested, skipped, failed.
        seconds: how long refreshes took, waiting for locks included.
        waits: how long refreshes waited for locks.
        saved: bytes that need not be transferred, by source.
        read: how far the event log has been read, by kind of event.
        looked: the due time of the newest tick that was counted, by source.
    """

    runs: dict[str, dict[str, int]] = field(default_factory=dict)
    ticks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_RESULTS.values(), 0))
    seconds: Spread = field(default_factory=Spread)
    waits: Spread = field(default_factory=Spread)
    saved: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    looked: dict[str, str] = field(default_factory=dict)


class Tallies:
    """The totals of one instance; one object for a process, which is asked by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._kept = Kept(settings.data_dir, "metrics 1")
        self._totals: Totals | None = None

    def look(self, instance: dg.DagsterInstance, specs: Iterable[SourceSpec], now: datetime) -> Totals:
        """Count what is new and return the totals, which the caller leaves as they are."""
        if self._totals is None:
            self._totals = _from_text(self._kept.read().get(_ALL, ("", ""))[1])
        before, known = _to_text(self._totals), list(specs)
        self._count_events(instance, {spec.name for spec in known})
        self._count_ticks(instance, known, now)
        text = _to_text(self._totals)
        if text != before:
            self._kept.write({_ALL: ("", text)})
        return self._totals

    def _count_events(self, instance: dg.DagsterInstance, names: set[str]) -> None:
        totals = self._totals or Totals()
        for kind in _KINDS:
            for _ in range(_PAGES):
                records, cursor = asset_events_since(instance, kind, totals.read.get(kind.value), _PAGE)
                totals.read[kind.value] = cursor
                for record in records:
                    _count(totals, record, names)
                if len(records) < _PAGE:
                    break

    def _count_ticks(self, instance: dg.DagsterInstance, specs: Sequence[SourceSpec], now: datetime) -> None:
        """Ask for the ticks of those schedules that have been due since their newest tick that was counted."""
        totals = self._totals or Totals()
        for spec in specs:
            rhythm = rhythm_of(spec)
            if rhythm is None:
                continue
            known = totals.looked.setdefault(spec.source, now.isoformat())
            after = datetime.fromisoformat(known)
            if rhythm.newest(now) <= after:
                continue
            for look in looks_of(instance, spec, after):
                if look.status not in _RESULTS:
                    break  # it has begun and not ended, and is counted when it has
                totals.ticks[_RESULTS[look.status]] += 1
                totals.looked[spec.source] = look.at.isoformat()


def _count(totals: Totals, record: dg.EventLogRecord, names: set[str]) -> None:
    event, key = record.asset_materialization or record.asset_observation, record.asset_key
    if event is None or key is None or "/".join(key.path) not in names or CARRIED in event.metadata:
        return
    if "refresh/outcome" not in event.metadata:
        return  # what somebody reported in the UI
    group, source = key.path
    outcome = outcome_from(group, source, event.partition, record.run_id, plain(event.metadata))
    totals.runs[source] = dict(Counter(totals.runs.get(source, {})) + Counter([outcome.outcome]))
    if outcome.bytes_saved:
        totals.saved[source] = totals.saved.get(source, 0) + outcome.bytes_saved
    totals.seconds.add(outcome.seconds.total)
    totals.waits.add(outcome.seconds.wait)


def _to_text(totals: Totals) -> str:
    return json.dumps(asdict(totals))


def _from_text(text: str) -> Totals:
    """Read back what was kept; what is no text of ours counts as nothing."""
    try:
        parts = json.loads(text)
        return Totals(**{**parts, "seconds": Spread(**parts["seconds"]), "waits": Spread(**parts["waits"])})
    except (ValueError, TypeError, KeyError):
        return Totals()
