"""The probe of a source whose breaker is open: whether one is asked for now, of which partition, and its number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from refresh_pipelines.breaker import State, probe_key
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.tags import PROBE, SOURCE, TRIGGER, run_tags
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys


@dataclass(frozen=True)
class Asking:
    """One probe to ask for.

    Attributes:
        key: its one partition; None for a source without any.
        number: which probe of the source it is, from 1, since ever.
    """

    source: str
    key: str | None
    number: int

    @property
    def run_key(self) -> str:
        """Return the same key for the same probe, so that it is launched once whatever happens to the daemon."""
        return f"probe|{self.source}|{self.number}"


def probe_of(
    instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, state: State, now: datetime
) -> Asking | None:
    """Return the probe of a source that is due at times; None if it is not its time or a run of it is under way."""
    rhythm = rhythm_of(spec)
    if rhythm is None or not may_probe(state) or reads.flights(instance, spec, now):
        return None
    due = due_keys(spec, rhythm.newest(now), dynamic_keys(instance, spec))
    if spec.partitions is not None and not due:
        return None
    return Asking(spec.source, probe_key(spec, due, state.probes, now), next_number(instance, spec))


def may_probe(state: State) -> bool:
    """Whether a probe is due and none is under way."""
    return state.phase == "half_open" and not state.probing


def next_number(instance: dg.DagsterInstance, spec: SourceSpec) -> int:
    """Return the number of the source's next probe: one more than the newest run of one that is left."""
    runs = instance.get_runs(dg.RunsFilter(tags={SOURCE: spec.source, TRIGGER: "probe"}), limit=1)
    return max((int(run.tags.get(PROBE, "0")) for run in runs), default=0) + 1


def probe_tags(spec: SourceSpec, number: int) -> dict[str, str]:
    """Return the tags of a run that probes."""
    return {**run_tags(spec, "probe"), PROBE: str(number)}
