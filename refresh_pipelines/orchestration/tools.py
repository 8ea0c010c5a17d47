"""The engine's tools as a run needs them; constructs plain objects and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from refresh_pipelines.clock import utc_now
from refresh_pipelines.notices import Notices
from refresh_pipelines.settings import Settings

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.refresh import Tools
    from refresh_pipelines.warehouse import LoadState


@dataclass(frozen=True)
class Workshop:
    """Makes tools on demand, so that loading definitions opens nothing.

    Attributes:
        adjust: last word on the tools, for tests that need another clock or session.
        clock: what time ticks and sensors take it to be.
        keep: how long what they read of the instance is remembered.
    """

    settings: Settings
    adjust: Callable[[Tools], Tools] = field(default=lambda tools: tools)
    clock: Callable[[], datetime] = utc_now
    keep: timedelta = timedelta(seconds=2)

    def tools(self, progress: Callable[[str], None], recover: Callable[[LoadState], None]) -> Tools:
        """Return tools for one run."""
        from refresh_pipelines.fetch import Fetcher  # noqa: PLC0415
        from refresh_pipelines.refresh import Tools  # noqa: PLC0415
        from refresh_pipelines.warehouse import open_warehouse  # noqa: PLC0415

        tools = Tools(self.settings, open_warehouse(self.settings), Fetcher(self.settings))
        adjusted = self.adjust(tools)
        inner = adjusted.progress

        def both(stage: str) -> None:
            progress(stage)
            inner(stage)

        return replace(adjusted, progress=both, recover=recover)

    def notices(self) -> Notices:
        """Return the incidents and their outbox."""
        return Notices(self.settings, self.clock)
