"""Gates before sources that require others, and the sensor that builds derived ones when their inputs have changed.

What is decided stands in `gates`; here is what it needs of the instance. Never opens the warehouse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.gates import (
    Build,
    Built,
    Closed,
    Facts,
    Open,
    Report,
    Wait,
    changed_since,
    gate_of,
    inputs_of,
    next_build,
)
from refresh_pipelines.lineage import required_of
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.logged import log_requested
from refresh_pipelines.orchestration.reads import UNDER_WAY, Reads
from refresh_pipelines.orchestration.report import DATA_VERSION_TAG, INPUTS, key_of
from refresh_pipelines.orchestration.tags import SOURCE, run_tags
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

# SQLite takes a limited number of values in one statement.
_AT_ONCE = 500
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


@dataclass(frozen=True)
class _Known:
    """The newest materialization of each partition of an asset, as of its newest event."""

    newest: int | None
    ids: Mapping[str, int]
    reports: Mapping[str | None, Report]


class Gates:
    """Answers about gates for one process; what it has read of the event log it reads no second time.

    Args:
        sources: the catalogue's sources that can be loaded, by stem.
        reads: from when ticks count.
    """

    def __init__(self, sources: Mapping[str, SourceSpec], reads: Reads) -> None:
        self.sources, self.reads = sources, reads
        self._known: dict[str, _Known] = {}

    def facts(self, instance: dg.DagsterInstance, specs: Iterable[SourceSpec], now: datetime) -> dict[str, Facts]:
        """Return what is known of all sources that `specs` require, by stem."""
        needed = {one.source: one for spec in specs for one in required_of(spec, self.sources)}
        records = {
            record.asset_entry.asset_key: record
            for record in instance.get_asset_records([key_of(spec) for spec in needed.values()])
        }
        return {
            stem: Facts(
                self.reads.expectation(instance, spec, now), self._reports(instance, spec, records.get(key_of(spec)))
            )
            for stem, spec in needed.items()
        }

    def gate(
        self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime, keys: Sequence[str] = ()
    ) -> Open | Closed:
        """Return whether a source may be refreshed now; `keys` are the partitions about to be."""
        return gate_of(spec, self.sources, self.facts(instance, [spec], now), now, keys) if spec.requires else Open()

    def _reports(
        self, instance: dg.DagsterInstance, spec: SourceSpec, record: dg.AssetRecord | None
    ) -> Mapping[str | None, Report]:
        newest = record.asset_entry.last_materialization_record if record else None
        if newest is None:
            return {}
        known = self._known.get(spec.source)
        if known is None or known.newest != newest.storage_id:
            known = self._known[spec.source] = _read(instance, spec, newest, known)
        return known.reports


def _read(instance: dg.DagsterInstance, spec: SourceSpec, newest: dg.EventLogRecord, known: _Known | None) -> _Known:
    """Read what is new since the last time: one statement for the ids, and one for each five hundred new events."""
    if spec.partitions is None:
        return _Known(newest.storage_id, {}, {None: _report(newest)})
    ids = instance.get_latest_storage_id_by_partition(key_of(spec), _MATERIALIZED)
    before = known or _Known(None, {}, {})
    reports: dict[str | None, Report] = {
        key: one for key, one in before.reports.items() if key and ids.get(key) == before.ids.get(key)
    }
    new = [storage_id for key, storage_id in ids.items() if key not in reports]
    for first in range(0, len(new), _AT_ONCE):
        some = dg.AssetRecordsFilter(key_of(spec), storage_ids=new[first : first + _AT_ONCE])
        for record in instance.fetch_materializations(some, limit=_AT_ONCE).records:
            reports[record.partition_key] = _report(record)
    return _Known(newest.storage_id, ids, reports)


def _report(record: dg.EventLogRecord) -> Report:
    event = record.asset_materialization
    at = datetime.fromtimestamp(record.timestamp, timezone.utc)
    if event is None:
        return Report(at)
    changed = event.metadata.get("refresh/changed_at")
    changed_at = datetime.fromisoformat(str(changed.value)) if changed else None
    return Report(at, (event.tags or {}).get(DATA_VERSION_TAG, ""), changed_at)


@dataclass(frozen=True)
class Ready:
    """What a run of a derived source begins with.

    Attributes:
        inputs: hash of its inputs' data versions, read before the warehouse is: what changes in between is
            built once more and found unchanged, and never missed.
        tables: the raw tables its query may read.
        notes: what is late.
        refused: why there is nothing to build from, empty if there is.
    """

    inputs: str
    tables: frozenset[str]
    notes: tuple[str, ...] = ()
    refused: str = ""


def ready(
    instance: dg.DagsterInstance,
    spec: SourceSpec,
    sources: Mapping[str, SourceSpec],
    settings: Settings,
    now: datetime,
) -> Ready:
    """Look at a derived source's inputs. A run is not held up by one that is late: whoever launched it decided that."""
    required = required_of(spec, sources)
    facts = Gates(sources, Reads(required, settings)).facts(instance, [spec], now)
    gate = gate_of(spec, sources, facts, now)
    tables = frozenset(one.raw_table for one in required)
    if isinstance(gate, Open):
        return Ready(inputs_of(spec, facts), tables, gate.notes)
    return Ready(inputs_of(spec, facts), tables, (gate.reason,), gate.reason if gate.never else "")


