"""The checks that the step of a source makes: whether all of it came (`complete`), and is like before (`plausible`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from refresh_pipelines.errors import InternalError
from refresh_pipelines.orchestration.checks import AGREE, PLAUSIBLE
from refresh_pipelines.orchestration.report import COMPLETE, keeps_rest
from refresh_pipelines.orchestration.tags import ACCEPT, ACCEPTED_BY
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.plausible import judged
from refresh_pipelines.quarantine import Accept, Quarantine, Record
from refresh_pipelines.quarantine_words import markdown
from refresh_pipelines.reconcile import reconciles
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

# An event is no place for a book: of more payloads that wait, the newest are shown.
_SHOWN = 5
_GOOD = "the payload is like those before; nothing of this source waits for a person"


def checks_of_run(
    spec: SourceSpec,
    settings: Settings,
    partial: Sequence[Outcome],
    held: Sequence[Outcome],
    apart: Sequence[str] = (),
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of a run that ends green, which Dagster wants of each check the step has.

    Args:
        spec: the source.
        settings: where records lie.
        partial: what did not come whole.
        held: what waits for a person.
        apart: what the sources of a reconciled table do not agree on.
    """
    if keeps_rest(spec):
        text = "; ".join(dict.fromkeys(outcome.message or "" for outcome in partial))
        yield dg.AssetCheckResult(
            check_name=COMPLETE, passed=not partial, description=text or "every request was answered"
        )
    if judged(spec):
        yield plausible(spec, settings, held)
    if reconciles(spec):
        text = "; ".join(apart) or "what several sources say lies within the tolerance"
        yield dg.AssetCheckResult(
            check_name=AGREE, passed=not apart, description=text, severity=dg.AssetCheckSeverity.WARN
        )


def accept_of(spec: SourceSpec, settings: Settings, tags: Mapping[str, str]) -> Accept | None:
    """Return the payload that a run is to load because a person has accepted it; None for every other run.

    Raises:
        InternalError: its record is gone.
    """
    if ACCEPT not in tags:
        return None
    record = Quarantine(settings.data_dir).get(spec.source, tags[ACCEPT])
    if record is None:
        raise InternalError(
            f"the record of payload {tags[ACCEPT]} is gone",
            todo="Nothing was loaded. `refresh quarantine list` shows what waits.",
        )
    return Accept(record, tags.get(ACCEPTED_BY, "somebody"))


def plausible(spec: SourceSpec, settings: Settings, held: Sequence[Outcome] = ()) -> dg.AssetCheckResult:
    """Return the check `plausible`: it fails while any payload of the source waits, also one of another partition.

    Args:
        spec: the source.
        settings: where records lie.
        held: what this run has found surprising, which may have been rejected before.
    """
    quarantine = Quarantine(settings.data_dir)
    own = [record for outcome in held if (record := quarantine.get(spec.source, outcome.quarantine))]
    known = {record.id for record in own}
    records = [*own, *(record for record in quarantine.waiting(spec.source) if record.id not in known)]
    return dg.AssetCheckResult(
        check_name=PLAUSIBLE,
        passed=not records,
        # The UI shows the description at once, as markdown, and the metadata only to whoever asks for it.
        description=_difference(records) if records else _GOOD,
        metadata=dict(_metadata(records)) if records else None,
    )


def _difference(records: Sequence[Record]) -> str:
    text = "\n\n---\n\n".join(map(markdown, records[:_SHOWN]))
    rest = len(records) - _SHOWN
    return text + (f"\n\nAnd {rest} more: `refresh quarantine list`." if rest > 0 else "")


def _metadata(records: Sequence[Record]) -> dict[str, dg.MetadataValue[str]]:
    return {
        "refresh/difference": dg.MetadataValue.md(_difference(records)),
        "refresh/quarantine": dg.MetadataValue.text(", ".join(record.id for record in records)),
    }
