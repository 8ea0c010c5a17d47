"""Whether a run that is queued or in progress is worth waiting for: one that is not holds no tick up.

Whoever finds such a run ends it soon (`stuck`, `expire`, Dagster's monitoring). A tick does not wait for that, and
without a daemon nobody else may come.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg

from refresh_pipelines.orchestration.tags import EXPIRING, trigger_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.worker import worker_of

# A run that was launched so long ago and is not running is not going to start.
STARTING = timedelta(minutes=15)
# Dagster marks a run as cancelled three minutes after it was asked to stop; only a daemon does.
_CANCELING = timedelta(minutes=15)
_BEFORE_START = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)


def hopeless(
    instance: dg.DagsterInstance, record: dg.RunRecord, spec: SourceSpec, now: datetime, data_dir: Path
) -> bool:
    """Whether nobody need wait for a run of a source that has not ended."""
    run = record.dagster_run
    if run.status is dg.DagsterRunStatus.QUEUED:
        limit = spec.schedule.expire if spec.schedule and trigger_of(run.tags) in EXPIRING else None
        return limit is not None and now - record.create_timestamp > limit
    if run.status in _BEFORE_START and never_began(instance, record, now):
        return True
    if run.status is dg.DagsterRunStatus.CANCELING and now - record.update_timestamp > _CANCELING:
        return True
    found = worker_of(data_dir, run.run_id)
    return found is not None and found.lost(time.monotonic())


def never_began(instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime) -> bool:
    """Whether a run was launched too long ago not to be running; the time in the queue does not count."""
    if now - record.create_timestamp <= STARTING:
        return False
    launched = instance.get_run_stats(record.dagster_run.run_id).launch_time
    since = datetime.fromtimestamp(launched, timezone.utc) if launched else record.create_timestamp
    return now - since > STARTING
