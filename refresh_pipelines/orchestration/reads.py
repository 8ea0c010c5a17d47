"""What ticks ask of the instance, once for all sources and remembered for two seconds.

A thousand sources may be due in one minute; each question to the store costs milliseconds. Within
two seconds of a read nothing a tick decides on can have changed, except by another tick, and that
one is of another source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Generic, TypeVar

import dagster as dg

from refresh_pipelines.breaker import State
from refresh_pipelines.decide import Flight
from refresh_pipelines.expected import Expectation, Since, expectation
from refresh_pipelines.orchestration.assets import host_of
from refresh_pipelines.orchestration.breakers import Breakers, Log
from refresh_pipelines.orchestration.events import succeeded
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.herds import is_shared, member_ends, step_of, steps_ended
from refresh_pipelines.orchestration.internals import know_pools
from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import RANGE_END, RANGE_START, SOURCE, trigger_of
from refresh_pipelines.orchestration.waiting import hopeless
from refresh_pipelines.pauses import pauses
from refresh_pipelines.ranges import between
from refresh_pipelines.rhythms import Change, Rhythms, since_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import partition_keys

UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
KEPT = timedelta(seconds=2)
_PARTITION = "dagster/partition"
Answer = TypeVar("Answer")


class _Kept(Generic[Answer]):
    """The last answer to one question, while it is young enough."""

    def __init__(self, keep: timedelta) -> None:
        self.keep, self.asked, self.answer = keep.total_seconds(), float("-inf"), None

    answer: Answer | None

    def get(self, ask: Callable[[], Answer]) -> Answer:
        now = time.monotonic()
        if self.answer is None or now - self.asked >= self.keep:
            self.answer, self.asked = ask(), now
        return self.answer

    def forget(self) -> None:
        self.asked = float("-inf")


@dataclass(frozen=True)
class _Seen:
    """The partitions of a source with a success, as of its newest event."""

    newest: int | None
    keys: frozenset[str | None]


class Reads:
    """Answers for the ticks of one process.

    Args:
        specs: the sources that are asked about.
        sources: every source of the catalogue by stem, where that is more: what others require may be among them.
        keep: how long an answer is remembered; tests that change the instance in between say zero.
        noting: whether a source that is new or changed is written down; not where somebody asks about another time.
    """

    def __init__(
        self,
        specs: Iterable[SourceSpec],
        settings: Settings,
        keep: timedelta = KEPT,
        *,
        sources: Mapping[str, SourceSpec] | None = None,
        noting: bool = True,
    ) -> None:
        self.specs = tuple(specs)
        self.sources = {spec.source: spec for spec in self.specs} if sources is None else sources
        self.settings = settings
        self.noting = noting
        self._keep = keep
        self._steps: dict[str, _Kept[frozenset[str]]] = {}
        self._runs: _Kept[Sequence[dg.RunRecord]] = _Kept(keep)
        self._newest: _Kept[Mapping[dg.AssetKey, int | None]] = _Kept(keep)
        self._changes: _Kept[Mapping[str, tuple[Change, ...]]] = _Kept(timedelta(minutes=1) if keep else keep)
        self._logs: _Kept[Mapping[str, Log]] = _Kept(keep)
        everyone = {**self.sources, **{spec.source: spec for spec in self.specs}}
        self._breakers = Breakers(everyone.values(), settings, keeping=noting)
        self._seen: dict[str, _Seen] = {}
        self._noted: set[str] = set()

    def flights(self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime) -> list[Flight]:
        """Return the source's runs that are queued or in progress, whoever launched them, and are worth waiting for."""
        filters = dg.RunsFilter(statuses=list(UNDER_WAY))
        records = self._runs.get(lambda: instance.get_run_records(filters))
        folder = self.settings.data_dir
        return [
            _flight(instance, spec, record.dagster_run, now)
            for record in records
            if _concerns(record.dagster_run, spec)
            and step_of(spec) not in self._ended(instance, record.dagster_run)
            and not hopeless(instance, record, spec, now, folder)
        ]

    def _ended(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
        """Return the steps of a run that need not be waited for: of several sources one may take hours."""
        if not is_shared(run.tags):
            return frozenset()
        kept = self._steps.setdefault(run.run_id, _Kept(self._keep))
        return kept.get(lambda: steps_ended(instance, run.run_id))

    def succeeded(self, instance: dg.DagsterInstance, spec: SourceSpec) -> frozenset[str | None]:
        """Return the partitions that a refresh ever ended well for, (None,) for a source without partitions."""
        newest = self._newest.get(lambda: _newest_events(instance, self.specs)).get(key_of(spec))
        seen = self._seen.get(spec.source)
        if seen is None or seen.newest != newest or former_keys(spec):
            keys: Iterable[str | None] = succeeded(instance, spec) if spec.partitions else [None] * bool(newest)
            seen = self._seen[spec.source] = _Seen(newest, frozenset(keys))
        return seen.keys

    def logs(self, instance: dg.DagsterInstance) -> Mapping[str, Log]:
        """Return what the event log says of the failures of each source that has a breaker, by stem."""
        return self._logs.get(lambda: self._breakers.logs(instance))

    def breakers(self, instance: dg.DagsterInstance, specs: Iterable[SourceSpec], now: datetime) -> Mapping[str, State]:
        """Return the breakers of those of the sources that have one, by stem."""
        return self._breakers.states_of(
            instance, [spec for spec in specs if not spec.derived], self.logs(instance), now
        )

    def breaker(self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime) -> State:
        """Return the breaker of a source; closed for one that has none."""
        return self.breakers(instance, [spec], now).get(spec.source, State())

    def changes(self) -> Mapping[str, tuple[Change, ...]]:
        """Return the schedule-change log."""
        return self._changes.get(Rhythms(self.settings.data_dir).read)

    def note(self, instance: dg.DagsterInstance, now: datetime, specs: Iterable[SourceSpec] | None = None) -> None:
        """Bring the schedule-change log and the pools up to date, once in this process for each source."""
        new = [spec for spec in specs or self.specs if spec.source not in self._noted] if self.noting else []
        if new:
            known = _ever_refreshed(instance, new)
            Rhythms(self.settings.data_dir).note(
                new, now, lambda spec: first_refreshed(instance, spec) if spec.source in known else None
            )
            know_pools(instance, {host_of(spec) for spec in new if not spec.derived})
            self._noted |= {spec.source for spec in new}
            self._changes.forget()

    def since(self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime) -> Since:
        """Return from when the source's ticks count; the first one that is asked for has been enabled by `now`."""
        self.note(instance, now, [spec])
        return since_of(self.changes().get(spec.source, ()), self._resumed(spec)) or Since(now)

    def _resumed(self, spec: SourceSpec) -> datetime | None:
        logged = pauses(self.settings.data_dir, spec.source)
        return max((pause.resumed_at for pause in logged if pause.resumed_at), default=None)

    def expectation(self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime) -> Expectation | None:
        """Return what should be there of a source at `now`."""
        return expectation(spec, self.since(instance, spec, now), now, dynamic_keys(instance, spec))


def _ever_refreshed(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> set[str]:
    """Return which of the sources have any good refresh, in one question."""
    sources = {key: spec.source for spec in specs for key in (key_of(spec), *former_keys(spec))}
    return {sources[key] for key, place in newest_materializations(instance, sources).items() if place is not None}


def first_refreshed(instance: dg.DagsterInstance, spec: SourceSpec) -> datetime | None:
    """Return when a source was refreshed first, from the event log."""
    found = [
        record.timestamp
        for key in (key_of(spec), *former_keys(spec))
        for record in instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=1, ascending=True).records
    ]
    return datetime.fromtimestamp(min(found), timezone.utc) if found else None


def _newest_events(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> dict[dg.AssetKey, int | None]:
    return newest_materializations(instance, map(key_of, specs))


def _concerns(run: dg.DagsterRun, spec: SourceSpec) -> bool:
    # Runs from the UI bear no tag of ours until their first step begins.
    return run.tags.get(SOURCE) == spec.source or key_of(spec) in (run.asset_selection or ())


def _flight(instance: dg.DagsterInstance, spec: SourceSpec, run: dg.DagsterRun, now: datetime) -> Flight:
    ends = member_ends(run.tags, spec.source)
    single, first, last = (run.tags.get(name) for name in (_PARTITION, RANGE_START, RANGE_END))
    if ends:
        single, (first, last) = None, (ends[0], ends[-1])
    keys = frozenset([single] if single else [])
    if first or last:
        known = partition_keys(spec, now, dynamic_keys(instance, spec))
        try:
            keys = frozenset(between(spec, known, first, last))
        except ValueError:  # a range of partitions that the source has no more
            keys = frozenset(key for key in (first, last) if key)
    return Flight(run.run_id, keys, trigger_of(run.tags, spec.source))
