"""A backup as a file: a tar of files, compressed by zstd, and at its end a manifest with their sizes and hashes.

`tar --zstd -xf FILE` unpacks it without us.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from refresh_pipelines.errors import InternalError

FORMAT = 1
MANIFEST = "manifest.json"
_NAME = re.compile(r"(?!.*(^|/)\.\.?(/|$))[^/\0\\]+(/[^/\0\\]+)*")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Member:
    """One file of a backup."""

    size: int
    sha256: str


@dataclass
class Manifest:
    """What a backup holds.

    Attributes:
        made_at: ISO text: when it was begun.
        versions: of what wrote the files: `refresh_pipelines`, `dagster`, `duckdb`, `python`.
        warehouse: `duckdb`, or `postgresql` with the server's version.
        history: `sqlite` or `postgresql` likewise.
        tables: how many rows each table of each database has.
        members: its files by name.
    """

    made_at: str
    versions: dict[str, str]
    warehouse: str = ""
    history: str = ""
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)


class Pack:
    """A backup that is being written."""

    def __init__(self, file: IO[bytes], manifest: Manifest) -> None:
        self.manifest = manifest
        self._stream: Any = zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False)
        self._tar = tarfile.open(fileobj=self._stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, name: str, path: Path) -> None:
        """Put a file in as it is now. Raises FileNotFoundError if it has gone, before anything is written."""
        with path.open("rb") as file:
            reader = _Reader(file, os.fstat(file.fileno()).st_size)
            self._put(name, reader, reader.size)
        self.manifest.members[name] = Member(reader.size, reader.hash.hexdigest())

    def close(self) -> None:
        """Write the manifest, which makes it whole."""
        text = self.manifest.text().encode()
        self._put(MANIFEST, io.BytesIO(text), len(text))
        self._tar.close()
        self._stream.close()

    def _put(self, name: str, source: object, size: int) -> None:
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, 0o600
        self._tar.addfile(about, cast(Any, source))


class _Reader:
    """So many bytes of a file, hashed on their way. What grows is cut where it ended; what shrinks is an error."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size, self.hash = file, size, hashlib.sha256()

    def read(self, count: int) -> bytes:
        block = self.file.read(count)
        self.hash.update(block)
        return block


@contextmanager
def packed(target: Path, manifest: Manifest) -> Iterator[Pack]:
    """Yield a backup to write; at the end it stands at `target`, whole, or nothing does.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        # History quotes what upstreams have answered: for its owner alone.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            pack = Pack(file, manifest)
            yield pack
            pack.close()
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack a backup into an empty folder and compare every file with the manifest.

    Raises:
        InternalError: it is damaged, or no backup, or of a later version; nothing else was touched.
        OSError: it cannot be read, or the folder cannot be written.
    """
    found: dict[str, Member] = {}
    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
            tarfile.open(fileobj=cast(Any, stream), mode="r|") as tar,
        ):
            for about in tar:
                if not about.isreg() or not _NAME.fullmatch(about.name) or about.name in found:
                    raise _damaged(path, f"an entry {about.name[:100]!r}, which no backup has")
                content = tar.extractfile(about)
                found[about.name] = _write(folder / about.name, cast("IO[bytes]", content))
        manifest = _manifest(path, json.loads((folder / MANIFEST).read_bytes()))
    except FileNotFoundError:
        if not path.exists():
            raise
        raise _damaged(path, "no manifest, which is written last: the file is not whole") from None
    except (zstandard.ZstdError, tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    del found[MANIFEST]
    wrong = sorted(name for name in {*found, *manifest.members} if found.get(name) != manifest.members.get(name))
    if wrong:
        raise _damaged(path, f"{len(wrong)} files that differ from the manifest, {wrong[0]} among them")
    return manifest


def _write(path: Path, content: IO[bytes]) -> Member:
    path.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with path.open("xb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
            digest.update(block)
            size += len(block)
    return Member(size, digest.hexdigest())


def _manifest(path: Path, said: Mapping[str, Any]) -> Manifest:
    if said.get("format") != FORMAT:
        raise InternalError(
            f"{path.name} is a backup of another version",
            expected=f"format {FORMAT}",
            came=f"format {said.get('format')}",
            todo="Nothing was touched. Restore it by the version of refresh_pipelines that made it, or a later one.",
        )
    with suppress(KeyError, TypeError):
        members = {name: Member(**one) for name, one in said["members"].items()}
        return Manifest(
            said["made_at"], dict(said["versions"]), said["warehouse"], said["history"], dict(said["tables"]), members
        )
    raise _damaged(path, "a manifest that lacks a part")


def _damaged(path: Path, came: str) -> InternalError:
    return InternalError(
        f"{path.name} is damaged, or no backup",
        expected="a file that `refresh backup` has written, whole",
        came=came,
        todo="Nothing was touched. Take another backup.",
    )
