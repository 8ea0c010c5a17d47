"""How fresh each source is, from the event log: one answer for the sensor `overdue`, the check `fresh` and `status`.

What is decided stands in `freshness`; here is what it needs of the instance, read for all sources at
once where it can be, and no second time while nothing has happened.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import dagster as dg

from refresh_pipelines.expected import Expectation, Since, expectation, rhythm_of
from refresh_pipelines.freshness import Facts, Verdict, freshness_of, judged, verdict_from, verdict_text
from refresh_pipelines.kept import Kept
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.pause import paused_sources
from refresh_pipelines.orchestration.reads import Reads, first_refreshed
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.pauses import pauses
from refresh_pipelines.rhythms import since_of
from refresh_pipelines.spec import SourceSpec

_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
# SQLite takes a limited number of values in one statement.
_AT_ONCE = 500
# So many refreshes are looked through for one that a tick had asked for.
_PAGE, _PAGES = 50, 40


@dataclass(frozen=True)
class _Success:
    """One good refresh, as its event tells it."""

    storage_id: int
    key: str | None
    at: datetime
    changed_at: datetime | None


@dataclass(frozen=True)
class _Judged:
    """A verdict, when it was reached and from what: it holds while that is the same and its time is not over."""

    basis: str
    at: datetime
    verdict: Verdict

    def holds(self, basis: str, now: datetime) -> bool:
        until = self.verdict.until
        return basis == self.basis and until is not None and self.at <= now < until


class Freshness:
    """Verdicts for one process, which asks again only about what has changed.

    Args:
        reads: from when ticks count.
    """

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        self._kept = Kept(reads.settings.data_dir, "freshness")
        self._kept_first = Kept(reads.settings.data_dir, "first_refreshed")
        self._first: dict[str, datetime] | None = None
        self._judged: dict[str, _Judged] | None = None
        self._ids: dict[str, tuple[tuple[int, ...], Mapping[str | None, int]]] = {}
        self._seen: dict[str, dict[int, _Success]] = {}

    def verdicts(
        self,
        instance: dg.DagsterInstance,
        specs: Iterable[SourceSpec],
        now: datetime,
        patience: timedelta | None = None,
    ) -> dict[str, Verdict]:
        """Return the verdict on each source, by stem; those that are not judged are left out.

        Not judged are sources that are disabled, paused or without a limit, and all of them while
        REFRESH_SCHEDULES_ENABLED is false. So is what there was no time for within `patience`: the next
        call takes it up.
        """
        wanted = [spec for spec in specs if judged(spec)] if self.reads.settings.schedules_enabled else []
        off = paused_sources(instance, self.reads.settings, wanted) if wanted else set()
        wanted = [spec for spec in wanted if spec.source not in off]
        places = newest_materializations(instance, (key for spec in wanted for key in _keys(spec)))
        resumed = self._resumed() if wanted else {}
        changes = self.reads.changes()
        judged_before = self._read_kept()
        begun, out, open_, new = time.monotonic(), {}, [], {}
        for spec in wanted:
            ids = [place for key in _keys(spec) if (place := places.get(key)) is not None]
            known = changes.get(spec.source, ())
            since = since_of(known, resumed.get(spec.source)) or self._since(instance, spec, ids, now)
            basis = _basis(spec, since, ids)
            one = judged_before.get(spec.source)
            if one is not None and one.holds(basis, now):
                out[spec.source] = one.verdict
            else:
                open_.append((spec, since, basis))
        newest = _newest(instance, [spec for spec, _, _ in open_])
        for spec, since, basis in open_:
            if patience is not None and time.monotonic() - begun > patience.total_seconds():
                break
            verdict = self._verdict(instance, spec, since, newest.get(spec.source, ()), now)
            out[spec.source], new[spec.source] = verdict, _Judged(basis, now, verdict)
        self._keep(new)
        return out

    def _read_kept(self) -> dict[str, _Judged]:
        """Return what this process has judged, and in the beginning what others have."""
        if self._judged is None:
            self._judged = {}
            for source, (basis, value) in self._kept.read().items():
                at, _, text = value.partition(" ")
                self._judged[source] = _Judged(basis, datetime.fromisoformat(at), verdict_from(text))
        return self._judged

    def _keep(self, new: Mapping[str, _Judged]) -> None:
        self._read_kept().update(new)
        lasting = {source: one for source, one in new.items() if one.verdict.until}
        self._kept.write(
            {
                source: (one.basis, f"{one.at.isoformat()} {verdict_text(one.verdict)}")
                for source, one in lasting.items()
            }
        )

    def _since(self, instance: dg.DagsterInstance, spec: SourceSpec, newest: Sequence[int], now: datetime) -> Since:
        """Return from when the ticks count of a source that nobody has noted yet; `Reads.note` would note the same."""
        if not newest or rhythm_of(spec) is None:
            return Since(now)
        if self._first is None:
            self._first = {source: datetime.fromisoformat(at) for source, (_, at) in self._kept_first.read().items()}
        if spec.source not in self._first:
            self._first[spec.source] = first_refreshed(instance, spec) or now
            self._kept_first.write({spec.source: ("", self._first[spec.source].isoformat())})
        return Since(self._first[spec.source])

    def _resumed(self) -> dict[str, datetime]:
        """Return when each source was resumed last; one reading for all of them."""
        found: dict[str, datetime] = {}
        for pause in pauses(self.reads.settings.data_dir):
            if pause.resumed_at:
                found[pause.source] = max(pause.resumed_at, found.get(pause.source, pause.resumed_at))
        return found

    def _verdict(
        self, instance: dg.DagsterInstance, spec: SourceSpec, since: Since, newest: Sequence[_Success], now: datetime
    ) -> Verdict:
        expected = expectation(spec, since, now, dynamic_keys(instance, spec))
        facts = self._facts(instance, spec, expected, newest)
        return freshness_of(spec, expected, facts, now, since)

    def _facts(
        self, instance: dg.DagsterInstance, spec: SourceSpec, expected: Expectation | None, newest: Sequence[_Success]
    ) -> Facts:
        if not newest:
            return Facts()
        latest = max(newest, key=lambda one: one.at)
        if expected is None:
            return Facts(latest.at, {latest.key}, changed_at=latest.changed_at)
        if spec.partitions is None:
            return Facts(latest.at, {None}, {None: latest.at}, lambda at: _no_later(latest.at, at), latest.changed_at)
        newest_ids = tuple(one.storage_id for one in newest)
        if self._ids.get(spec.source, ((), {}))[0] != newest_ids:
            self._ids[spec.source] = (newest_ids, _ids(instance, spec))
        ids = self._ids[spec.source][1]
        asked = self._read(instance, spec, [ids[key] for key in expected.asked if key in ids], newest)
        past = _Past(instance, spec, expected, newest)
        last = {one.key: one.at for one in asked}
        changed = [one.changed_at for one in asked if one.changed_at]
        if spec.freshness.changed and not changed:
            changed = [one.changed_at for one in [past.changed()] if one and one.changed_at]
        return Facts(latest.at, ids.keys(), last, past.asked_before, max(changed, default=None))

    def _read(
        self, instance: dg.DagsterInstance, spec: SourceSpec, ids: Collection[int], newest: Sequence[_Success]
    ) -> list[_Success]:
        """Return the refreshes of some storage ids; what was read before is not read again."""
        known = self._seen.get(spec.source, {}) | {one.storage_id: one for one in newest}
        new = [storage_id for storage_id in ids if storage_id not in known]
        for first in range(0, len(new), _AT_ONCE):
            for key in _keys(spec):
                some = dg.AssetRecordsFilter(key, storage_ids=new[first : first + _AT_ONCE])
                for record in instance.fetch_materializations(some, limit=_AT_ONCE).records:
                    known[record.storage_id] = _success(record)
        self._seen[spec.source] = {storage_id: known[storage_id] for storage_id in ids if storage_id in known}
        return list(self._seen[spec.source].values())


@dataclass
class _Past:
    """A source's refreshes of what ticks had asked for at their time, read backwards as far as is needed."""

    instance: dg.DagsterInstance
    spec: SourceSpec
    expected: Expectation
    newest: Sequence[_Success]
    # Answers so far, by the instant of the refresh: it is the answer for all instants up to the one asked about.
    _found: dict[datetime, datetime] = field(default_factory=dict)

    def asked_before(self, at: datetime) -> datetime | None:
        """Return the newest of them up to an instant."""
        known = next((found for found, asked in self._found.items() if found <= at <= asked), None)
        if known is not None:
            return known
        found = next((one.at for one in self._walk(at) if one.at <= at), None)
        if found is not None:
            self._found[found] = max(at, self._found.get(found, at))
        return found

    def changed(self) -> _Success | None:
        """Return the newest of them that knows when its rows changed."""
        return next((one for one in self._walk() if one.changed_at), None)

    def _walk(self, before: datetime | None = None) -> Iterator[_Success]:
        for one in sorted(self.newest, key=lambda one: one.at, reverse=True):
            if (before is None or one.at <= before) and self.expected.was_asked(one.key, one.at):
                yield one
        # What was carried over from an old name was logged later than it happened: bounded by its event all the same.
        for key in _keys(self.spec):
            cursor: str | None = None
            for _ in range(_PAGES):
                wanted = dg.AssetRecordsFilter(key, before_timestamp=before.timestamp() + 1e-6 if before else None)
                page = self.instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
                yield from (one for one in map(_success, page.records) if self.expected.was_asked(one.key, one.at))
                if not page.has_more:
                    break
                cursor = page.cursor


