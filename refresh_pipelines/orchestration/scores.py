"""The scores of all sources, from the event log, which is read once: each call goes on where the last one ended.

What is decided stands in `score`; here is what it needs of the instance. Never opens the warehouse.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import dagster as dg

from refresh_pipelines.orchestration.former import CARRIED, former_keys
from refresh_pipelines.orchestration.report import key_of, plain
from refresh_pipelines.orchestration.stream import AssetEvent, asset_events, newest_asset_event
from refresh_pipelines.pauses import pauses
from refresh_pipelines.rhythms import Change, same_since
from refresh_pipelines.score import Score, Ticks, score_of
from refresh_pipelines.score_parts import WINDOW
from refresh_pipelines.score_store import ScoreStore, with_store
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.tally import Said, Tally, refreshes_of, tally_of

_KINDS: tuple[AssetEvent, ...] = ("materialization", "observation")
_PAGE = 500
# What there is no time for within this, the next call does.
PATIENCE = timedelta(seconds=2)
_UNDECLARED = re.compile(r"fields that are not declared: ([^;]*)")


@dataclass(frozen=True)
class Asked:
    """What scores depend on beside the event log.

    Attributes:
        changes: the schedule-change log.
        patience: for how long events are read and scores worked out; None for as long as it takes.
    """

    settings: Settings
    specs: Sequence[SourceSpec]
    changes: Mapping[str, Sequence[Change]]
    now: datetime
    patience: timedelta | None = PATIENCE
    begun: float = field(default_factory=time.monotonic)

    @property
    def hurried(self) -> bool:
        """Whether time is over."""
        return self.patience is not None and time.monotonic() - self.begun > self.patience.total_seconds()


def score_totals(instance: dg.DagsterInstance, asked: Asked) -> dict[str, float]:
    """Return the score of each source that has one, to two places.

    A source whose score there is no time to work out has the one from before; none has any until the events of the
    last ninety days have been read.

    Raises:
        InternalError: the operational store cannot be used.
    """
    spans = _pauses(asked.settings)

    def work(store: ScoreStore) -> dict[str, float]:
        if not _tally(instance, store, asked):
            return {}
        newest, known = store.newest(), store.totals()
        pending, found = [], {}
        for spec in asked.specs:
            order, at = _newest(newest, spec)
            if spec.derived or at is None:
                continue
            before, total = known.get(spec.source, ("", None))
            basis = _basis(spec, _ticks(spec, asked, spans), order, asked.now)
            found[spec.source] = total
            if before != basis:
                # Those with something new in the log come before those that are only a day older, the newest first.
                older = before.rpartition(" ")[2] == basis.rpartition(" ")[2]
                pending.append((older, -at.timestamp(), spec, at, basis))
        new: dict[str, tuple[str, float | None]] = {}
        for _, _, spec, at, basis in sorted(pending, key=lambda one: one[:2]):
            if new and asked.hurried:
                break
            found[spec.source] = _score(store, spec, _ticks(spec, asked, spans), at, asked.now).total
            new[spec.source] = (basis, found[spec.source])
        if new:
            store.keep(new)
        return {source: round(total, 2) for source, total in found.items() if total is not None}

    return with_store(asked.settings.data_dir, work)


def score_in_full(instance: dg.DagsterInstance, spec: SourceSpec, asked: Asked) -> Score | None:
    """Return the score of one source with all its parts, as of the last event; None for a derived one.

    Raises:
        InternalError: the operational store cannot be used.
    """
    spans = _pauses(asked.settings)

    def work(store: ScoreStore) -> Score:
        _tally(instance, store, asked)
        _, at = _newest(store.newest(), spec)
        return _score(store, spec, _ticks(spec, asked, spans), at or asked.now, asked.now)

    return None if spec.derived else with_store(asked.settings.data_dir, work)


def _score(store: ScoreStore, spec: SourceSpec, ticks: Ticks, newest: datetime, now: datetime) -> Score:
    """Return the score as of the newest event, or of the beginning of the day where that is later.

    So it stays the same for a day in which nothing happens: whoever asks twice, and whoever reads `status.json`,
    has the same number, and a thousand quiet sources cost nothing.
    """
    return score_of(spec, refreshes_of(store.tallies(_names(spec))), ticks, max(newest, _midnight(now)))


def _midnight(now: datetime) -> datetime:
    return now.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def _names(spec: SourceSpec) -> list[str]:
    return [key.to_user_string() for key in (key_of(spec), *former_keys(spec))]


def _newest(newest: Mapping[str, tuple[int, datetime]], spec: SourceSpec) -> tuple[int, datetime | None]:
    """Return the place in the log of a source's newest event that counts, and the time of it; 0 and None without."""
    own = [newest[name] for name in _names(spec) if name in newest]
    return max((order for order, _ in own), default=0), max((at for _, at in own), default=None)


