"""The catalogue as it is now, read anew only where a file of it has changed: a thousand sources take three seconds."""

from __future__ import annotations

from typing import NamedTuple

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.lastgood import working_catalogue
from refresh_pipelines.settings import Settings
from refresh_pipelines.watch import Look, look


class _Read(NamedTuple):
    """What was read last, for which settings, and what the files looked like before."""

    settings: Settings
    seen: Look
    catalogue: Catalogue


# At most one: a process works with one catalogue.
_last: list[_Read] = []


def catalogue_now(settings: Settings) -> Catalogue:
    """Return what `working_catalogue` would. With a broken file it is read anew each time: then others decide too."""
    seen = look(settings)
    for last in _last:
        if last.settings == settings and last.seen == seen and not (last.catalogue.broken or last.catalogue.stale):
            return last.catalogue
    catalogue = working_catalogue(settings)
    note(settings, seen, catalogue)
    return catalogue


def note(settings: Settings, seen: Look, catalogue: Catalogue) -> None:
    """Take down what somebody has read anyway.

    Args:
        settings: where its folders are, and the environment.
        seen: what `look` said before it was read.
        catalogue: with last good versions for what is broken.
    """
    _last[:] = [_Read(settings, seen, catalogue)]
