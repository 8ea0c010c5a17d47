"""The sensor `failures`: gathers what is wrong into incidents, and delivers notices that wait.

A run that fails tells so itself, last of all, and one that succeeds ends the incident. What is left to this sensor:
runs that died without a word or never began, what is overdue, breakers, reminders, and a receiver that was
down. It is an ordinary sensor: its cursor moves only past what is in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from refresh_pipelines.clock import utc_now
from refresh_pipelines.incident import Failure, Good, Incident
from refresh_pipelines.notice_log import log_found
from refresh_pipelines.notices import Look, Notices
from refresh_pipelines.orchestration.breaker_news import BreakerNews
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.incidents import (
    Rules,
    failures_after,
    goods_since,
    incomplete,
    never_started,
    newest_goods,
    newest_place,
    not_retried,
    standing,
)
from refresh_pipelines.orchestration.internals import shared_instance
from refresh_pipelines.orchestration.overdue import PATIENCE
from refresh_pipelines.orchestration.pause import paused_sources, watch_pauses
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.stuck import Ended, end_stuck
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.orchestration.unended import end_unended
from refresh_pipelines.spec import SourceSpec


def failure_sensor(specs: Sequence[SourceSpec], freshness: Freshness, workshop: Workshop) -> dg.SensorDefinition:
    """Return the sensor `failures` over the given sources."""
    watch = _Watch(specs, freshness, workshop)

    @dg.sensor(
        name="failures",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Opens and ends incidents, delivers what the webhook has not taken yet, and rewrites status.json.",
    )
    def failures(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        instance, notices = shared_instance(context), workshop.notices()
        ended = end_stuck(instance, workshop.settings)
        ended += end_unended(instance, workshop.settings, specs, utc_now())
        first = context.cursor is None
        cursor, found = watch.gather(instance, notices, None if first else int(context.cursor or 0))
        # Whatever comes now may fail without a loss: what was found is in the store.
        context.update_cursor(str(cursor))
        watch.look(instance, notices, first=first)
        watch.say_breakers(instance)
        problems = notices.deliver()
        write_status_file(instance, workshop.settings, alive=True)
        watch_pauses(instance, workshop.settings, specs, utc_now())
        return dg.SkipReason(_sentence(found, notices, problems, told=bool(workshop.settings.routes), ended=ended))

    return failures


class _Watch:
    """What the sensor asks of the instance; one for a process, which remembers what it has seen."""

    def __init__(self, specs: Sequence[SourceSpec], freshness: Freshness, workshop: Workshop) -> None:
        self.specs, self.freshness, self.workshop = specs, freshness, workshop
        self.rules = Rules(freshness.reads.sources.values(), workshop.settings)
        self._sources = {spec.source: spec for spec in specs}
        self._breaker_news = BreakerNews(workshop.settings)
        # By source with open incidents: the newest good refresh, and which incidents they were.
        self._seen: dict[str, tuple[int | None, frozenset[str]]] = {}

    def gather(self, instance: dg.DagsterInstance, notices: Notices, cursor: int | None) -> tuple[int, int]:
        """Report the failures after a cursor, None for the first time; return where it is then, and how many they are.

        Raises:
            sqlite3.Error: the store cannot be written; the cursor then stays where it is.
        """
        now = utc_now()  # as the event log writes it
        if cursor is None:
            for failure in self._without_a_word(instance, notices, now):
                notices.know(failure.run_id, failure.source)
            return newest_place(instance), 0
        found = failures_after(instance, cursor, self.specs, self.rules, now)
        for failure in (*found.failures, *self._without_a_word(instance, notices, now)):
            if notices.report(failure):
                log_found(failure)
        return found.cursor, len(found.failures)

    def look(self, instance: dg.DagsterInstance, notices: Notices, *, first: bool) -> None:
        """Enter what has changed since the last look, and have decided what is told."""
        now, settings = self.workshop.clock(), self.workshop.settings
        goods = self._goods(instance, notices)
        verdicts = self.freshness.verdicts(instance, self.specs, now, PATIENCE)
        breakers = self.freshness.reads.breakers(instance, self.specs, now)
        paused = paused_sources(instance, settings, self.specs) if settings.schedules_enabled else set(self._sources)
        awake = {spec.source for spec in self.specs if spec.enabled} - paused
        conditions = [one for one in standing(self.specs, verdicts, breakers, self.rules) if one.source in awake]
        judged = {"overdue": verdicts, "breaker": breakers}
        notices.look(Look(goods, conditions, judged, awake, first=first))

    def say_breakers(self, instance: dg.DagsterInstance) -> None:
        """Log which breakers have opened or closed since the last look."""
        states = self.freshness.reads.breakers(instance, self.specs, self.workshop.clock())
        self._breaker_news.say(self._sources, states)

    def _without_a_word(self, instance: dg.DagsterInstance, notices: Notices, now: datetime) -> list[Failure]:
        found = [*never_started(instance, self.specs, self.rules, now)]
        found += not_retried(instance, self.specs, self.rules, notices.known, now)
        return [*found, *incomplete(instance, self.specs, self.rules, notices.known)]

    def _goods(self, instance: dg.DagsterInstance, notices: Notices) -> list[tuple[SourceSpec, list[Good]]]:
        """Return the good refreshes of sources with open incidents, where one was logged since the last look."""
        held: dict[str, list[Incident]] = {}
        for incident in notices.open():
            if incident.source in self._sources:
                held.setdefault(incident.source, []).append(incident)
        newest = newest_goods(instance, [self._sources[source] for source in held])
        out, seen = [], {}
        for source, incidents in held.items():
            seen[source] = (newest.get(source), frozenset(one.id for one in incidents))
            if newest.get(source) is not None and self._seen.get(source) != seen[source]:
                spec, began_at = self._sources[source], min(one.began_at for one in incidents)
                out.append((spec, goods_since(instance, spec, began_at)))
        self._seen = seen
        return out


def _sentence(found: int, notices: Notices, problems: list[str], *, told: bool, ended: Sequence[Ended]) -> str:
    waiting = f"; {notices.waiting()} waiting: {problems[0]}" if problems else ""
    nobody = "" if told or not found else "; nobody was told: REFRESH_WEBHOOK_URL is not set"
    stuck = "".join(f"; run {one.run_id[:8]} ended: {one.why}" for one in ended)
    return f"{found} new failures{nobody}{waiting}{stuck}; status.json is current"
