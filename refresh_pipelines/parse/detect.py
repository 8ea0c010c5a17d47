"""What a payload is by its bytes, whatever its name says: for `format.kind: detect`.

Only the beginning is looked at; that all of it reads so is for the parser to say.
"""

from __future__ import annotations

import json
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from refresh_pipelines.body import excerpt, kind_of, lookup
from refresh_pipelines.errors import UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.container import DAMAGE, open_plain, open_seekable
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.spec import Format

HEAD = 1 << 20
_SUFFIXES = {
    ".json": ("json", "jsonl"), ".jsonl": ("jsonl",), ".ndjson": ("jsonl",), ".csv": ("csv",), ".tsv": ("csv",),
    ".txt": ("csv",), ".parquet": ("parquet",), ".xlsx": ("xlsx",), ".xlsm": ("xlsx",),
}  # fmt: skip
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = (",", ";", "\t", "|")


def detect(form: Format, path: Path, limit: int, name: str, notes: Notes) -> Format:
    """Return how a payload is to be read: `form` with the kind, and for text the encoding and delimiter, it has.

    A note says where the name promised something else.

    Args:
        name: of the file where it came from.

    Raises:
        UpstreamRefused: it is empty, or none of `form.of`.
        UpstreamUnavailable: a gzip file that breaks off.
    """
    with open_plain(path, limit) as stream:
        head = stream.read(HEAD)
        if not head.strip():
            came = f"{len(head)} bytes" + (" of white space" if head else "")
            raise _none(form, came, "the file is empty", "Look at where the file comes from.")
        kind, changes = _binary(head, path, limit, form) or _text(head, form)
    if kind not in form.of:
        raise _none(form, f"a {kind_of(Format(kind=kind)).removeprefix('a ')} beginning {excerpt(head, 60)}")
    promised = _SUFFIXES.get(Path(name.lower().removesuffix(".gz")).suffix)
    if promised and kind not in promised:
        notes.remark(f"{name} is {kind_of(Format(kind=kind))} by its content, whatever its name says")
    if "delimiter" in changes:
        notes.remark(f"{name}: fields are parted by {changes['delimiter']!r}, not by {form.delimiter!r}")
    return form.model_copy(update={"kind": kind, "of": (), **changes})


def _none(form: Format, came: str, problem: str = "", todo: str = "") -> UpstreamRefused:
    return UpstreamRefused(
        problem or "the file is none of the declared kinds",
        expected=kind_of(form),
        came=came,
        todo=todo or "Look at the file; if it is in order, add its kind to format.of.",
    )


def _binary(head: bytes, path: Path, limit: int, form: Format) -> tuple[Any, dict[str, Any]] | None:
    if head.startswith(b"PAR1"):
        return "parquet", {}
    if head.startswith(b"PK"):
        if _is_workbook(path, limit):
            return "xlsx", {}
        raise _none(form, "a ZIP archive that is no workbook", todo="Unpack it first.")
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        todo = "Open it in a spreadsheet program and save it as .xlsx without a password."
        raise _none(form, "a workbook of Excel 97 to 2003, or one with a password", todo=todo)
    if head.startswith(_WIDE):
        return None
    control = sum(head[:4096].count(code) for code in range(32) if code not in b"\t\n\r\f\x1a")
    if control * 20 > len(head[:4096]):
        raise _none(form, f"bytes that are no text: {head[:20]!r}")
    return None


def _is_workbook(path: Path, limit: int) -> bool:
    with open_seekable(path, limit) as file, suppress(*DAMAGE, ValueError, NotImplementedError):
        return "xl/workbook.xml" in zipfile.ZipFile(file).namelist()
    raise UpstreamUnavailable(
        "the workbook or archive is truncated",
        expected="a complete ZIP archive, as every workbook is one",
        came="one without its end",
        todo="It may still be being written, or was cut: a later try may pass.",
    )


def _text(head: bytes, form: Format) -> tuple[Any, dict[str, Any]]:
    changes: dict[str, Any] = {}
    if head.startswith(_WIDE):
        changes["encoding"] = "utf-16"
        start = head[: len(head) // 2 * 2].decode("utf-16", "replace").lstrip("\ufeff")
    else:
        start = head.decode("latin-1")  # which reads anything; only ASCII is looked at
    first = start.lstrip()[:1]
    if first == "[":
        # A bare list is the rows themselves, unless the path begins with a place in it.
        bare = not form.rows.split(".")[0].isdecimal()
        return "json", changes | ({"rows": ""} if bare and "json" in form.of else {})
    if first == "{":
        return _objects(start, form, whole=len(head) < HEAD), changes
    mark = _delimiter(start, form)
    return "csv", changes | ({"delimiter": mark} if mark != form.delimiter else {})


def _objects(text: str, form: Format, *, whole: bool) -> str:
    """Tell one JSON document from an object on each line, by the beginning of a file or by all of it."""
    if len({"json", "jsonl"} & set(form.of)) == 1:
        return "json" if "json" in form.of else "jsonl"
    first, *rest = re.split(r"[\r\n]+", text.strip(), maxsplit=2)
    if not rest and not whole:
        return "json"  # a line of this length is a document
    alone = _object(first)
    if alone is not None and not rest:
        return "json" if isinstance(lookup(alone, form.rows), list) else "jsonl"
    if alone is not None:
        return "jsonl" if rest[0].lstrip().startswith("{") else "json"
    # The first line may be the broken one.
    following = rest[0] if rest and not first.rstrip().endswith(("{", "[", ",", ":")) else ""
    return "jsonl" if following.startswith("{") and _object(following) is not None else "json"


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _delimiter(start: str, form: Format) -> str:
    """Return the delimiter: the declared one if it is there, else the one of the usual ones that is there most."""
    header = start.lstrip("\r\n").split("\n", form.skip_lines)[-1]
    line = start if form.layouts else re.split(r"[\r\n]", header, maxsplit=1)[0]
    if form.delimiter in line or form.fields:
        return form.delimiter
    best = max(_DELIMITERS, key=line.count)
    return best if best in line else form.delimiter
