"""The archive of a source that was renamed."""

from __future__ import annotations

from contextlib import suppress

from refresh_pipelines.archive.store import Store
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec


def follow_name(spec: SourceSpec, settings: Settings) -> None:
    """Give the payloads that were kept under one of `spec.aliases` to the source, if it has none of its own."""
    own = Store(settings.data_dir, spec.source).folder
    for alias in spec.aliases:
        old = Store(settings.data_dir, alias.rpartition("/")[2]).folder
        if old.is_dir() and not own.exists():
            with suppress(FileNotFoundError, FileExistsError):  # another process was first
                old.rename(own)
