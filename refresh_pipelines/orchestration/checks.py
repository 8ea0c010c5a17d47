"""Which checks a run is asked for: those that the source's own step makes.

Left to itself Dagster adds every check of an asset to a run of it, also `fresh`, which is no part of
a refresh: then the run would have a second step.
"""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.orchestration.report import COMPLETE, keeps_rest, key_of
from refresh_pipelines.plausible import judged
from refresh_pipelines.reconcile import reconciles
from refresh_pipelines.spec import SourceSpec

FRESH = "fresh"
# The check of sources whose payloads are compared with those that were accepted before.
PLAUSIBLE = "plausible"
# The check of tables that choose between sources: whether these agree. It warns and holds up nothing.
AGREE = "agree"


def own_checks(spec: SourceSpec) -> list[dg.AssetCheckKey]:
    """Return the checks that a run of the source is asked for: those its own step makes, and not `fresh`."""
    names = [*([COMPLETE] if keeps_rest(spec) else []), *([PLAUSIBLE] if judged(spec) else [])]
    names += [AGREE] if reconciles(spec) else []
    return [dg.AssetCheckKey(key_of(spec), name) for name in names]


def own_target(spec: SourceSpec) -> dg.AssetSelection:
    """Return the source's asset with the checks of its own step."""
    asset, checks = dg.AssetSelection.assets(key_of(spec)).without_checks(), own_checks(spec)
    return asset | dg.AssetSelection.checks(*checks) if checks else asset
