"""The breakers of all sources, from the event log: one answer for ticks, the sensor `probes` and `status`.

What is decided stands in `breaker` and `later`; here is what they need of the instance. A source is read again
only where something was logged of it. What was read is kept for the next process; the log alone is the truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.breaker import Event, Probe, State, Try, failed_tries, state_of
from refresh_pipelines.kept import Kept
from refresh_pipelines.later import Waiting, waiting_of
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.internals import ever_observed, observed_since
from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines.orchestration.report import key_of, plain
from refresh_pipelines.orchestration.silent import silent_failures
from refresh_pipelines.orchestration.tags import SOURCE, TRIGGER
from refresh_pipelines.resets import resets
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

# How far reading has come; no source is called so.
_OBSERVED, _FAILED = "|observed", "|failed"
# Another one whenever `Log` is another.
_KIND = "breaker 1"
_PAGE, _PAGES = 200, 50
_AT_ONCE = 500
# Up to so many observations are looked through at once for the sources that have any; beyond it each is asked for.
_MOST_OBSERVED = 5_000
_MOST_UNKEPT = 100


@dataclass(frozen=True)
class Log:
    """What the event log says of a source's failures.

    Attributes:
        tries: the refreshes that failed since the newest success, oldest first.
        waiting: the partitions that wait for a later try.
        silent: steps that failed without an event, which are read once.
    """

    tries: tuple[Try, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    silent: tuple[Event, ...] = ()


_QUIET = Log()


class Breakers:
    """Breaker states for one process, which reads again only what has changed.

    Args:
        specs: all sources of the catalogue; derived ones have no breaker, because they ask no upstream.
        settings: where the operational store is, and what others have read.
        keeping: whether what is read is kept for others; not where somebody only asks.
    """

    def __init__(self, specs: Iterable[SourceSpec], settings: Settings, *, keeping: bool = True) -> None:
        self.specs = [spec for spec in specs if not spec.derived]
        self.settings, self.keeping = settings, keeping
        self._kept = Kept(settings.data_dir, _KIND)
        self._known: dict[str, tuple[str, Log]] | None = None
        self._cursors: dict[str, int] = {}

    def states(self, instance: dg.DagsterInstance, now: datetime) -> dict[str, State]:
        """Return the state of each source that has a breaker, by stem.

        Raises:
            InternalError: the operational store cannot be used.
        """
        return self.states_of(instance, self.specs, self.logs(instance), now)

    def states_of(
        self, instance: dg.DagsterInstance, specs: Iterable[SourceSpec], logs: Mapping[str, Log], now: datetime
    ) -> dict[str, State]:
        """Return the states of some sources that follow from what was read of the log before."""
        known = [(spec.source, spec.breaker, logs.get(spec.source, _QUIET).tries) for spec in specs]
        found = {source: state_of(breaker, tries, now) for source, breaker, tries in known}
        if not any(state.holds for state in found.values()):
            return found
        forgiven = resets(self.settings.data_dir)
        found = {source: state_of(breaker, tries, now, forgiven.get(source)) for source, breaker, tries in known}
        held = {source: state.last.at for source, state in found.items() if state.holds and state.last}
        probes = newest_probes(instance, list(held), min(held.values())) if held else {}
        return {
            source: state_of(breaker, tries, now, forgiven.get(source), probes.get(source))
            for source, breaker, tries in known
        }

    def logs(self, instance: dg.DagsterInstance) -> dict[str, Log]:
        """Return what the log says of each source, by stem."""
        known = self._read_kept()
        newest = _newest(instance, self.specs)
        observed, seen = observed_since(instance, self._cursors.get(_OBSERVED))
        steps = {key_of(spec).to_python_identifier(): key_of(spec) for spec in self.specs}
        silent, failed = silent_failures(instance, steps, self._cursors.get(_FAILED))
        gone, cursors = _without_runs(instance, known), {_OBSERVED: seen, _FAILED: failed}
        first = _OBSERVED not in self._cursors
        ever = ever_observed(instance, _MOST_OBSERVED) if first else None
        new: dict[str, tuple[str, Log]] = {}
        for spec in self.specs:
            basis, before = json.dumps(newest[spec.source]), known.get(spec.source)
            told = {key for key in _keys(spec) if key in observed or key in silent}
            if before is None or before[0] != basis or told or spec.source in gone:
                unsaid = (*(before[1].silent if before else ()), *silent.get(key_of(spec), ()))
                quiet = ever is not None and not unsaid and ever.isdisjoint(_keys(spec))
                log = _QUIET if quiet else _read(instance, spec, newest[spec.source], unsaid)
                new[spec.source] = (basis, log)
                if first and len(new) % _MOST_UNKEPT == 0:
                    # Of a first reading that is broken off the next one finds what was done.
                    self._keep(new, cursors, ())
        self._keep(new, cursors, {key.path[-1] for key in observed})
        return {spec.source: self._read_kept()[spec.source][1] for spec in self.specs}

    def _read_kept(self) -> dict[str, tuple[str, Log]]:
        """Return what this process has read, and in the beginning what others have."""
        if self._known is None:
            entries = self._kept.read()
            self._cursors = {name: int(entries[name][1]) for name in (_OBSERVED, _FAILED) if name in entries}
            self._known = {
                source: (basis, log_from(text)) for source, (basis, text) in entries.items() if "|" not in source
            }
        return self._known

    def _keep(self, new: Mapping[str, tuple[str, Log]], cursors: dict[str, int], observed: Iterable[str]) -> None:
        entries = {source: (basis, log_text(log)) for source, (basis, log) in new.items()}
        mine = {spec.source for spec in self.specs}
        # Of a source that this process does not know the next one has to read what was passed over here.
        entries |= {source: ("unread", log_text(_QUIET)) for source in observed if source not in mine}
        entries |= {name: ("", str(at)) for name, at in cursors.items() if self._cursors.get(name) != at}
        if self.keeping:
            self._kept.write(entries)
        self._read_kept().update(new)
        self._cursors = cursors


def newest_probes(instance: dg.DagsterInstance, sources: Sequence[str], since: datetime) -> dict[str, Probe]:
    """Return the newest probe of each of the sources that was asked for after an instant."""
    found: dict[str, Probe] = {}
    for first in range(0, len(sources), _AT_ONCE):
        some = sources[first : first + _AT_ONCE]
        filters = dg.RunsFilter(tags={TRIGGER: "probe", SOURCE: list(some)}, created_after=since)
        for record in instance.get_run_records(filters, ascending=True):
            run = record.dagster_run
            found[run.tags[SOURCE]] = Probe(run.run_id, record.create_timestamp, not run.is_finished)
    return found


def _keys(spec: SourceSpec) -> list[dg.AssetKey]:
    return [key_of(spec), *former_keys(spec)]


def _newest(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> dict[str, dict[str, int]]:
    """Return the place in the log of the newest success under each key of each source, in one question."""
    sources = {key: spec.source for spec in specs for key in _keys(spec)}
    out: dict[str, dict[str, int]] = {spec.source: {} for spec in specs}
    for key, place in newest_materializations(instance, sources).items():
        if place is not None:
            out[sources[key]][key.to_user_string()] = place
    return out


def _without_runs(instance: dg.DagsterInstance, known: Mapping[str, tuple[str, Log]]) -> set[str]:
    """Return the sources whose newest failure somebody has deleted: it is none any more."""
    last = {log.tries[-1].run_id: source for source, (_, log) in known.items() if log.tries and log.tries[-1].run_id}
    ids, there = list(last), set()
    for first in range(0, len(ids), _AT_ONCE):
        runs = instance.get_runs(dg.RunsFilter(run_ids=ids[first : first + _AT_ONCE]))
        there |= {run.run_id for run in runs}
    return {source for run_id, source in last.items() if run_id not in there}


def _read(instance: dg.DagsterInstance, spec: SourceSpec, newest: Mapping[str, int], silent: Sequence[Event]) -> Log:
    """Read the source's events backwards: those since its newest success, and at least one page."""
    events: list[Event] = []
    success, since = max(newest.values(), default=-1), -1
    if _is_quiet(instance, spec, success, silent):
        return _QUIET
    for key in _keys(spec):
        page = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=_PAGE)
        events += map(_event, page.records)
        # What lies further back may have been settled by a success that was not read.
        since = max(since, page.records[-1].storage_id if page.has_more else -1)
        cursor: str | None = None
        for _ in range(_PAGES):
            page = instance.fetch_observations(dg.AssetRecordsFilter(key), limit=_PAGE, cursor=cursor)
            events += map(_event, page.records)
            if not page.has_more or page.records[-1].storage_id < success:
                break
            cursor = page.cursor
    gone = _deleted(instance, silent)
    lasting = tuple(event for event in silent if event.order > success and event.run_id not in gone)
    return Log(failed_tries([*events, *lasting]), waiting_of(events, since), lasting)


