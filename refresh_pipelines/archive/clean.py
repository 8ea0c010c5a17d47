"""What is masked in a payload before anything of it is kept, read or loaded.

The source's own credential, wherever an upstream repeats it, also inside of gzip and ZIP files; and the fields that
`archive.redact` names. A payload in which nothing is to be masked stays the file it was.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast

from typing_extensions import Buffer

from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.redact import MASK, written

BLOCK = 1 << 20
# A shorter value is no secret worth the name, and would be masked inside of ordinary data.
SHORTEST = 6
# Reads one content and writes it changed; returns whether anything was.
Change = Callable[[io.BufferedReader, IO[bytes]], bool]


def masking(secrets: Sequence[str]) -> Change | None:
    """Return what masks these values in any form in which an answer may write them; None without a value."""
    texts = written(secret for secret in secrets if len(secret) >= SHORTEST)
    forms = sorted({form.encode(code) for form in texts for code in ("utf-8", "utf-16-le")}, key=len, reverse=True)
    if not forms:
        return None

    def change(source: io.BufferedReader, sink: IO[bytes]) -> bool:
        return _mask(source, sink, forms)

    return change


def _mask(source: io.BufferedReader, sink: IO[bytes], forms: Sequence[bytes]) -> bool:
    """Copy with every form masked, also one that lies across two blocks."""
    overlap, held, found = max(map(len, forms)) - 1, b"", False
    while block := source.read(BLOCK):
        text = held + block
        for form in forms:
            if form in text:
                wide = form[1:2] == b"\0" and len(form) > 1
                text, found = text.replace(form, MASK.encode("utf-16-le" if wide else "utf-8")), True
        cut = max(len(text) - overlap, 0)
        sink.write(text[:cut])
        held = text[cut:]
    sink.write(held)
    return found


def rewritten(path: Path, target: Path, change: Change, limit: int) -> bool:
    """Write a file to `target` with its content changed; inside of gzip and ZIP files what they hold.

    Returns whether anything was changed; if not, `target` holds nothing of use. A packed file that is damaged, which
    its reader will tell, is taken as the bytes it is.

    Raises:
        UpstreamRefused: it unpacks to more than `limit` bytes.
    """
    with path.open("rb") as file:
        head = file.read(4)
    try:
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path, "rb") as source, gzip.open(target, "wb", 6) as sink:
                content = io.BufferedReader(_Limited(cast("IO[bytes]", source), limit), BLOCK)
                return change(cast(io.BufferedReader, content), cast("IO[bytes]", sink))
        if head == b"PK\x03\x04":
            return _zip_rewritten(path, target, change, limit)
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError, RuntimeError):
        pass  # as the bytes are, then
    with path.open("rb") as plain, target.open("wb") as out:
        return change(plain, out)


def _zip_rewritten(path: Path, target: Path, change: Change, limit: int) -> bool:
    """Change every member; their order, names and times stay."""
    found = False
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for info in archive.infolist():
            new = zipfile.ZipInfo(info.filename, info.date_time)
            new.compress_type, new.external_attr = zipfile.ZIP_DEFLATED, info.external_attr
            with archive.open(info) as source, out.open(new, "w", force_zip64=True) as sink:
                content = _Limited(source, limit)
                found |= change(cast(io.BufferedReader, io.BufferedReader(content, BLOCK)), sink)
                limit = content.left
    return found


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `left` bytes."""

    def __init__(self, source: IO[bytes], left: int) -> None:
        super().__init__()
        self.source, self.left = source, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        block = self.source.read(len(view))
        self.left -= len(block)
        if self.left < 0:
            raise UpstreamRefused(
                "the payload unpacks to more than request.max_unpacked",
                todo="Look at the archive by hand; raise request.max_unpacked if it is in order.",
            )
        view[: len(block)] = block
        return len(block)
