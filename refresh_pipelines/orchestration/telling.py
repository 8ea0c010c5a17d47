"""The last thing a run does: it tells a person what failed or is over, and brings status.json up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.incident import Failure
from refresh_pipelines.notices import Look, Notices
from refresh_pipelines.orchestration.incidents import Rules, goods_since
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.redact import redact
from refresh_pipelines.spec import SourceSpec


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
            # As the event log writes its times, with which this one is compared.
            notices.report(Failure.of(spec.source, context.run_id, bad, utc_now(), rule))
            if not workshop.settings.webhook(rule.route):
                run_log.info("Nobody was told: REFRESH_WEBHOOK_URL is not set.")
                log.once("notice.nobody", "Nobody was told: REFRESH_WEBHOOK_URL is not set.", route=rule.route)
        _end_incidents(context.instance, notices, spec)
        for problem in notices.deliver():
            run_log.warning(f"A notice is waiting: {problem}. It will be sent by the next run or the daemon.")
        write_status_file(context.instance, workshop.settings)
    except (OSError, sqlite3.Error, RefreshError) as error:
        text = f"The notice or status.json could not be written: {redact(str(error), secrets)}"
        run_log.warning(text)
        log.event("log", text, level="warning", logger=__name__)


def _end_incidents(instance: dg.DagsterInstance, notices: Notices, spec: SourceSpec) -> None:
    """Have the good refreshes of a source end what was wrong with it before."""
    before = notices.open(spec.source)
    if before:
        since = min(incident.began_at for incident in before)
        notices.look(Look([(spec, goods_since(instance, spec, since))]))
