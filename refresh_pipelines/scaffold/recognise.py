"""What a payload is: CSV or JSON, plain or packed, and how it is to be read.

Only the first bytes and lines are looked at here; that all of it reads so is for the parser to say.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from refresh_pipelines.body import excerpt, looks_like_page, lookup
from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.scaffold.columns import is_typed
from refresh_pipelines.spec import Format

DELIMITERS = (",", ";", "\t", "|")
HEAD = 1 << 20
_LINES = 500
_PREAMBLE = 30
_DATA = (".csv", ".tsv", ".txt", ".json", ".geojson")
_WORKBOOK = "xl/workbook.xml"
_OFFICE = ("content.xml", "word/document.xml")


@dataclass(frozen=True)
class Hints:
    """What a person says of a payload in place of a guess; None leaves it to us."""

    header: bool | None = None
    rows: str | None = None
    member: str | None = None


def recognise(path: Path, limit: int, hints: Hints | None = None) -> Iterator[Format]:
    """Yield the readings of a payload, the likeliest first.

    Raises:
        UpstreamRefused: it is none we read: empty, a page, a spreadsheet, an archive of several
            files, or JSON without one list of objects. The message says what it is.
        UpstreamUnavailable: an archive that breaks off.
    """
    hints = hints or Hints()
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise _unknown("the payload is empty", "0 bytes" if not start else "only white space")
    if looks_like_page(start):
        raise _unknown("the payload is a web page or XML", excerpt(start))
    packed: dict[str, Any] = {}
    if start.startswith(b"PK"):
        packed = {"archive": "zip", **_member(path, hints)}
    elif start.startswith(b"\x1f\x8b"):
        packed = {"archive": "gzip"}
    with open_payload(Format(kind="csv", **packed), path, limit) as stream:
        head = stream.read(HEAD)
        if head.lstrip()[:1] in (b"{", b"["):
            yield _json(head + stream.read(), packed, hints)
            return
        if head.startswith(b"PAR1"):
            raise _unknown("the payload is a Parquet file", excerpt(head, 20), _by_hand("parquet"))
    yield from _tables(head, packed, hints)


def _unknown(problem: str, came: str, todo: str = "") -> UpstreamRefused:
    return UpstreamRefused(
        problem,
        expected="CSV or JSON, plain, or packed as gzip or a ZIP with one file",
        came=came,
        todo=todo or "For anything else write a parser: docs/add-a-source.md shows one.",
    )


def _by_hand(kind: str) -> str:
    return f"A source can read this; write its YAML by hand, with `format: {kind}` (docs/source-file.md)."


def _member(path: Path, hints: Hints) -> dict[str, str]:
    """Return `member` of an archive that holds several files, of which one can be meant."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _unknown("the payload begins like a ZIP archive and is none", str(error)) from error
    if _WORKBOOK in names:
        raise _unknown("the payload is a workbook", "a ZIP archive with " + ", ".join(names[:3]), _by_hand("xlsx"))
    if any(name in _OFFICE for name in names):
        raise _unknown("the payload is a spreadsheet or document", "a ZIP archive with " + ", ".join(names[:3]))
    if hints.member:
        return {"member": hints.member}
    if len(names) == 1:
        return {}
    data = [name for name in names if name.lower().endswith(_DATA)]
    if len(data) == 1:
        return {"member": "*" + Path(data[0]).suffix.lower()}
    raise _unknown(
        f"the ZIP archive holds {len(names)} files",
        ", ".join(names[:8]) or "no file",
        "Say which one with --member, for instance --member '*.csv'.",
    )


def _json(body: bytes, packed: dict[str, Any], hints: Hints) -> Format:
    try:
        document = json.loads(body)
    except UnicodeDecodeError as error:
        raise _unknown("the JSON document is not UTF-8", str(error)) from error
    except (ValueError, RecursionError) as error:
        lines = body.split(b"\n", 2)
        each = len(lines) > 1 and lines[0].rstrip().endswith(b"}") and lines[1].lstrip().startswith(b"{")
        what = "one JSON document a line" if each else "no complete JSON document"
        todo = _by_hand("jsonl") if each else ""
        raise _unknown(f"the payload is {what}", f"{excerpt(body, 60)} ({error})", todo) from error
    found = [hints.rows] if hints.rows is not None else list(_lists(document, ""))
    if len(found) != 1:
        raise _unknown(
            f"the JSON document holds {len(found) or 'no'} list{'s' if len(found) > 1 else ''} of objects",
            ", ".join(f"{name!r}" for name in found[:8]) or excerpt(body, 80),
            "Say where the rows are with --rows, for instance --rows data.items." if found else "",
        )
    if not _is_rows(lookup(document, found[0])):
        raise _unknown(f"there is no list of objects at {found[0]!r}", excerpt(body, 80))
    return Format(kind="json", rows=found[0], **packed)


