"""Open a payload: the file itself, what a gzip file holds, or the one declared member of a ZIP archive.

Members are read as a stream and never written to disk, so their paths cannot escape anywhere; what
they unpack to is counted while reading.
"""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, cast

from typing_extensions import Buffer

from refresh_pipelines.body import excerpt, kind_of
from refresh_pipelines.errors import UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.spec import Format

_BOM = b"\xef\xbb\xbf"
# What zipfile and its decompressors say of damaged bytes, beside ValueError (names that are no text, offsets outside
# the file). OSError: what bz2 says of bad data.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, OverflowError, struct.error)


class _Guarded(io.RawIOBase):
    """A readable stream that stops at `limit` bytes and turns damage into our own errors."""

    def __init__(self, inner: IO[bytes], name: str, limit: int) -> None:
        super().__init__()
        self._inner, self._name, self._left = inner, name, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        with _damage(self._name):
            data = self._inner.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamRefused(
                f"{self._name} unpacks to more than request.max_unpacked",
                todo="Look at the archive by hand; raise request.max_unpacked if it is in order.",
            )
        view[: len(data)] = data
        return len(data)


@contextmanager
def open_payload(form: Format, path: Path, limit: int) -> Iterator[io.BufferedReader]:
    """Yield the bytes that hold the rows, without leading UTF-8 byte-order marks.

    Raises:
        UpstreamRefused: an empty file, no ZIP at all, not exactly one member `form.member`, or more
            than `limit` bytes.
        UpstreamUnavailable: a ZIP or gzip file that breaks off or fails its check sum.
    """
    if path.stat().st_size == 0 and form.kind != "json":
        raise UpstreamRefused(
            "the file is empty",
            expected=kind_of(form),
            came="0 bytes",
            todo="Look at the address in a browser; the upstream may have stopped this file.",
        )
    if form.archive != "zip":
        with open_plain(path, limit) as stream:
            yield stream
        return
    with _open_zip(path) as archive, _open_member(archive, _member(archive, form.member)) as member:
        yield _without_bom(io.BufferedReader(_Guarded(member, f"member {member.name!r}", limit), 1 << 18))


@contextmanager
def open_plain(path: Path, limit: int) -> Iterator[io.BufferedReader]:
    """Yield the bytes of a file, unpacked if it is a gzip file, without leading UTF-8 byte-order marks.

    What HTTP has unpacked on the way (Content-Encoding) is read all the same. Raises as `open_payload`.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    name = "the gzip file" if packed else "the payload"
    with gzip.open(path, "rb") if packed else path.open("rb") as inner:
        yield _without_bom(io.BufferedReader(_Guarded(cast("IO[bytes]", inner), name, limit), 1 << 18))


@contextmanager
def open_seekable(path: Path, limit: int) -> Iterator[IO[bytes]]:
    """Yield a file in which one may go back and forth, unpacked into a nameless one if it is a gzip file.

    Raises as `open_payload`.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            yield file
            return
    with tempfile.TemporaryFile() as whole:
        with open_plain(path, limit) as stream:
            shutil.copyfileobj(stream, whole)
        whole.seek(0)
        yield whole


def _open_zip(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(b"PK"):
        raise UpstreamRefused(
            "the payload is no ZIP archive",
            expected="a ZIP archive",
            came=f"{path.stat().st_size} bytes beginning {excerpt(head, 40)}",
            todo="Open the address in a browser: it may have moved; then correct request.url.",
        )
    with _damage(f"the ZIP archive of {path.stat().st_size} bytes"):
        return zipfile.ZipFile(path)


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    with _damage(f"member {info.filename!r}"):
        return archive.open(info)


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Turn whatever the zip module and its decompressors say of damaged bytes into our own errors."""
    try:
        yield
    except NotImplementedError as error:
        raise UpstreamRefused(
            f"{what} is packed in a way that cannot be read",
            came=str(error),
            todo="Unpack it by hand to see what it is.",
        ) from error
    except (*DAMAGE, ValueError) as error:
        raise UpstreamUnavailable(
            f"{what} is truncated or damaged",
            expected="a complete archive",
            came=str(error) or type(error).__name__,
            todo="The transfer may have been cut, or the upstream was writing the file: a later try may pass.",
        ) from error


def _member(archive: zipfile.ZipFile, pattern: str) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir()]
    found = [info for info in files if fnmatchcase(info.filename.rsplit("/", 1)[-1].lower(), pattern.lower())]
    if len(found) != 1:
        names = ", ".join(repr(info.filename) for info in files[:5]) or "no members"
        raise UpstreamRefused(
            "the ZIP archive does not hold the declared member",
            expected=f"exactly one member {pattern!r}",
            came=names,
            todo="The archive may have been rearranged: adjust format.member.",
        )
    if found[0].flag_bits & 0x1:
        raise UpstreamRefused(
            "the ZIP member is encrypted",
            came=found[0].filename,
            todo="It cannot be read without a password.",
        )
    return found[0]


def _without_bom(stream: io.BufferedReader) -> io.BufferedReader:
    while stream.peek(3)[:3] == _BOM:
        stream.read(3)
    return stream