def _pauses(settings: Settings) -> Mapping[str, Sequence[tuple[datetime, datetime | None]]]:
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for pause in pauses(settings.data_dir):
        found.setdefault(pause.source, []).append((pause.paused_at, pause.resumed_at))
    return found


def _ticks(spec: SourceSpec, asked: Asked, spans: Mapping[str, Sequence[tuple[datetime, datetime | None]]]) -> Ticks:
    return Ticks(same_since(asked.changes.get(spec.source, ())), tuple(spans.get(spec.source, ())))


def _basis(spec: SourceSpec, ticks: Ticks, order: int, now: datetime) -> str:
    """Return all that a total depends on: the day, and after a blank everything else."""
    shape = [
        part.model_dump(mode="json") if part else None
        for part in (spec.freshness, spec.schedule, spec.partitions, spec.breaker)
    ]
    text = json.dumps([shape, spec.enabled, order, str(ticks)])
    return f"{_midnight(now):%Y-%m-%d} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _tally(instance: dg.DagsterInstance, store: ScoreStore, asked: Asked) -> bool:
    """Tally what is new in the event log; False if there was no time for all of it."""
    names = {name: spec for spec in asked.specs for name in _names(spec)}
    if any(newest_asset_event(instance, kind) < store.place(kind) for kind in _KINDS):
        store.forget()
    new = False
    for kind in _KINDS:
        while True:
            before = store.place(kind)
            since = None if before else asked.now - WINDOW
            page = asset_events(instance, kind, before, _PAGE, since)
            if page:
                new = True
                # If another process was faster, its place is the one to go on from.
                store.take(kind, before, page[-1].storage_id, _tallies(page, names))
            if len(page) < _PAGE:
                break
            if asked.hurried:
                return False
    if new:
        store.prune(asked.now)
    return True


def _tallies(page: Sequence[dg.EventLogRecord], names: Mapping[str, SourceSpec]) -> dict[str, list[Tally]]:
    out: dict[str, list[Tally]] = {}
    for record in page:
        name = record.asset_key.to_user_string() if record.asset_key else ""
        spec, said = names.get(name), _said(record, known=name in names)
        partitions = spec.partitions if spec else None
        tally = said and tally_of(said, periods=partitions is not None and partitions.time is not None)
        if tally:
            out.setdefault(name, []).append(tally)
    return out


def _said(record: dg.EventLogRecord, *, known: bool) -> Said | None:
    """Return what an event says; None for one that is no refresh, or that repeats another."""
    event = record.asset_materialization or record.asset_observation
    values = plain(event.metadata) if event else {}
    outcome = values.get("refresh/outcome") or ("loaded" if known and record.asset_materialization else "")
    if not outcome or CARRIED in values or values.get("refresh/trigger") == "replay":
        return None
    at = datetime.fromtimestamp(record.timestamp, timezone.utc)
    late = bool(values.get("refresh/recovered"))
    if late and values.get("refresh/started_at"):
        at = datetime.fromisoformat(str(values["refresh/started_at"]))  # logged late, by another run
    read = float(values.get("refresh/seconds_parse") or 0) > 0
    noted = _UNDECLARED.search(str(values.get("refresh/notes") or ""))
    return Said(
        record.storage_id,
        "" if late else record.run_id,
        at,
        record.partition_key,
        outcome,
        values.get("refresh/error_class") or "",
        values.get("refresh/trigger") or "manual",
        int(values.get("refresh/fetched") or 0),
        int(values.get("refresh/rejected") or 0),
        frozenset(noted.group(1).split(", ") if noted else ()) if read else None,
    )
