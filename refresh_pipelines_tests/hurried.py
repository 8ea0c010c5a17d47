"""A bench whose refreshes have less time than `refresh check` allows a source."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from refresh_pipelines_tests.dagster_bench import Bench


class Hurried(Bench):
    """Attributes: `seconds`, the time limit of every source."""

    seconds = 0.3

    def catalogue(self):
        found = super().catalogue()
        limit = timedelta(seconds=self.seconds)
        sources = {name: spec.model_copy(update={"time_limit": limit}) for name, spec in found.sources.items()}
        return replace(found, sources=sources)
