"""Tags of runs: who asked for a run, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refresh_pipelines.spec import SourceSpec

SOURCE, GROUP, TENANT, TRIGGER = "refresh/source", "refresh/group", "refresh/tenant", "refresh/trigger"
FORCE = "refresh/force"
# Of runs that load from the archive and ask nobody: `accepted`, `rebuild`, or `lossy` where payloads may be gone.
REPLAY = "refresh/replay"
# Of runs that load a payload which waited: its id, and who has accepted it.
ACCEPT, ACCEPTED_BY = "refresh/accept", "refresh/accepted_by"
# Of scheduled runs: the due tick that asked for it, and how many ticks it stands for where more than one was due.
TICK, COALESCED = "refresh/tick", "refresh/coalesced"
# Of runs that several sources share: the batch's name; by the stem of each source that the run is for, why, and which
# partitions, from the first key to the last; by that of each other source of the batch, why the tick asks nothing.
BATCH, MEMBER, KEYS, SKIPPED = "refresh/batch", "refresh/member/", "refresh/keys/", "refresh/skipped/"
# Of runs that were cancelled because they waited too long: when.
EXPIRED = "refresh/expired"
# The triggers of runs that are cancelled so; what people and backfills ask for waits as long as it must.
EXPIRING = ("schedule", "catch_up", "probe", "retry")
# Of runs whose process was killed, or was found dead: the run's own number, and when.
KILLED = "refresh/killed"
# How often Dagster launches a run again whose process has died.
MAX_RETRIES = "dagster/max_retries"
# Of runs that probe: the number of the probe, counted for each source.
PROBE = "refresh/probe"
# By these Dagster knows that a run covers the partitions from the first key to the last.
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_MARKS = {"dagster/backfill": "backfill", "dagster/schedule_name": "schedule", "dagster/sensor_name": "sensor"}


def was_killed(run_id: str, tags: Mapping[str, str]) -> bool:
    """Whether the process of a run was killed, or found dead."""
    return tags.get(KILLED, "").startswith(run_id[:8])


def trigger_of(tags: Mapping[str, str], source: str = "") -> str:
    """Return what triggered a run, from its own tag or from the marks Dagster leaves.

    Args:
        source: the stem of the source that is asked about, where the run may be one that several share.
    """
    said = tags.get(MEMBER + source) or tags.get(TRIGGER)
    return said or next((name for mark, name in _MARKS.items() if mark in tags), "manual")


def run_tags(spec: SourceSpec, trigger: str) -> dict[str, str]:
    """Return the tags every run of a source carries, whoever launched it."""
    tags = {SOURCE: spec.source, GROUP: spec.group, TRIGGER: trigger}
    return {**tags, TENANT: spec.tenant} if spec.tenant else tags


def range_tags(keys: Sequence[str]) -> dict[str, str]:
    """Return the tags that make a run cover the partitions from the first key to the last."""
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}
