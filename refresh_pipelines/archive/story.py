"""What a refresh does with the archive: keep what came before it is read, and write down what was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from refresh_pipelines.archive.journal import Journal, loaded, same
from refresh_pipelines.archive.keep import keep, origin_of
from refresh_pipelines.archive.store import Store
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import LoadState
from refresh_pipelines.window import Window


@dataclass
class Keeper:
    """The archive in the hands of one refresh; without a spec, and for a derived source, it keeps nothing.

    Attributes:
        payload: the entry that is being read; "" for none.
        keys: first and last partition, where one payload is of several.
    """

    spec: SourceSpec | None = None
    settings: Settings | None = None
    window: Window = field(default_factory=Window)
    run_id: str = ""
    trigger: str = "manual"
    payload: str = ""
    keys: tuple[str, ...] = ()
    kept: bool = False

    @classmethod
    def of(
        cls,
        spec: SourceSpec,
        settings: Settings,
        window: Window,
        run_id: str,
        *,
        trigger: str = "manual",
        keys: Sequence[str | None] = (),
    ) -> Keeper:
        """Return one for a refresh of `window`; of a range with its partitions."""
        if spec.derived:
            return cls()  # its result is made again whenever it is wanted
        ends = tuple(key or "" for key in (keys[0], keys[-1])) if keys else ()
        return cls(spec, settings, window, run_id, trigger, keys=ends)

    def has(self, payload: str, keys: Sequence[str] = ()) -> None:
        """Say that the payload lies in the archive already."""
        self.payload, self.keys, self.kept = payload, tuple(keys), True

    def keep(self, delivery: Delivery, folder: Path, now: datetime) -> Delivery:
        """Keep a delivery before it is read and return what is to be read. Raises as `keep.keep`."""
        if self.spec is None or self.settings is None or self.kept:
            return delivery
        delivery, entry = keep(
            self.spec, self.settings, delivery, self.window, folder, run_id=self.run_id, now=now, keys=self.keys
        )
        self.payload = entry.id if entry else ""
        return delivery

    def accepted(self, state: LoadState, known: LoadState | None, delivery: Delivery) -> None:
        """Write down a load whose transaction is still open. Raises InternalError, WarehouseBusy."""
        if self.spec is not None and self.settings is not None:
            origin = origin_of(delivery, self.window, self.keys)
            self._journal(self.settings).add(loaded(state, self.trigger, known, origin))

    def same(self, state: LoadState, delivery: Delivery) -> None:
        """Write down that other bytes said the same."""
        if self.spec is not None and self.settings is not None and state.payload:
            self._journal(self.settings).add(same(state, self.trigger, origin_of(delivery, self.window)))

    def _journal(self, settings: Settings) -> Journal:
        return Journal(Store(settings.data_dir, self.spec.source if self.spec else ""))
