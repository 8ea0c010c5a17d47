"""One process at a time for each partition of a source."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import quote

from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse.lock import held

_OTHER_FILES = 256


@contextmanager
def exclusive(spec: SourceSpec, partition: str | None, settings: Settings) -> Iterator[float]:
    """Let one process at a time refresh a partition, until its event is written; yield the seconds waited.

    Raises:
        WarehouseBusy: another process refreshed it for longer than REFRESH_LOCK_TIMEOUT.
    """
    name = spec.source + (f"@{quote(partition, safe='')}" if partition else "")
    lock = settings.data_dir / "locks" / f"{name}.lock"
    where = f"{spec.name}[{partition}]" if partition else spec.name
    with held(lock, settings.lock_timeout.total_seconds(), f"{where} is being refreshed: its lock") as wait:
        yield wait


@contextmanager
def exclusive_all(spec: SourceSpec, keys: Sequence[str | None], settings: Settings) -> Iterator[float]:
    """Let one process at a time refresh these partitions; yield the seconds waited. Raises as `exclusive`."""
    _make_room(len(keys))
    with ExitStack() as stack:
        yield sum(stack.enter_context(exclusive(spec, key, settings)) for key in keys)


def _make_room(files: int) -> None:
    """Raise our limit of open files: each lock is one, and macOS gives a process 256."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OTHER_FILES + files
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return
    with suppress(ValueError, OSError):  # where it may not be raised, the lock that has no room says so
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )
