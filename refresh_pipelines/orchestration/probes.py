"""The sensor `probes`: what is asked for again without a tick of a schedule.

Three kinds of runs: the probe of a source whose breaker is open; what its ticks had left undone, as soon as a probe
has found it well again; and a later try of partitions that failed for a passing reason. All three are derived from
the event log and the runs there are, so a daemon that is killed at any point asks for nothing twice and for
nothing never. Sources of dropped files are probed by their own sensor, with the next files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg

from refresh_pipelines.breaker import State, sentence
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.later import LaterTry, later_tries
from refresh_pipelines.orchestration.breakers import Log
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, shared_instance
from refresh_pipelines.orchestration.logged import log_requested
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.pause import paused_sources
from refresh_pipelines.orchestration.probing import Asking, probe_of, probe_tags
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.schedules import SWITCHED_OFF, hindrance
from refresh_pipelines.orchestration.tags import EXPIRED, PROBE, SOURCE, TRIGGER, range_tags, run_tags
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.ranges import runs_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys, partition_keys

INTERVAL = 60
# A dead host may have hundreds of sources. The others' runs stand in the same queue.
MOST_ASKED = 20
# So long after a probe it is looked whether something is left to do; the ticks since then have done it.
_AFTERWARDS = timedelta(days=7)
_MOMENT = timedelta(microseconds=1)
_RUN_KEY = "dagster/run_key"


def probes_sensor(specs: Sequence[SourceSpec], workshop: Workshop, reads: Reads) -> dg.SensorDefinition:
    """Return the sensor `probes` over the sources that are due at times; it runs unless somebody stops it."""
    return dg.SensorDefinition(
        name="probes",
        evaluation_fn=_Probes(specs, workshop, reads).tick,
        job_name=IMPLICIT_ASSET_JOB,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks again for what failed: later tries, probes of open breakers, and the rest after a good one.",
    )


def probed(spec: SourceSpec) -> bool:
    """Whether the sensor looks at a source."""
    return rhythm_of(spec) is not None and not spec.derived


@dataclass
class _Found:
    """What one evaluation asks for, and what it has to say."""

    probes: list[dg.RunRequest] = field(default_factory=list)
    others: list[dg.RunRequest] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def requests(self) -> list[dg.RunRequest]:
        """Return what is asked for now; the rest is found again a minute later."""
        return [*self.probes[:MOST_ASKED], *self.others[:MOST_ASKED]]


class _Probes:
    def __init__(self, specs: Sequence[SourceSpec], workshop: Workshop, reads: Reads) -> None:
        self.specs = [spec for spec in specs if probed(spec)]
        self.workshop, self.reads = workshop, reads
        # Probes after which nothing is left to do.
        self.done: set[str] = set()

    def tick(self, context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        settings = self.workshop.settings
        if not settings.schedules_enabled:
            return dg.SkipReason(SWITCHED_OFF)
        instance, now, found = shared_instance(context), self.workshop.clock(), _Found()
        paused = paused_sources(instance, settings, self.specs)
        logs = self.reads.logs(instance)
        specs = [spec for spec in self.specs if spec.source not in paused]
        states = self.reads.breakers(instance, specs, now)
        for spec in sorted(specs, key=lambda spec: _since(states[spec.source], now)):
            if states[spec.source].holds:
                self._probe(instance, spec, states[spec.source], now, found)
        well = {spec.source: spec for spec in specs if not states[spec.source].holds}
        self._go_on(instance, well, now, found)
        for spec in well.values():
            self._try_later(instance, spec, logs[spec.source], now, found)
        text = "\n".join(found.said) or "nothing is to be tried again"
        if not found.requests:
            return dg.SkipReason(text)
        context.log.info(text)
        log_requested("probes", found.requests)
        return dg.SensorResult(run_requests=found.requests)

    def _hindrance(self, instance: dg.DagsterInstance, spec: SourceSpec, now: datetime) -> str:
        rhythm = rhythm_of(spec)
        due = due_keys(spec, rhythm.newest(now), dynamic_keys(instance, spec)) if rhythm else []
        return hindrance(instance, spec, self.workshop.settings, self.reads, due, now)

    def _probe(
        self, instance: dg.DagsterInstance, spec: SourceSpec, state: State, now: datetime, found: _Found
    ) -> None:
        reason = self._hindrance(instance, spec, now)
        asking = None if reason else probe_of(instance, spec, self.reads, state, now)
        if asking:
            found.probes.append(_probe_request(spec, asking))
        found.said.append(f"{spec.name}: {reason or sentence(spec.source, state)}")

    def _go_on(
        self, instance: dg.DagsterInstance, specs: Mapping[str, SourceSpec], now: datetime, found: _Found
    ) -> None:
        """Ask for what ticks would have asked for while the breaker was open, by the rules of catch-up."""
        probes = list(self._good_probes(instance, specs, now))
        if not probes:
            return
        # It loads the warehouse's library, of which a code server has no need until a source is well again.
        from refresh_pipelines.orchestration.due import due_of  # noqa: PLC0415

        for run in probes:
            spec = specs[run.tags[SOURCE]]
            newest = instance.get_runs(dg.RunsFilter(tags={SOURCE: spec.source}), limit=1)
            untouched = [one.run_id for one in newest] == [run.run_id]
            due = due_of(instance, spec, self.workshop.settings, self.reads, now) if untouched else None
            if due is None or not due.orders:
                self.done.add(run.run_id)
                continue
            for order in due.orders:
                last = order.keys[-1] if order.keys else ""
                key = f"probe|{spec.source}|{run.tags.get(PROBE, run.run_id)}|{last}"
                tags = {**run_tags(spec, "catch_up"), **order.tags}
                found.others.append(_request(spec, key, tags, order.keys))
            found.said.append(f"{spec.name}: run {run.run_id[:8]} found it well again; what was left undone goes on")

    def _good_probes(
        self, instance: dg.DagsterInstance, specs: Mapping[str, SourceSpec], now: datetime
    ) -> Iterator[dg.DagsterRun]:
        """Yield the newest good probe of each source, where something may be left to do after it."""
        good = dg.RunsFilter(
            tags={TRIGGER: "probe"}, statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=now - _AFTERWARDS
        )
        seen: set[str] = set()
        for run in instance.get_runs(good):
            source = run.tags.get(SOURCE, "")
            if source in specs and source not in seen and run.run_id not in self.done:
                yield run
            seen.add(source)

    def _try_later(
        self, instance: dg.DagsterInstance, spec: SourceSpec, log: Log, now: datetime, found: _Found
    ) -> None:
        rhythm = rhythm_of(spec)
        if not log.waiting or rhythm is None:
            return
        longest = spec.breaker.probe_max
        for one in later_tries(spec.retry, log.waiting, lambda at: rhythm.first_from(at + _MOMENT), longest):
            if one.at > now:
                found.said.append(f"{spec.name}: a later try at {one.at:%Y-%m-%d %H:%M} UTC")
            elif reason := self._hindrance(instance, spec, now):
                found.said.append(f"{spec.name}: {reason}")
            elif requests := list(self._later_requests(instance, spec, one, now)):
                found.others += requests
                found.said.append(f"{spec.name}: what failed in run {one.run_id[:8]} is tried again")

    def _later_requests(
        self, instance: dg.DagsterInstance, spec: SourceSpec, one: LaterTry, now: datetime
    ) -> Iterator[dg.RunRequest]:
        """Yield the runs of a later try, without the partitions that a run is under way for, or was made for."""
        flights = self.reads.flights(instance, spec, now)
        tags, begin = run_tags(spec, "retry"), f"retry|{spec.source}|{one.run_id}"
        if any(not flight.keys for flight in flights):
            return
        taken = frozenset().union(*(flight.keys for flight in flights))
        wanted = {key for key in one.keys if key is not None and key not in taken}
        known = partition_keys(spec, now, dynamic_keys(instance, spec)) if spec.partitions else []
        for keys in runs_of(spec, wanted, known) if spec.partitions else [()]:
            run_key = f"{begin}|{keys[-1] if keys else ''}"
            made = instance.get_runs(dg.RunsFilter(tags={_RUN_KEY: run_key}), limit=1)
            while made and EXPIRED in made[0].tags:  # it never began, so it was no try
                run_key += "+"
                made = instance.get_runs(dg.RunsFilter(tags={_RUN_KEY: run_key}), limit=1)
            if not made:
                yield _request(spec, run_key, tags, keys)


def _since(state: State, now: datetime) -> datetime:
    return state.probe_at or now


def _probe_request(spec: SourceSpec, asking: Asking) -> dg.RunRequest:
    keys = () if asking.key is None else (asking.key,)
    return _request(spec, asking.run_key, probe_tags(spec, asking.number), keys)


def _request(spec: SourceSpec, run_key: str, tags: Mapping[str, str], keys: Sequence[str]) -> dg.RunRequest:
    spread = range_tags(keys) if len(keys) > 1 else {}
    return dg.RunRequest(
        run_key=run_key,
        tags={**tags, **spread},
        partition_key=keys[0] if len(keys) == 1 else None,
        asset_selection=[key_of(spec)],
        asset_check_keys=own_checks(spec),
    )
