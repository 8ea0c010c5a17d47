"""One source's folder in the archive: bytes by their hash, manifests beside them.

A file appears under its name when it is whole, by a rename; parts come before the manifest that names them and go
after it, so a manifest always has its parts. Whoever reads bytes compares them with their hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import zstandard

from refresh_pipelines.archive.entry import ArchiveEntry, KeptPart, read_entry
from refresh_pipelines.errors import InternalError
from refresh_pipelines.warehouse.lock import held

BLOCK = 1 << 20
PART = ".part"
# On a million rows of CSV the third level took twice the time of this one, and saved two hundredths of the bytes.
_LEVEL = 1
# Beside the one that reads and hashes.
_THREADS = 2
# Nobody holds the lock for longer than it takes to rename files or to write a line.
_PATIENCE = 60.0
_LOCK = ".lock"


class Store:
    """The folder of one source; nothing is made before something is kept."""

    def __init__(self, data_dir: Path, source: str) -> None:
        self.source, self.folder = source, data_dir / "archive" / source

    def locked(self) -> AbstractContextManager[float]:
        """Keep other processes from changing the folder. Raises WarehouseBusy."""
        return held(self.folder / _LOCK, _PATIENCE, f"the archive of {self.source}")

    def part_path(self, sha256: str) -> Path:
        """Return where the bytes with this hash lie."""
        return self.folder / sha256[:2] / f"{sha256}.zst"

    def manifest_path(self, entry: str) -> Path:
        """Return where the manifest of an entry lies."""
        return self.folder / entry[:2] / f"{entry}.json"

    def pack(self, path: Path) -> tuple[KeptPart, Path]:
        """Compress a file into the folder, under a name that nobody looks for; return its hash and size, and the name.

        Raises:
            InternalError: the folder cannot be written, or the disk is full.
        """
        target = self.folder / f".{uuid.uuid4().hex}{PART}"
        digest, size = hashlib.sha256(), 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, target.open("xb") as file:
                with zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, threads=_THREADS).stream_writer(
                    file, closefd=False
                ) as sink:
                    while block := source.read(BLOCK):
                        digest.update(block)
                        size += len(block)
                        sink.write(block)
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                target.unlink(missing_ok=True)
            raise unwritable(self.folder, error) from error
        return KeptPart({}, digest.hexdigest(), size), target

    def place(self, packed: Path, sha256: str) -> None:
        """Give packed bytes their name, unless they are there already. Only under the lock."""
        target = self.part_path(sha256)
        if target.exists():
            packed.unlink()
            return
        target.parent.mkdir(exist_ok=True)
        packed.replace(target)

    def write_manifest(self, entry: ArchiveEntry) -> None:
        """Write an entry's manifest, which makes it one. Only under the lock."""
        write_whole(self.manifest_path(entry.id), entry.text())

    def read(self, entry: str) -> ArchiveEntry | None:
        """Return an entry, None where there is none.

        Raises:
            InternalError: its manifest cannot be read.
        """
        path = self.manifest_path(entry)
        try:
            return read_entry(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InternalError(
                f"the manifest {path.name} in the archive of {self.source} cannot be read",
                came=str(error) or type(error).__name__,
                todo="Take it from a backup, or delete it: the payload is then fetched anew, if it still is served.",
            ) from error

    def ids(self) -> Iterator[str]:
        """Yield the names of all entries."""
        return (path.stem for path in self.folder.glob("??/*.json") if not path.name.startswith("."))

    def unpack(self, part: KeptPart, target: Path) -> None:
        """Write the bytes of a part to a file.

        Raises:
            InternalError: they are not there, damaged, or not those that the manifest names.
        """
        path = self.part_path(part.sha256)
        digest = hashlib.sha256()
        try:
            with (
                path.open("rb") as file,
                target.open("wb") as sink,
                zstandard.ZstdDecompressor().stream_reader(file) as source,
            ):
                while block := source.read(BLOCK):
                    digest.update(block)
                    sink.write(block)
        except (OSError, zstandard.ZstdError) as error:
            raise self._damaged(path, "nothing" if isinstance(error, FileNotFoundError) else str(error)) from error
        if digest.hexdigest() != part.sha256:
            raise self._damaged(path, "other bytes")

    def _damaged(self, path: Path, came: str) -> InternalError:
        return InternalError(
            f"a payload in the archive of {self.source} is damaged",
            expected=f"{path.name} with the bytes of its name",
            came=came,
            todo="Nothing was loaded. Take the file from a backup, or fetch anew with `refresh run SOURCE --force`.",
        )

    def size(self) -> int:
        """Return the bytes the folder takes."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def remove_all(self) -> None:
        """Remove the folder with all payloads."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Put a text into a file that is there whole or not at all. Raises InternalError."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise unwritable(path.parent, error) from error


def unwritable(folder: Path, error: OSError) -> InternalError:
    """Return what a refresh ends with whose payload cannot be kept: it is not loaded either."""
    return InternalError(
        f"the payload cannot be kept in {folder}",
        came=str(error),
        todo="Nothing was loaded. Check REFRESH_DATA_DIR, its rights and the disk.",
    )
