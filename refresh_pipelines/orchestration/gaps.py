"""What the instance knows of due ticks: the tick history, the runs that stand for ticks, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, partial

import dagster as dg

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.decide import tick_text
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.gaps import (
    Filling,
    Finding,
    Horizon,
    Made,
    Seen,
    fillings_of,
    findings_of,
    horizon_of,
    missing_of,
)
from refresh_pipelines.orchestration.former import former_keys
from refresh_pipelines.orchestration.herds import coalesced_of
from refresh_pipelines.orchestration.internals_ticks import switch_of, switches, ticks_kept_days
from refresh_pipelines.orchestration.looks import is_of, looks_of, scheduled_runs
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.pause import pauses_of
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.runner import Order
from refresh_pipelines.orchestration.tags import EXPIRED, TICK
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

_MOMENT = timedelta(microseconds=1)
# SQLite takes a limited number of values in one statement.
_AT_ONCE = 500
# So many sources are asked about together: of each a season of runs is read, and let go.
_TOGETHER, _FEW = 25, 5


@dataclass(frozen=True)
class Account:
    """What became of a source's due ticks.

    Attributes:
        horizon: None for a source that is not due at times, or was never seen due.
        findings: one for each due tick, oldest first.
        missing: one for each missing partition.
        blocked: the variable without which nothing can be filled, None if there is none.
        fillings: the runs that would make up for it all, without those that are under way.
    """

    spec: SourceSpec
    horizon: Horizon | None = None
    findings: tuple[Finding, ...] = ()
    missing: tuple[Finding, ...] = ()
    blocked: str | None = None
    fillings: tuple[Filling, ...] = ()

    @property
    def good(self) -> bool:
        """Whether no tick is a gap and nothing is missing but for want of a key."""
        return not any(found.open for found in self.findings) and not (self.missing and not self.blocked)


def accounts_of(
    instance: dg.DagsterInstance,
    settings: Settings,
    specs: Sequence[SourceSpec],
    reads: Reads,
    wanted: datetime,
    now: datetime,
) -> list[Account]:
    """Return what became of the ticks of sources since `wanted`, or since they are due as they are now."""
    reads.note(instance, now, specs)
    kept, out = ticks_kept_days(instance), list[Account]()
    # One question for all of them; for a few, one each is less.
    switch = switches(instance).get if len(specs) > _FEW else partial(switch_of, instance)
    for first in range(0, len(specs), _TOGETHER):
        some = specs[first : first + _TOGETHER]
        horizons = {
            spec.source: horizon_of(reads.changes().get(spec.source, ()), wanted, kept, now, settings.keep_runs)
            if rhythm_of(spec)
            else None
            for spec in some
        }
        since = {name: horizon.start for name, horizon in horizons.items() if horizon}
        runs = runs_for_ticks(instance, some, since)
        for spec in some:
            horizon = horizons[spec.source]
            if horizon is None:
                out.append(Account(spec))
                continue
            seen = Seen(
                looks=looks_of(instance, spec, horizon.start - _MOMENT),
                runs=runs[spec.source],
                pauses=pauses_of(instance, settings, spec, switch),
                refreshed=cache(partial(last_refreshed, instance, spec)),
                dynamic=dynamic_keys(instance, spec),
            )
            out.append(_account(instance, settings, spec, reads, horizon, seen, now))
    return out


def _account(
    instance: dg.DagsterInstance,
    settings: Settings,
    spec: SourceSpec,
    reads: Reads,
    horizon: Horizon,
    seen: Seen,
    now: datetime,
) -> Account:
    rhythm = rhythm_of(spec)
    findings = findings_of(spec, rhythm, horizon.start, seen, now) if rhythm else []
    under_way = reads.flights(instance, spec, now)
    taken = frozenset().union(*(flight.keys for flight in under_way))
    expectation = reads.expectation(instance, spec, now)
    succeeded = reads.succeeded(instance, spec)
    missing = missing_of(expectation, succeeded, taken, findings, now)
    fillings = fillings_of(spec, findings, missing, now, seen.dynamic)
    # A run over the whole source, or of the same partitions, does what the filling would do.
    free = [one for one in fillings if not (under_way if not one.keys else taken & set(one.keys))]
    return Account(spec, horizon, tuple(findings), tuple(missing), missing_key(spec, settings), tuple(free))


def runs_for_ticks(
    instance: dg.DagsterInstance, specs: Sequence[SourceSpec], since: Mapping[str, datetime]
) -> dict[str, list[Made]]:
    """Return the runs that bear the tick they stand for, by source and oldest first, also those under an old name.

    Args:
        since: from when on, by source; one that is missing is not asked about.
    """
    names = {spec.source: _names_of(spec) for spec in specs if spec.source in since}
    out: dict[str, list[Made]] = {source: [] for source in names}
    if not names:
        return out
    everyone = [name for some in names.values() for name in some]
    records = scheduled_runs(instance, everyone, ["schedule", "catch_up"], created_after=min(since.values()))
    for record in reversed(records):
        run = record.dagster_run
        for source, some in names.items() if run.tags.get(TICK) else ():
            if record.create_timestamp > since[source] and any(is_of(run.tags, name) for name in some):
                out[source].append(_made(run, some))
    return out


def _names_of(spec: SourceSpec) -> list[str]:
    return [spec.source, *(key.path[-1] for key in former_keys(spec))]


def _made(run: dg.DagsterRun, names: Sequence[str]) -> Made:
    return Made(
        run.run_id,
        datetime.fromisoformat(run.tags[TICK].replace("Z", "+00:00")),
        max(coalesced_of(run.tags, name) for name in names),
        run.status.value.lower(),
        EXPIRED in run.tags,
    )


def last_refreshed(instance: dg.DagsterInstance, spec: SourceSpec) -> Mapping[str | None, datetime]:
    """Return when each partition (None: the source) was last refreshed with success."""
    out: dict[str | None, datetime] = {}
    for key in (*former_keys(spec), key_of(spec)):
        out |= _last_of(instance, key, partitioned=spec.partitions is not None)
    return out


def _last_of(instance: dg.DagsterInstance, key: dg.AssetKey, *, partitioned: bool) -> dict[str | None, datetime]:
    if not partitioned:
        newest = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=1).records
        return dict.fromkeys([None], _at(newest[0])) if newest else {}
    ids = [*instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).values()]
    out: dict[str | None, datetime] = {}
    for first in range(0, len(ids), _AT_ONCE):
        some = dg.AssetRecordsFilter(key, storage_ids=ids[first : first + _AT_ONCE])
        found = instance.fetch_materializations(some, limit=_AT_ONCE).records
        out |= {record.partition_key: _at(record) for record in found}
    return out


def _at(record: dg.EventLogRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp, timezone.utc)


def refreshed_since(
    instance: dg.DagsterInstance, spec: SourceSpec, keys: Sequence[str | None], at: datetime
) -> set[str | None]:
    """Return which of some partitions (None: the whole source) were refreshed with success after an instant."""
    out: set[str | None] = set()
    for first in range(0, len(keys), _AT_ONCE):
        some = [key for key in keys[first : first + _AT_ONCE] if key is not None]
        for asset in (key_of(spec), *former_keys(spec)):
            wanted = dg.AssetRecordsFilter(asset, asset_partitions=some or None, after_timestamp=at.timestamp())
            records = instance.fetch_materializations(wanted, limit=10_000 if some else 1).records
            out |= {record.partition_key if some else None for record in records}
    return out


def fill_orders(account: Account) -> list[Order]:
    """Return the runs that make up for an account's gaps; each bears the newest tick it stands for."""
    return [
        Order(account.spec, one.keys, trigger="catch_up", tags={TICK: tick_text(one.tick)}) for one in account.fillings
    ]
