"""Says in the log when a breaker has opened or closed.

Nothing happens at that moment: the state of a breaker is worked out from the event log by whoever asks. So it is
compared with what it was at the last look, which is kept for the next process.
"""

from __future__ import annotations

from collections.abc import Mapping

from refresh_pipelines import log
from refresh_pipelines.breaker import State, sentence
from refresh_pipelines.kept import Kept
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec


class BreakerNews:
    """What was said last of each breaker; one for a process."""

    def __init__(self, settings: Settings) -> None:
        self._kept = Kept(settings.data_dir, "breaker news 1")
        # Since when it was open, "" for closed.
        self._said: dict[str, str] | None = None

    def say(self, sources: Mapping[str, SourceSpec], states: Mapping[str, State]) -> None:
        """Log what is another state than at the last look, in this process or a former one."""
        if self._said is None:
            self._said = {source: since for source, (since, _) in self._kept.read().items()}
        new: dict[str, str] = {}
        for source, state in states.items():
            since = state.since.isoformat() if state.holds and state.since else ""
            if since != self._said.get(source, ""):
                new[source] = since
                _log(sources[source], state)
        self._kept.write({source: (since, "") for source, since in new.items()})
        self._said.update(new)


def _log(spec: SourceSpec, state: State) -> None:
    if not state.holds:
        log.event("breaker.closed", source=spec.source, group=spec.group)
        return
    log.event(
        "breaker.opened",
        sentence(spec.source, state),
        source=spec.source,
        group=spec.group,
        failures=state.failures,
        since=state.since,
        probe_at=state.probe_at,
        error_class=state.last.error_class if state.last else None,
    )
