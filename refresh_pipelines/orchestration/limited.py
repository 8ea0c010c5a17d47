"""A refresh inside its time: ended when that is over, and visible to other processes while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import dagster as dg

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.limit import Limit, too_long
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.worker import Task, Worker

# Dagster ends whatever runs for longer than a day (`max_runtime_seconds` of dagster.yaml); so much is spare.
_RESERVE = timedelta(hours=12)


@contextmanager
def limited(spec: SourceSpec, keys: Sequence[str | None], started: str, worker: Worker) -> Iterator[Limit]:
    """Have a refresh of these partitions end when its time is over.

    Args:
        started: when it began, ISO text.
        worker: this process, which says what it does.

    Raises:
        RefreshError: it took longer than `time_limit`; or whatever the body raises.
    """
    seconds = spec.time_limit.total_seconds()
    task = Task(spec.name, tuple(keys), "", seconds, time.monotonic() + seconds, started)
    limit = Limit(seconds, lambda stage: worker.does(replace(task, stage=stage)))
    limit.start()
    try:
        yield limit
    except (RefreshError, dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        if not limit.up:
            raise
    else:
        return
    finally:
        limit.stop()
        worker.does(None)
    # Outside the handler: what it was interrupted in says nothing.
    raise too_long(limit.stage, spec.time_limit)


def allow(instance: dg.DagsterInstance, run_id: str, longest: timedelta) -> None:
    """Have Dagster's own limit leave time for a run over many partitions, where it would not."""
    if longest > _RESERVE:
        record = instance.get_run_record_by_id(run_id)
        spent = time.time() - record.start_time if record and record.start_time else 0.0
        seconds = int(spent + (longest + _RESERVE).total_seconds())
        instance.add_run_tags(run_id, {dg.MAX_RUNTIME_SECONDS_TAG: str(seconds)})
