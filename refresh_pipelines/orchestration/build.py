"""Catalogue in, Dagster definitions out."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from refresh_pipelines.catalogue import Catalogue, load_catalogue
from refresh_pipelines.collector import collection_paused
from refresh_pipelines.orchestration.assets import broken_assets, source_asset
from refresh_pipelines.orchestration.io_manager import RefusingIOManager
from refresh_pipelines.orchestration.schedules import MOST_OWN_TARGETS, source_schedule
from refresh_pipelines.orchestration.sensors import failure_sensor
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings


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
        catalogue: the sources; read from the settings' folders when not given.
        only: stems of the sources wanted, for a process that runs just these; schedules and sensors
            are then left out.
        workshop: makes the engine's tools; tests pass one with another clock or session.
    """
    catalogue = catalogue or load_catalogue(settings.catalog, settings.environ)
    workshop = workshop or Workshop(settings)
    wanted = None if only is None else set(only)
    specs = [spec for spec in catalogue.sources.values() if wanted is None or spec.source in wanted]
    assets = [source_asset(spec, workshop) for spec in specs]
    resources = {"io_manager": RefusingIOManager()}
    if wanted is not None:
        return dg.Definitions(assets=assets, resources=resources, executor=dg.in_process_executor)
    shared = len(specs) > MOST_OWN_TARGETS
    return dg.Definitions(
        assets=[*assets, *broken_assets(catalogue)],
        schedules=[source_schedule(spec, settings, shared=shared) for spec in specs if spec.enabled],
        sensors=[failure_sensor(specs, workshop)],
        resources=resources,
        # A run refreshes one source; a process per step would cost four seconds and give nothing.
        executor=dg.in_process_executor,
    )
