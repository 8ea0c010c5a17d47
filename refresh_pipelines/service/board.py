"""What the API shows, gathered once and remembered for some seconds, whoever asks and however often.

Catalogue and event log are asked; the warehouse is never opened. While one caller gathers, the others are given what
was gathered last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.catalogue_now import catalogue_now
from refresh_pipelines.clock import utc_now
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.heartbeat import Life, life_of
from refresh_pipelines.orchestration.asked import Instance, run_counts
from refresh_pipelines.orchestration.status import status_items
from refresh_pipelines.orchestration.tallies import Tallies, Totals
from refresh_pipelines.orchestration.trouble import told
from refresh_pipelines.service.models import SourceItem
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.states import all_well, state_of

KEPT = timedelta(seconds=5)
# Scores that are a day old are worked out anew for so long in one look.
_PATIENCE = timedelta(seconds=0.5)


@dataclass(frozen=True)
class View:
    """Everything as it was at an instant.

    Attributes:
        items: one for each source, as `refresh status --json` has them, by group and source.
        states: the word for each source, in the same order.
        ok: whether `refresh status` would end with 0.
        queued: runs that wait in Dagster's queue.
        running: runs that were launched and have not ended.
    """

    at: datetime
    catalogue: Catalogue
    items: tuple[SourceItem, ...]
    states: tuple[str, ...]
    ok: bool
    life: Life
    queued: int
    running: int

    def spec(self, source: str) -> SourceSpec | None:
        """Return a source that can be loaded."""
        return self.catalogue.sources.get(source)


class Board:
    """The views of one process.

    Args:
        settings: where everything is.
        instance: whose event log is asked.
        clock: what time it is.
        keep: how long a view is shown.
    """

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        clock: Callable[[], datetime] = utc_now,
        keep: timedelta = KEPT,
    ) -> None:
        self.settings, self.instance, self.clock, self.keep = settings, instance, clock, keep
        # One state-changing request at a time: two that ask for the same run are not both right.
        self.changing = Lock()
        self._gathering, self._view, self._until = Lock(), None, float("-inf")
        self._tallies = Tallies(settings)

    _view: View | None

    def view(self) -> View:
        """Return how things are, at most some seconds ago. Raises InternalError when the instance cannot be read."""
        view = self._view
        if view is not None and (time.monotonic() < self._until or self._gathering.locked()):
            return view
        with self._gathering:
            if self._view is None or time.monotonic() >= self._until:
                self._view = self._gather()
                self._until = time.monotonic() + self.keep.total_seconds()
            return self._view

    def forget(self) -> None:
        """Have the next caller see what was changed just now."""
        with self._gathering:
            self._view = None

    def totals(self, view: View) -> Totals:
        """Return the counters of `/metrics`."""
        with self._gathering, self._told():
            return self._tallies.look(self.instance, view.catalogue.sources.values(), self.clock())

    def ask_instance(self) -> None:
        """Put one cheap question to the instance. Raises InternalError when it cannot be read."""
        with self._told():
            run_counts(self.instance)

    def _told(self) -> AbstractContextManager[None]:
        return told(self.settings, "Dagster's history", "Nothing was changed.")

    def _gather(self) -> View:
        now, settings = self.clock(), self.settings
        with self._told():
            catalogue = catalogue_now(self.settings)
            found = status_items(self.instance, catalogue, now, settings, patience=_PATIENCE)
            queued, running = run_counts(self.instance)
        found.sort(key=lambda item: (item["group"], item["source"]))
        specs = catalogue.sources.values()
        blocked = {spec.source for spec in specs if spec.enabled and missing_key(spec, settings)}
        states = tuple(state_of(item, item["source"] in blocked) for item in found)
        items = tuple(SourceItem.model_validate(item) for item in found)
        life = life_of(settings.data_dir)
        return View(now, catalogue, items, states, all_well(found, states), life, queued, running)
