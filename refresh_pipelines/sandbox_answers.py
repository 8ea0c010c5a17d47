"""HTTP answers of the sandbox as values, and how samples become their bodies and headers."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl

TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".zip": "application/x-zip-compressed",
}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer without the headers that only the server knows."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def plain(status: int, text: str) -> Answer:
    """Return an answer in words."""
    body = f"{status} {phrase(status)}: {text}\n".encode()
    return Answer(status, body, {"Content-Type": TYPES[".txt"]})


def phrase(status: int) -> str:
    """Return the words that go with a status, also for one that nobody has defined."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"


def content_type(file: Path) -> str:
    """Return the media type upstreams give files of this kind."""
    return TYPES.get(file.suffix, "application/octet-stream")


def http_date(at: datetime) -> str:
    """Write an instant as HTTP headers have it."""
    return format_datetime(at.astimezone(timezone.utc), usegmt=True)


def first_values(query: str) -> dict[str, str]:
    """Return the first value of each name of a query, also of those without a value."""
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, value)
    return values


def move_year(body: bytes, sample: int, year: int) -> bytes:
    """Move the months of `sample` to `year`, in text, a gzip file or an archive's members; see `Redate`.

    Times inside an archive are kept: equal input gives equal bytes, and a second refresh finds
    nothing new.
    """
    if body.startswith(b"\x1f\x8b"):
        return gzip.compress(move_year(gzip.decompress(body), sample, year), mtime=0)
    if not body.startswith(b"PK\x03\x04"):
        body = re.sub(
            rb"^\d{4}(?= (?:0[1-9]|1[0-2]) )",
            lambda found: b"%04d" % (int(found[0]) + year - sample),
            body,
            flags=re.MULTILINE,
        )
        body = re.sub(rb"(?<=,)%d(?=-(?:0[1-9]|1[0-2])-[0-3][0-9],)" % sample, b"%d" % year, body)
        return re.sub(rb'"%d(?=(?:0[1-9]|1[0-2])")' % sample, b'"%d' % year, body)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            moved = zipfile.ZipInfo(member.filename.replace(str(sample), str(year)), member.date_time)
            moved.compress_type, moved.create_system = member.compress_type, member.create_system
            moved.external_attr = member.external_attr
            new.writestr(moved, move_year(old.read(member), sample, year))
    return out.getvalue()
