"""Our definitions with Dagster's default executor, a process per step, for a code server that `drain` starts."""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.settings import Settings


def _built() -> dg.Definitions:
    # In a function: Dagster wants one object of definitions at module scope.
    ours = build_definitions(Settings.load())
    return dg.Definitions(assets=ours.assets, resources=ours.resources, executor=dg.multiprocess_executor)


defs = _built()