def gate_by_hand(instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, now: datetime) -> Open | Closed:
    """Return the gate of a source for a command that has read no catalogue yet."""
    sources = load_catalogue(settings.catalog, settings.environ).sources
    return Gates(sources, Reads(required_of(spec, sources), settings)).gate(instance, spec, now)


def derived_sensor(derived: Sequence[SourceSpec], gates: Gates, workshop: Workshop) -> dg.SensorDefinition:
    """Return the sensor `derived`, which requests a build of each derived source whose inputs have changed."""

    @dg.sensor(
        name="derived",
        target=dg.AssetSelection.assets(*(key_of(spec) for spec in derived)),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds derived sources when the data versions of what they require have changed.",
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not workshop.settings.schedules_enabled:
            return dg.SkipReason("REFRESH_SCHEDULES_ENABLED is false")
        now = workshop.clock()
        facts = gates.facts(context.instance, derived, now)
        built = _builds(context.instance, derived)
        requests, waits, paused = [], [], open_pauses(workshop.settings.data_dir)
        for spec in derived:
            if spec.source in paused:
                waits.append(f"{spec.name}: paused; `refresh resume {spec.source}` ends it")
                continue
            found = _decide(context.instance, spec, gates, facts, built.get(spec.source), now)
            if isinstance(found, Build):
                requests.append(_request(spec, found, built.get(spec.source)))
            else:
                waits.append(f"{spec.name}: {found.reason}")
        text = "\n".join(waits)
        if not requests:
            return dg.SkipReason(text)
        if text:
            context.log.info(text)
        log_requested("derived", requests)
        return dg.SensorResult(run_requests=requests)

    return sense


def builds_due(
    instance: dg.DagsterInstance, derived: Sequence[SourceSpec], gates: Gates, now: datetime
) -> dict[str, Build | Wait]:
    """Return for each derived source, by stem, the build its inputs ask for now, or why there is none."""
    facts, built = gates.facts(instance, derived, now), _builds(instance, derived)
    return {spec.source: _decide(instance, spec, gates, facts, built.get(spec.source), now) for spec in derived}


def _decide(
    instance: dg.DagsterInstance,
    spec: SourceSpec,
    gates: Gates,
    facts: Mapping[str, Facts],
    built: Built | None,
    now: datetime,
) -> Build | Wait:
    inputs = inputs_of(spec, facts)
    return next_build(
        gate_of(spec, gates.sources, facts, now),
        inputs,
        built,
        asked_for=lambda: _tag(instance, built.run_id) if built else None,
        failures=lambda: _failures(instance, spec, inputs, built),
        building=lambda: _building(instance, spec),
        refreshing=lambda: _refreshing(instance, required_of(spec, gates.sources)),
        changed=changed_since(spec, facts, built),
        now=now,
    )


def _builds(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> dict[str, Built]:
    """Return the newest good build of each source that has one."""
    names = {key_of(spec): spec.source for spec in specs}
    out = {}
    for record in instance.get_asset_records(list(names)):
        newest = record.asset_entry.last_materialization_record
        event = newest.asset_materialization if newest else None
        if newest and event:
            inputs = event.metadata.get(INPUTS)
            at = datetime.fromtimestamp(newest.timestamp, timezone.utc)
            out[names[record.asset_entry.asset_key]] = Built(str(inputs.value) if inputs else "", newest.run_id, at)
    return out


def _tag(instance: dg.DagsterInstance, run_id: str) -> str | None:
    run = instance.get_run_by_id(run_id)
    return run.tags.get(INPUTS) if run else None


def _failures(instance: dg.DagsterInstance, spec: SourceSpec, inputs: str, built: Built | None) -> list[datetime]:
    filters = dg.RunsFilter(tags={SOURCE: spec.source, INPUTS: inputs}, statuses=_ENDED_BADLY)
    ended = [record.update_timestamp for record in instance.get_run_records(filters, limit=10)]
    return [at for at in ended if built is None or at > built.at]


def _building(instance: dg.DagsterInstance, spec: SourceSpec) -> str | None:
    found = _run_of(instance, [spec])
    return f"run {found[0].run_id[:8]} builds it already" if found else None


def _refreshing(instance: dg.DagsterInstance, required: Sequence[SourceSpec]) -> str | None:
    found = _run_of(instance, required)
    return f"waits for run {found[0].run_id[:8]} of {found[1].name} to end" if found else None


def _run_of(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> tuple[dg.DagsterRun, SourceSpec] | None:
    """Return a run of one of the sources that is queued or in progress, whoever launched it."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    return next(((run, spec) for spec in specs for run in runs if _concerns(run, spec)), None)


def _concerns(run: dg.DagsterRun, spec: SourceSpec) -> bool:
    return run.tags.get(SOURCE) == spec.source or key_of(spec) in (run.asset_selection or ())


def _request(spec: SourceSpec, build: Build, built: Built | None) -> dg.RunRequest:
    # The same inputs may come back after others, and are then built anew: the build in between is part of the key.
    since = built.run_id[:8] if built else "first"
    return dg.RunRequest(
        run_key=f"{spec.source}|{build.inputs}|{since}|{build.attempt}",
        tags={**run_tags(spec, "sensor"), INPUTS: build.inputs},
        asset_selection=[key_of(spec)],
        asset_check_keys=own_checks(spec),
    )