def _basis(spec: SourceSpec, since: Since, newest: Sequence[int]) -> str:
    """Return all that a verdict depends on but the time."""
    shape = [
        part.model_dump(mode="json") if part else None for part in (spec.freshness, spec.schedule, spec.partitions)
    ]
    enabled = str(since.enabled_at) if rhythm_of(spec) else ""
    text = json.dumps([shape, enabled, str(since.resumed_at), sorted(newest)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _no_later(found: datetime, at: datetime) -> datetime | None:
    return found if found <= at else None


def _keys(spec: SourceSpec) -> list[dg.AssetKey]:
    """Return the keys a source has and had, the present one first."""
    return [key_of(spec), *former_keys(spec)]


def _newest(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> dict[str, list[_Success]]:
    """Return the newest good refresh under each key of each source, in one question."""
    sources = {key: spec.source for spec in specs for key in _keys(spec)}
    out: dict[str, list[_Success]] = {}
    for record in instance.get_asset_records(list(sources)) if sources else ():
        newest = record.asset_entry.last_materialization_record
        if newest:
            out.setdefault(sources[record.asset_entry.asset_key], []).append(_success(newest))
    return out


def _ids(instance: dg.DagsterInstance, spec: SourceSpec) -> Mapping[str | None, int]:
    """Return the storage id of each partition's newest good refresh; the present key's counts, if there is one."""
    out: dict[str | None, int] = {}
    for key in reversed(_keys(spec)):
        out.update(instance.get_latest_storage_id_by_partition(key, _MATERIALIZED))
    return out


def _success(record: dg.EventLogRecord) -> _Success:
    event = record.asset_materialization
    values = {name: value.value for name, value in event.metadata.items()} if event else {}
    changed = values.get("refresh/changed_at")
    at = datetime.fromtimestamp(record.timestamp, timezone.utc)
    if values.get("refresh/recovered") and values.get("refresh/started_at"):
        at = datetime.fromisoformat(str(values["refresh/started_at"]))  # logged late: its time is that of its commit
    if values.get("refresh/asked_at"):
        at = datetime.fromisoformat(str(values["refresh/asked_at"]))  # a replay asks nobody
    return _Success(
        record.storage_id, record.partition_key, at, datetime.fromisoformat(str(changed)) if changed else None
    )