def _is_quiet(instance: dg.DagsterInstance, spec: SourceSpec, success: int, silent: Sequence[Event]) -> bool:
    """Whether the last word on a source without partitions is a success, which is mostly so and asked in two rows."""
    if spec.partitions is not None or any(event.order > success for event in silent):
        return False
    newest: list[dg.EventLogRecord] = []
    for key in _keys(spec):
        wanted = dg.AssetRecordsFilter(key)
        newest += instance.fetch_materializations(wanted, limit=1).records
        newest += instance.fetch_observations(wanted, limit=1).records
    last = max(newest, key=lambda record: record.storage_id, default=None)
    return last is not None and _event(last).success


def _deleted(instance: dg.DagsterInstance, silent: Sequence[Event]) -> set[str]:
    """Return the runs of silent failures that are gone; of other events Dagster deletes those of the run."""
    ids = [event.run_id for event in silent]
    return set(ids) - {run.run_id for run in instance.get_runs(dg.RunsFilter(run_ids=ids))} if ids else set()


def _event(record: dg.EventLogRecord) -> Event:
    event = record.asset_materialization or record.asset_observation
    values = plain(event.metadata) if event else {}
    said = values.get("refresh/outcome") or ("loaded" if record.asset_materialization else "")
    said = "" if values.get("refresh/trigger") == "replay" else said  # which says nothing of the upstream
    retry_at = values.get("refresh/retry_at")
    return Event(
        record.storage_id,
        record.run_id,
        datetime.fromtimestamp(record.timestamp, timezone.utc),
        record.partition_key,
        said,
        values.get("refresh/error_class") or "",
        values.get("refresh/trigger") or "manual",
        values.get("refresh/message") or "",
        datetime.fromisoformat(retry_at) if retry_at else None,
        own=not values.get("refresh/recovered"),
    )


def log_text(log: Log) -> str:
    """Write what was read of a source as JSON."""
    return json.dumps(asdict(log), default=lambda at: at.isoformat())


def log_from(text: str) -> Log:
    """Read back what `log_text` has written."""
    parts = json.loads(text)
    for one in (*parts["tries"], *parts["waiting"], *parts["silent"]):
        one["at"] = datetime.fromisoformat(one["at"])
        one["retry_at"] = datetime.fromisoformat(one["retry_at"]) if one["retry_at"] else None
    return Log(
        tuple(Try(**one) for one in parts["tries"]),
        tuple(Waiting(**one) for one in parts["waiting"]),
        tuple(Event(**one) for one in parts["silent"]),
    )
