"""Outcomes as Dagster events, and back: the only place that spells metadata keys and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from refresh_pipelines.outcome import Counts, Outcome, Seconds
from refresh_pipelines.spec import SourceSpec

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.warehouse import LoadState

COUNTS = tuple(Counts.__dataclass_fields__)
SECONDS = tuple(Seconds.__dataclass_fields__)
DATA_VERSION_TAG = "dagster/data_version"
# Metadata of a derived source's events, and tag of the runs that the sensor requests.
INPUTS = "refresh/inputs"
# Metadata of the events of a payload that waits, or that was loaded because somebody accepted it: its id.
QUARANTINE = "refresh/quarantine"
# What the body of an asset may yield.
Result = dg.MaterializeResult[None] | dg.AssetCheckResult
# The check of sources that load what came when some of their requests fail.
COMPLETE = "complete"
_LISTED = 12


def key_of(spec: SourceSpec) -> dg.AssetKey:
    """Return the asset key of a source: `[group, source]`."""
    return dg.AssetKey([spec.group, spec.source])


def keeps_rest(spec: SourceSpec) -> bool:
    """Whether a refresh of the source may end `partial`."""
    each = spec.request.each
    return spec.request.drop is not None or (each is not None and each.on_error == "keep_rest")


def failure_of(outcomes: Sequence[Outcome], partitions: int, *, again: bool) -> dg.Failure:
    """Return what a run ends with whose outcomes failed.

    Args:
        partitions: how many the run had.
        again: whether Dagster tries once more inside the run.
    """
    text = "\n".join(dict.fromkeys(outcome.message or "" for outcome in outcomes))
    if partitions > 1:
        names = listed([str(outcome.partition) for outcome in outcomes])
        text = f"{len(outcomes)} of {partitions} partitions failed: {names}\n{text}"
    classes = sorted({outcome.error_class or "internal" for outcome in outcomes})
    return dg.Failure(text, metadata={"refresh/error_class": ", ".join(classes)}, allow_retries=again)


def listed(names: Sequence[str]) -> str:
    """Name partitions in a sentence; of many the first ones and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def metadata_of(outcome: Outcome, *, recovered: bool = False) -> dict[str, Any]:
    """Return an outcome as event metadata (design §5)."""
    # In the order the UI shows them: the verdict first.
    values: dict[str, Any] = {
        "refresh/outcome": outcome.outcome,
        "refresh/error_class": outcome.error_class,
        "refresh/message": outcome.message,
        **{f"refresh/{name}": value for name, value in asdict(outcome.counts).items()},
        "refresh/bytes": outcome.bytes,
        "refresh/bytes_saved": outcome.bytes_saved if outcome.success else None,
        "refresh/validators": outcome.validators or None,
        "refresh/sha256": outcome.sha256,
        **{f"refresh/seconds_{name}": round(value, 4) for name, value in asdict(outcome.seconds).items()},
        "refresh/trigger": outcome.trigger,
        "refresh/started_at": outcome.started_at,
        "refresh/checked_at": outcome.checked_at.isoformat() if outcome.checked_at else None,
        "refresh/asked_at": outcome.asked_at.isoformat() if outcome.asked_at else None,
        "refresh/changed_at": outcome.changed_at.isoformat() if outcome.changed_at else None,
        "refresh/published_at": outcome.published_at.isoformat() if outcome.published_at else None,
        "refresh/retry_at": outcome.retry_at.isoformat() if outcome.retry_at else None,
        QUARANTINE: outcome.quarantine or None,
        "refresh/accepted_by": outcome.accepted_by or None,
        INPUTS: outcome.inputs or None,
        "refresh/notes": "; ".join(outcome.notes) or None,
        "refresh/recovered": recovered or None,
        "dagster/partition_row_count": outcome.partition_rows if outcome.partition else None,
        "dagster/row_count": outcome.table_rows,
    }
    return {name: value for name, value in values.items() if value is not None}


def materialization(spec: SourceSpec, outcome: Outcome, *, recovered: bool = False) -> dg.AssetMaterialization:
    """Return the event of a successful refresh; its data version is that of the accepted content."""
    return dg.AssetMaterialization(
        key_of(spec),
        partition=outcome.partition,
        metadata=metadata_of(outcome, recovered=recovered),
        tags={DATA_VERSION_TAG: outcome.data_version},
        description=outcome.message,
    )


def observation(spec: SourceSpec, outcome: Outcome) -> dg.AssetObservation:
    """Return the event of a refresh after which the table is not known to be current."""
    return dg.AssetObservation(
        key_of(spec), partition=outcome.partition, metadata=metadata_of(outcome), description=outcome.message
    )


def recovered_outcome(spec: SourceSpec, state: LoadState, trigger: str) -> Outcome:
    """Return the outcome that a commit had and whose event was lost."""
    return Outcome(
        spec.source,
        spec.group,
        state.partition or None,
        state.outcome,
        counts=state.counts,
        bytes=state.bytes,
        sha256=state.raw_sha256,
        data_version=state.data_version,
        run_id=state.run_id,
        started_at=state.committed_at.isoformat(timespec="seconds"),
        changed_at=state.changed_at,
        published_at=state.published_at,
        trigger=trigger,
        notes=[f"the event of run {state.run_id} was lost after its commit"],
    )


def plain(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    """Return metadata as plain values."""
    return {name: value.value for name, value in metadata.items()}


def outcome_from(
    spec_group: str, source: str, partition: str | None, run_id: str, values: Mapping[str, Any]
) -> Outcome:
    """Read an outcome back from the plain metadata of its event."""

    def number(name: str) -> Any:
        return values.get(f"refresh/{name}") or 0

    changed, published = values.get("refresh/changed_at"), values.get("refresh/published_at")
    retry_at = values.get("refresh/retry_at")
    return Outcome(
        source,
        spec_group,
        partition,
        values.get("refresh/outcome", "loaded"),
        counts=Counts(**{name: int(number(name)) for name in COUNTS}),
        seconds=Seconds(**{name: float(number(f"seconds_{name}")) for name in SECONDS}),
        bytes=int(number("bytes")),
        bytes_saved=int(number("bytes_saved")),
        validators=values.get("refresh/validators") or "",
        sha256=values.get("refresh/sha256") or "",
        error_class=values.get("refresh/error_class"),
        message=values.get("refresh/message"),
        changed_at=datetime.fromisoformat(changed) if changed else None,
        published_at=datetime.fromisoformat(published) if published else None,
        run_id=run_id,
        started_at=values.get("refresh/started_at"),
        trigger=values.get("refresh/trigger", "manual"),
        retry_at=datetime.fromisoformat(retry_at) if retry_at else None,
        quarantine=values.get(QUARANTINE) or "",
        accepted_by=values.get("refresh/accepted_by") or "",
    )
