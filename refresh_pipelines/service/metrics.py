"""`/metrics`: how things are, in the words of Prometheus. The names are fixed; dashboards and rules rely on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from refresh_pipelines.orchestration.tallies import BOUNDS, Spread, Totals
from refresh_pipelines.service.board import View
from refresh_pipelines.service.models import SourceItem

SCHEDULE_STATES = ("enabled", "paused", "disabled", "broken")


def exposition(view: View, totals: Totals, now: datetime) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(view, totals, now))
    return generate_latest(registry)


def schedules_by_state(view: View) -> dict[str, int]:
    """Return how many sources have a schedule that runs, is paused, is disabled in the YAML, or cannot be read."""
    counted = Counter(_state(item) for item in view.items)
    return {state: counted[state] for state in SCHEDULE_STATES}


def _state(item: SourceItem) -> str:
    if item.incident == "broken_yaml":
        return "broken"
    return "disabled" if not item.enabled else "paused" if item.paused else "enabled"


class _Found(Collector):
    """Yields what was found, once."""

    def __init__(self, view: View, totals: Totals, now: datetime) -> None:
        self.view, self.totals, self.now = view, totals, now

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._counted()
        yield from self._of_now()

    def _counted(self) -> Iterator[Metric]:
        ticks = CounterMetricFamily("refresh_ticks", "Ticks of schedules, by what came of them.", labels=["result"])
        for result, count in self.totals.ticks.items():
            ticks.add_metric([result], count)
        yield ticks
        text = "Refreshes, one for each partition of a run, by outcome."
        runs = CounterMetricFamily("refresh_runs", text, labels=["source", "outcome"])
        for source, outcomes in sorted(self.totals.runs.items()):
            for outcome, count in sorted(outcomes.items()):
                runs.add_metric([source, outcome], count)
        yield runs
        text = "Bytes of accepted payloads that need not be transferred again, as the upstream said."
        saved = CounterMetricFamily("refresh_bytes_saved", text, labels=["source"])
        for source in sorted(self.totals.runs):
            saved.add_metric([source], self.totals.saved.get(source, 0))
        yield saved
        yield _histogram("refresh_run_seconds", "How long a refresh of one partition took.", self.totals.seconds)
        yield _histogram("refresh_lock_wait_seconds", "How long a refresh waited for locks.", self.totals.waits)

    def _of_now(self) -> Iterator[Metric]:
        schedules = GaugeMetricFamily("refresh_schedules", "Sources by the state of their schedule.", labels=["state"])
        for state, count in schedules_by_state(self.view).items():
            schedules.add_metric([state], count)
        yield schedules
        yield GaugeMetricFamily("refresh_queue_length", "Runs that wait in the queue.", value=self.view.queued)
        text = "Since the last good refresh; sources without one are left out."
        ages = GaugeMetricFamily("refresh_last_success_age_seconds", text, labels=["source"])
        overdue = GaugeMetricFamily("refresh_overdue", "1 where a source is overdue.", labels=["source"])
        for item in self.view.items:
            if item.last_success_at:
                ages.add_metric([item.source], self._age(datetime.fromisoformat(item.last_success_at)))
            if item.overdue is not None:
                overdue.add_metric([item.source], int(item.overdue))
        yield ages
        yield overdue
        text = "Since the daemon looked last; absent where none ever did."
        beat = GaugeMetricFamily("refresh_heartbeat_age_seconds", text, labels=[])
        if self.view.life.at:
            beat.add_metric([], self._age(self.view.life.at))
        yield beat

    def _age(self, at: datetime) -> float:
        return max(0.0, (self.now - at).total_seconds())


def _histogram(name: str, text: str, spread: Spread) -> HistogramMetricFamily:
    so_far, buckets = 0, []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), spread.counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=spread.sum)