def _lists(value: Any, path: str) -> Iterator[str]:
    """Yield the dotted paths of all lists of objects that lie in no other one."""
    if _is_rows(value):
        yield path
        return
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if not (isinstance(name, str) and ("." in name or not name)):
            yield from _lists(part, f"{path}.{name}" if path else str(name))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _tables(head: bytes, packed: dict[str, Any], hints: Hints) -> Iterator[Format]:
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unknown("the payload is binary", excerpt(head, 40))
    coding = _encoding(head)
    text = head.decode(coding["encoding"], errors="replace")
    lines = list(islice(io.StringIO(text, newline=""), _LINES))
    if len(head) >= HEAD and len(lines) > 1:
        lines.pop()  # cut off in the middle
    _refuse_aligned(lines)
    ranked = sorted((_fit(lines, mark) for mark in DELIMITERS), key=lambda fit: -fit[0])
    for score, mark, skip in ranked:
        if score or mark == DELIMITERS[0]:
            rows = [row for row in csv.reader(lines[skip:], delimiter=mark) if row]
            yield Format(kind="csv", delimiter=mark, **packed, **coding, **_header(rows, skip, hints))


def _refuse_aligned(lines: list[str]) -> None:
    """Refuse what is lined up by spaces or by position: no character parts its columns."""
    text = [line.strip() for line in lines if line.strip()]
    if any(mark in line for mark in DELIMITERS for line in text[:20]):
        return
    words = sum(len(line.split()) > 2 for line in text)
    if words > len(text) / 2 or sum(map(len, text)) > 60 * len(text):
        raise _unknown("the payload is text without a delimiter, lined up by spaces or by position", repr(text[0][:80]))


def _encoding(head: bytes) -> dict[str, str]:
    """Return `encoding`, and `fallback` where only some values are not UTF-8."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return {"encoding": "utf-16"}
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or len(head) < HEAD:
            if any(ord(letter) > 127 for letter in head.decode("utf-8", errors="ignore")):
                return {"encoding": "utf-8", "fallback": "latin-1"}
            return {"encoding": "cp1252" if re.search(rb"[\x80-\x9f]", head) else "latin-1"}
    return {"encoding": "utf-8"}


def _fit(lines: list[str], mark: str) -> tuple[float, str, int]:
    """Return how well a delimiter explains the lines, and how many lines stand before the table."""
    try:
        reader = csv.reader(lines, delimiter=mark)
        seen = [(reader.line_num, len(row)) for row in reader if row]
    except csv.Error:
        return 0.0, mark, 0
    width, count = Counter(number for _, number in seen).most_common(1)[0]
    if width == 1:
        return 0.0, mark, 0
    first = next(index for index, (_, number) in enumerate(seen) if number == width)
    skip = seen[first - 1][0] if 0 < first <= _PREAMBLE else 0
    return count / len(seen) + min(width, 50) / 1000, mark, skip


def _header(rows: list[list[str]], skip: int, hints: Hints) -> dict[str, Any]:
    """Return `fields` if there are no usable names, and the lines before the rows."""
    first = [cell.strip() for cell in rows[0]] if rows else []
    known = _has_names(first, rows[1:]) if hints.header is None else hints.header
    if known and len({*first}) == len(first) and not any(name.startswith("{") for name in first):
        return {"skip_lines": skip}
    if known:  # names that repeat, or look like a field of ours: by position
        names = (name.strip("{}") or f"column_{i}" for i, name in enumerate(first, 1))
        return {"skip_lines": skip + 1, "fields": _different(names)}
    return {"skip_lines": skip, "fields": tuple(f"column_{i}" for i in range(1, len(first) + 1))}


def _different(names: Iterator[str]) -> tuple[str, ...]:
    out: dict[str, None] = {}
    for name in names:
        count, chosen = 1, name
        while chosen in out:
            count += 1
            chosen = f"{name}_{count}"
        out[chosen] = None
    return tuple(out)


def _has_names(first: list[str], rest: list[list[str]]) -> bool:
    """Whether the first row holds names: texts, also over columns of numbers and dates.

    A table with years for names (`country,2019,2020`) has them too.
    """
    if not any(is_typed(cell) for cell in first):
        return True
    years = [cell for cell in first if is_typed(cell)]
    below = [row[i] for row in rest for i, cell in enumerate(first) if is_typed(cell) and i < len(row)]
    plain = all(re.fullmatch(r"(19|20)\d\d", year) for year in years) and len(set(years)) == len(years) > 1
    return plain and not all(re.fullmatch(r"(19|20)\d\d", cell.strip()) for cell in below)
