"""Catalogue in, Dagster definitions out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.catalogue import Catalogue, load_catalogue
from refresh_pipelines.catalogue_now import note
from refresh_pipelines.clock import utc_now
from refresh_pipelines.collector import collection_paused
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.lastgood import remember, with_last_good
from refresh_pipelines.orchestration.assets import broken_assets, host_of, source_asset
from refresh_pipelines.orchestration.batches import batch_schedule_of, batches_due
from refresh_pipelines.orchestration.drops import files_sensor
from refresh_pipelines.orchestration.fresh import fresh_checks
from refresh_pipelines.orchestration.freshness import Freshness
from refresh_pipelines.orchestration.gates import Gates, derived_sensor
from refresh_pipelines.orchestration.herds import step_of
from refresh_pipelines.orchestration.io_manager import RefusingIOManager
from refresh_pipelines.orchestration.looks import batch_of
from refresh_pipelines.orchestration.overdue import overdue_sensor
from refresh_pipelines.orchestration.probes import probed, probes_sensor
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.retention_asset import RETENTION, retention_asset, retention_schedule
from refresh_pipelines.orchestration.schedules import MOST_OWN_TARGETS, source_schedule
from refresh_pipelines.orchestration.score_asset import SCORES, scores_asset, scores_schedule
from refresh_pipelines.orchestration.sensors import failure_sensor
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.watch import look

_LOG = logging.getLogger(__name__)


@collection_paused()
def build_definitions(
    settings: Settings,
    catalogue: Catalogue | None = None,
    *,
    only: Iterable[str] | None = None,
    workshop: Workshop | None = None,
) -> dg.Definitions:
    """Return the definitions of a catalogue.

    Args:
        settings: where everything is.
        catalogue: the sources. When not given they are read from the settings' folders, the good ones are
            remembered, and the broken ones run on what was last remembered of them.
        only: stems of the sources wanted, for a process that runs just these; schedules and sensors
            are then left out.
        workshop: makes the engine's tools; tests pass one with another clock or session.
    """
    wanted = None if only is None else set(only)
    catalogue = catalogue or _read(settings, wanted)
    workshop = workshop or Workshop(settings)
    declared = (spec.request.auth for spec in catalogue.sources.values())
    log.guard(settings.environ.get(auth.env, "").strip() for auth in declared if auth)
    specs = [spec for spec in catalogue.sources.values() if wanted is None or spec.source in wanted]
    assets = [source_asset(spec, workshop, catalogue.stale.get(spec.source), catalogue.sources) for spec in specs]
    resources = {"io_manager": RefusingIOManager()}
    if wanted is not None:
        return dg.Definitions(assets=assets, resources=resources, executor=dg.in_process_executor)
    shared, reads = len(specs) > MOST_OWN_TARGETS, Reads(specs, settings, workshop.keep)
    derived = [spec for spec in specs if spec.derived and spec.enabled]
    sensors = [derived_sensor(derived, Gates(catalogue.sources, reads), workshop)] if derived else []
    dropped = [spec for spec in specs if spec.request.drop and spec.enabled]
    sensors += [files_sensor(spec, workshop, reads, shared=shared) for spec in dropped]
    sensors += [probes_sensor(specs, workshop, reads)] if any(map(probed, specs)) else []
    freshness = Freshness(reads)
    alone = [spec for spec in specs if rhythm_of(spec) and not batch_of(spec)]
    schedules = [source_schedule(spec, workshop, reads, shared=shared) for spec in alone]
    batches = batches_due(specs)
    schedules += [batch_schedule_of(batch, members, workshop, reads) for batch, members in batches.items()]
    broken = broken_assets(catalogue)
    taken = {key_of(spec) for spec in specs} | {spec.key for spec in broken}  # a source may be called so
    if SCORES not in taken:
        assets.append(scores_asset(specs, workshop))
        schedules.append(scores_schedule(workshop, shared=shared))
    if RETENTION not in taken:
        assets.append(retention_asset(specs, workshop))
        schedules.append(retention_schedule(workshop, shared=shared))
    return dg.Definitions(
        assets=[*assets, *broken],
        asset_checks=fresh_checks(specs, freshness, workshop),
        schedules=schedules,
        sensors=[*sensors, failure_sensor(specs, freshness, workshop), overdue_sensor(specs, freshness, workshop)],
        resources=resources,
        # A run refreshes one source, or those of a batch on threads; a process per step would cost four seconds.
        executor=_executor(batches),
    )


def _executor(batches: Mapping[str, Sequence[SourceSpec]]) -> dg.ExecutorDefinition:
    """Return what executes the steps of a run; what is needed for batches is loaded where there are any."""
    if not batches:
        return dg.in_process_executor
    from refresh_pipelines.orchestration.internals_threads import run_executor  # noqa: PLC0415

    return run_executor({step_of(spec): host_of(spec) for members in batches.values() for spec in members})


def _read(settings: Settings, only: Collection[str] | None) -> Catalogue:
    seen = look(settings)
    catalogue = load_catalogue(settings.catalog, settings.environ)
    try:
        remember(catalogue, settings, utc_now(), only)
    except OSError as error:
        # Full or read-only: the sources run as well, until somebody breaks a file.
        _LOG.warning("What the sources say now could not be remembered: %s", error)
    working = with_last_good(catalogue, settings)
    note(settings, seen, working)
    return working
