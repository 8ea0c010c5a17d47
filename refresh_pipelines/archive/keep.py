"""Keep what came before anything of it is read, and give it back as if it had just come."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from refresh_pipelines.archive.clean import Change, masking, rewritten
from refresh_pipelines.archive.entry import ArchiveEntry, KeptPart, Origin, entry_id
from refresh_pipelines.archive.fields import Fields
from refresh_pipelines.archive.journal import Journal
from refresh_pipelines.archive.store import Store
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.errors import InternalError
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part
from refresh_pipelines.validators import Validators
from refresh_pipelines.window import Window


def keep(
    spec: SourceSpec,
    settings: Settings,
    delivery: Delivery,
    window: Window,
    folder: Path,
    *,
    run_id: str,
    now: datetime,
    keys: Sequence[str] = (),
) -> tuple[Delivery, ArchiveEntry | None]:
    """Keep a payload in the archive; return the delivery that is to be read, and the entry.

    What is read is what was kept: where something had to be masked, the parts are those without it.

    Args:
        folder: the refresh's own, for parts that are masked.
        keys: first and last partition, where the payload is of several.

    Raises:
        UpstreamUnavailable, ContractViolation: a field to be masked cannot be found; nothing was kept.
        InternalError: the archive cannot be written.
        WarehouseBusy: another process held the source's folder in it for too long.
    """
    if not delivery.parts:
        return delivery, None
    delivery, masked = clean(spec, settings, delivery, folder)
    store = Store(settings.data_dir, spec.source)
    packed: list[tuple[KeptPart, Path]] = []
    try:
        packed += (store.pack(part.path) for part in delivery.parts)
        about = [*delivery.received, *[None] * (len(packed) - len(delivery.received))]
        parts = tuple(
            replace(kept, names=dict(part.names), received=said)
            for (kept, _), part, said in zip(packed, delivery.parts, about, strict=True)
        )
        entry = ArchiveEntry(
            entry_id(parts), spec.source, window.partition or "", run_id, spec.spec_hash, now, parts,
            origin_of(delivery, window, keys), spec.archive.redact, masked,
        )  # fmt: skip
        return delivery, _put(store, entry, [path for _, path in packed])
    finally:
        for _, path in packed:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _put(store: Store, entry: ArchiveEntry, packed: Sequence[Path]) -> ArchiveEntry:
    with store.locked():
        for part, path in zip(entry.parts, packed, strict=True):
            store.place(path, part.sha256)
        known = store.read(entry.id)
        if known is None:
            store.write_manifest(entry)
            return entry
        # Seen again: what is at work on it now is not removed as too old meanwhile.
        os.utime(store.manifest_path(entry.id))
    return known


def clean(spec: SourceSpec, settings: Settings, delivery: Delivery, folder: Path) -> tuple[Delivery, bool]:
    """Return the delivery with everything masked that must not be kept, and whether a credential stood in it.

    Raises:
        UpstreamUnavailable, ContractViolation: a field to be masked cannot be found.
    """
    auth = spec.request.auth
    secret = settings.environ.get(auth.env, "").strip() if auth else ""
    parts, masked = _changed(spec, delivery.parts, masking([secret]), folder, "clean")
    if spec.archive.redact:
        fields = Fields(spec)
        parts, _ = _changed(spec, parts, fields.change, folder, "masked")
        fields.conclude()
    return replace(delivery, parts=parts), masked


def _changed(
    spec: SourceSpec, parts: Sequence[Part], change: Change | None, folder: Path, name: str
) -> tuple[tuple[Part, ...], bool]:
    """Return the parts, those that had to be changed as new files in the place of the old ones."""
    out, any_changed = [], False
    for number, part in enumerate(parts):
        target = folder / f"{name}-{number}"
        if change and rewritten(part.path, target, change, spec.request.max_unpacked):
            part.path.unlink()
            out.append(replace(part, path=target))
            any_changed = True
        else:
            target.unlink(missing_ok=True)
            out.append(part)
    return tuple(out), any_changed


def origin_of(delivery: Delivery, window: Window, keys: Sequence[str] = ()) -> Origin:
    """Return what a delivery came with."""
    known = delivery.validators
    return Origin(
        delivery.url,
        "" if delivery.missing else delivery.sha256,
        delivery.bytes,
        known.etag if known else None,
        known.last_modified if known else None,
        delivery.last_modified,
        window.start,
        tuple(keys),
        delivery.files,
    )


def open_entry(
    spec: SourceSpec, settings: Settings, payload: str, folder: Path, origin: Origin | None = None
) -> Delivery:
    """Unpack an entry into `folder` and return it as a delivery.

    What the YAML wants to be masked by now is masked, whatever was kept.

    Args:
        payload: the entry; "" for a load that had nothing to read.
        origin: what it came with when it was accepted; default: when it came first.

    Raises:
        InternalError: there is no such entry, or it is damaged.
        UpstreamUnavailable, ContractViolation: a field to be masked cannot be found.
    """
    store = Store(settings.data_dir, spec.source)
    entry = store.read(payload) if payload else None
    if entry is None and (payload or origin is None):
        raise _gone(spec, payload)
    said = origin or (entry.origin if entry else Origin())
    parts = []
    for number, part in enumerate(entry.parts if entry else ()):
        path = folder / f"kept-{number}"
        store.unpack(part, path)
        parts.append(Part(path, dict(part.names)))
    delivery = Delivery(
        parts=tuple(parts),
        url=said.url,
        sha256=said.sha256,
        bytes=said.bytes,
        validators=Validators(said.url, said.etag, said.last_modified).without(),
        last_modified=said.published,
        files=said.files,
    )
    return clean(spec, settings, delivery, folder)[0]


def _gone(spec: SourceSpec, payload: str) -> InternalError:
    return InternalError(
        f"the archive of {spec.source} has no payload {payload[:12]}",
        came="nothing of that name: it was removed for its age, or the folder is another one",
        todo="Nothing was loaded. Fetch anew with `refresh run SOURCE --force`, or take the archive from a backup.",
    )


def entries(data_dir: Path, source: str, partition: str | None = None) -> Iterator[ArchiveEntry]:
    """Yield a source's payloads, oldest first; of one partition those that came for it or were accepted for it.

    Raises:
        InternalError: a manifest cannot be read.
    """
    store = Store(data_dir, source)
    loaded = {load.payload for load in Journal(store).read() if load.partition == partition}
    found = sorted(filter(None, map(store.read, store.ids())), key=lambda entry: (entry.kept_at, entry.id))
    return (one for one in found if partition is None or one.partition == partition or one.id in loaded)
