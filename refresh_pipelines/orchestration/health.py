"""What can be wrong with a Dagster instance, as plain values: for `refresh doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

import dagster as dg
import yaml

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.settings import Settings

_FRESH = 120.0


@dataclass(frozen=True)
class Health:
    """An instance as it is set and as it goes.

    Attributes:
        max_runs: how many runs may be under way at once; None for no limit.
        granularity: what a pool counts, `run` or `op`.
        closed_pools: pools whose limit is 0.
        daemons: the numbers of all daemons that have given a life sign within two minutes.
        newest_run: when the newest run was asked for.
    """

    monitored: bool
    max_runs: int | None
    granularity: str
    closed_pools: tuple[str, ...]
    sqlite: bool
    runs: int
    daemons: tuple[str, ...]
    newest_run: datetime | None


def health_at(settings: Settings, now: datetime) -> tuple[Health | None, str]:
    """Return the health of our instance, or why it cannot be opened."""
    try:
        with open_instance(settings) as instance:
            return _health_of(instance, now), ""
    except (RefreshError, dg.DagsterError, yaml.YAMLError) as error:
        return None, " ".join(str(error).split())[:500]


def _health_of(instance: dg.DagsterInstance, now: datetime) -> Health:
    concurrency = instance.get_concurrency_config()
    queue = concurrency.run_queue_config
    most = queue.max_concurrent_runs if queue else -1
    granularity = concurrency.pool_config.pool_granularity
    newest = instance.get_run_records(limit=1)
    beats = instance.get_daemon_heartbeats().values()
    fresh = {beat.daemon_id or "" for beat in beats if now.timestamp() - beat.timestamp < _FRESH}
    return Health(
        monitored=instance.run_monitoring_enabled,
        max_runs=most if most >= 0 else None,
        granularity=granularity.value if granularity else "op",
        closed_pools=tuple(sorted(p.name for p in instance.event_log_storage.get_pool_limits() if p.limit == 0)),
        sqlite="sqlite" in type(instance.run_storage).__name__.lower() or "sqlite" in _url(instance),
        runs=instance.get_runs_count(),
        daemons=tuple(sorted(fresh)),
        newest_run=newest[0].create_timestamp.astimezone(timezone.utc) if newest else None,
    )


def _url(instance: dg.DagsterInstance) -> str:
    """Return the class of the store behind a combined one."""
    reference = instance.get_ref().storage_data
    return reference.class_name.lower() if reference else ""
