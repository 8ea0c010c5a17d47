"""The last thing a run does: it tells a person what failed or is over, and brings status.json up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.incident import Failure
from refresh_pipelines.notices import Look, Notices
from refresh_pipelines.orchestration.incidents import Rules, goods_since
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.redact import redact
from refresh_pipelines.spec import SourceSpec

# Rewriting the file may take this part of a run's time, beside the one time when all of it is done.
_SHARE = 1 / 20


@dataclass
class _Rewriting:
    """How many assets of a run have ended in this process, and before when the file is not written again."""

    run_id: str = ""
    ended: int = 0
    until: float = 0.0


_rewriting = _Rewriting()
_counting, _writing = threading.Lock(), threading.Lock()


def tell(
    context: dg.AssetExecutionContext,
    spec: SourceSpec,
    workshop: Workshop,
    *,
    sources: Mapping[str, SourceSpec],
    bad: Sequence[Outcome],
    secrets: Sequence[str],
) -> None:
    """Enter what a run failed with, end the incidents that are over, deliver what waits, and rewrite status.json.

    Trouble with that is no trouble of the refresh: it is a warning in the run's log, and what was not told here the
    sensor `failures` tells.
    """
    notices, run_log = workshop.notices(), context.log
    try:
        if bad:
            rule = Rules(sources.values(), workshop.settings).of(spec)
            at = _failed_at(context.instance, spec, context.run_id)
            notices.report(Failure.of(spec.source, context.run_id, bad, at, rule))
            if not workshop.settings.webhook(rule.route):
                run_log.info("Nobody was told: REFRESH_WEBHOOK_URL is not set.")
                log.once("notice.nobody", "Nobody was told: REFRESH_WEBHOOK_URL is not set.", route=rule.route)
        _end_incidents(context.instance, notices, spec)
        for problem in notices.deliver():
            run_log.warning(f"A notice is waiting: {problem}. It will be sent by the next run or the daemon.")
        _rewrite_status(context, workshop)
    except history_errors(RefreshError) as error:
        text = f"The notice or status.json could not be written: {redact(str(error), secrets)}"
        run_log.warning(text)
        log.event("log", text, level="warning", logger=__name__)


def _rewrite_status(context: dg.AssetExecutionContext, workshop: Workshop) -> None:
    """Write the file of all sources, in a run over many assets only now and then and after the last of them.

    With two hundred sources it takes longer than to refresh one.
    """
    chosen = context.run.asset_selection
    with _counting:
        if _rewriting.run_id != context.run_id:
            _rewriting.run_id, _rewriting.ended, _rewriting.until = context.run_id, 0, 0.0
        _rewriting.ended += 1
        last = not chosen or _rewriting.ended >= len(chosen)
    # Sources that share a run end side by side: one writes for all, and the last waits to do so.
    if (time.monotonic() < _rewriting.until and not last) or not _writing.acquire(blocking=last):
        return
    try:
        begun = time.monotonic()
        write_status_file(context.instance, workshop.settings)
        ended = time.monotonic()
        _rewriting.until = ended + (ended - begun) / _SHARE
    finally:
        _writing.release()


def _failed_at(instance: dg.DagsterInstance, spec: SourceSpec, run_id: str) -> datetime:
    """Return when the run has written its failure, by the event log's clock: good refreshes are compared with it."""
    newest = instance.fetch_observations(key_of(spec), limit=1).records
    mine = [record.timestamp for record in newest if record.run_id == run_id]
    return datetime.fromtimestamp(mine[0], timezone.utc) if mine else utc_now()


def _end_incidents(instance: dg.DagsterInstance, notices: Notices, spec: SourceSpec) -> None:
    """Have the good refreshes of a source end what was wrong with it before."""
    before = notices.open(spec.source)
    if before:
        since = min(incident.began_at for incident in before)
        notices.look(Look([(spec, goods_since(instance, spec, since))]))
