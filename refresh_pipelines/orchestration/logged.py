"""What runs and ticks leave in the log, in the words of its events; decides nothing."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.decide import Request
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.tags import GROUP, PROBE, RANGE_END, RANGE_START, SOURCE, TRIGGER, trigger_of
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.settings import LogLevel
from refresh_pipelines.spec import SourceSpec


def about_run(run: dg.DagsterRun, spec: SourceSpec) -> AbstractContextManager[None]:
    """Have every line inside name the run, its source and its trigger."""
    return log.bound(source=spec.source, group=spec.group, run_id=run.run_id, trigger=trigger_of(run.tags, spec.source))


def log_ended(outcome: Outcome, message: str, attempt: int, trace: str | None = None) -> None:
    """Log what became of one partition, once for each run."""
    bad = outcome.outcome not in GOOD_EXIT
    seconds = {f"seconds_{name}": value for name, value in asdict(outcome.seconds).items()}
    log.event(
        "refresh.ended",
        message,
        level="error" if outcome.outcome in ("failed", "quarantined") else "warning" if bad else "info",
        partition=outcome.partition,
        outcome=outcome.outcome,
        error_class=outcome.error_class,
        **asdict(outcome.counts),
        bytes=outcome.bytes,
        sha256=outcome.sha256,
        seconds=outcome.seconds.total,
        **seconds,
        attempt=attempt,
        traceback=trace,
    )


def log_retried(outcome: Outcome, attempt: int, attempts: int) -> None:
    """Log a try that failed and is made again in the same run."""
    log.event(
        "refresh.retried",
        outcome.message or "",
        partition=outcome.partition,
        error_class=outcome.error_class,
        attempt=attempt,
        attempts=attempts,
    )


def trace_of(error: RefreshError) -> str:
    """Return where an error came from, as Python prints it."""
    return "".join(traceback.format_exception(error))


def log_requested(by: str, requests: Iterable[dg.RunRequest], due_at: datetime | None = None) -> None:
    """Log the runs that a schedule or sensor asks for.

    Args:
        by: its name.
        requests: the runs, with our tags.
        due_at: the instant of the tick, for a schedule.
    """
    for request in requests:
        tags, probe = request.tags, request.tags.get(PROBE)
        ends = [tags[name] for name in (RANGE_START, RANGE_END) if name in tags]
        log.event(
            "breaker.probe_requested" if probe else "tick.requested",
            source=tags.get(SOURCE),
            group=tags.get(GROUP),
            partition=request.partition_key or "...".join(ends),
            trigger=tags.get(TRIGGER),
            by=by,
            run_key=request.run_key,
            probe=int(probe) if probe else None,
            due_at=due_at,
        )


def log_shared(
    by: str, due: Iterable[tuple[SourceSpec, Request]], run_key: str | None, due_at: datetime | None = None
) -> None:
    """Log the run that a schedule asks for on behalf of several sources, once for each of these."""
    for spec, request in due:
        log.event(
            "tick.requested",
            source=spec.source,
            group=spec.group,
            partition="...".join(dict.fromkeys([*request.keys[:1], *request.keys[-1:]])),
            trigger=request.trigger,
            by=by,
            run_key=run_key,
            due_at=due_at,
        )


def log_skipped(
    by: str, spec: SourceSpec, reason: str, due_at: datetime | None = None, level: LogLevel = "info"
) -> None:
    """Log why a schedule or sensor asks for nothing."""
    log.event("tick.skipped", level=level, source=spec.source, group=spec.group, by=by, due_at=due_at, reason=reason)


def range_sentence(
    spec: SourceSpec, keys: Sequence[str | None], results: Sequence[Outcome | RefreshError], wait: float
) -> str:
    """Return what became of several partitions that one request served."""
    good = [result for result in results if isinstance(result, Outcome)]
    loaded = [outcome for outcome in good if outcome.outcome == "loaded"]
    added, updated = (sum(getattr(outcome.counts, name) for outcome in loaded) for name in ("added", "updated"))
    return (
        f"{spec.name}[{keys[0]}...{keys[-1]}]: one request for {len(keys)} partitions, {len(loaded)} loaded, "
        f"{len(good) - len(loaded)} without a change, {len(keys) - len(good)} failed, added {added}, "
        f"updated {updated}, waited {wait:.1f} s"
    )


def sentence_of(spec: SourceSpec, outcome: Outcome) -> str:
    """Return what became of one partition."""
    where = f"{spec.name}[{outcome.partition}]" if outcome.partition else spec.name
    counts = outcome.counts
    return (
        f"{where}: {outcome.outcome}, fetched {counts.fetched}, added {counts.added}, updated {counts.updated}, "
        f"unchanged {counts.unchanged}, deleted {counts.deleted}, {outcome.seconds.total:.1f} s"
        + (f" ({outcome.message})" if outcome.message else "")
    )
