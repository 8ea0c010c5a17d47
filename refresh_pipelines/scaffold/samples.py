"""What lies beside a new source: the beginning of a real answer, and how the sandbox serves it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from refresh_pipelines.body import lookup
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.scaffold.address import Address
from refresh_pipelines.scaffold.reading import Reading
from refresh_pipelines.spec import Format

WHOLE = 64_000
ROWS = 200
_SUFFIX = {("csv", None): ".csv", ("json", None): ".json", ("csv", "gzip"): ".csv.gz", ("json", "gzip"): ".json.gz"}
_STAMP = (1980, 1, 1, 0, 0, 0)


def sample_name(place: str, form: Format) -> str:
    """Return a file name for the sample, from the end of an address or path."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(place.rstrip("/")).name.split(".")[0]).strip("_")[:40] or "data"
    return stem + _SUFFIX.get((form.kind, form.archive), ".zip")


def cut(path: Path, form: Format, limit: int, secret: str) -> bytes:
    """Return a payload, or its first rows if it is large, packed as it was and without `secret`."""
    with open_payload(form, path, limit) as stream:
        body = stream.read()
    small = _first_rows(body, form) if len(body) > WHOLE else body
    for written in {secret, quote(secret, safe=""), quote_plus(secret)} if secret else ():
        small = small.replace(written.encode(), b"***")
    if form.archive is None and small == body:
        return path.read_bytes()  # with its byte-order mark, or as some server packed it
    return _packed(small, path, form)


def _first_rows(body: bytes, form: Format) -> bytes:
    if form.kind == "json":
        return _first_objects(body, form)
    encoding = form.encoding if form.fallback is None else "latin-1"
    text = body.decode(encoding)
    lines = io.StringIO(text, newline="")
    skipped = "".join(islice(lines, form.skip_lines))
    taken: list[str] = []

    def noted() -> Any:
        for line in lines:
            taken.append(line)
            yield line

    for _ in islice(csv.reader(noted(), delimiter=form.delimiter, quotechar=form.quote or '"'), ROWS + 1):
        pass
    return (skipped + "".join(taken)).encode(encoding)


def _first_objects(body: bytes, form: Format) -> bytes:
    document = json.loads(body)
    parent, _, last = form.rows.rpartition(".")
    rows = list(_telling(lookup(document, form.rows)))
    holder = lookup(document, parent)
    if not form.rows:
        document = rows
    elif isinstance(holder, dict):
        holder[last] = rows
    else:
        holder[int(last)] = rows
    return json.dumps(document, ensure_ascii=False).encode()


def _telling(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the first rows, and later ones that have a member which no earlier one has."""
    seen: set[str] = set()
    for number, row in enumerate(rows):
        paths = set(_paths(row, ""))
        if number < ROWS or not paths <= seen:
            yield row
        seen |= paths


def _paths(row: dict[str, Any], above: str) -> Iterator[str]:
    for name, value in row.items():
        yield above + name
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{name}.")


def _packed(body: bytes, path: Path, form: Format) -> bytes:
    if form.archive == "gzip":
        return gzip.compress(body, mtime=0)
    if form.archive is None:
        return body
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = [info.filename for info in old.infolist() if not info.is_dir()]
        name = next(name for name in names if fnmatchcase(name.rsplit("/", 1)[-1].lower(), form.member.lower()))
        new.writestr(zipfile.ZipInfo(name, _STAMP), body, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def sandbox_text(address: Address, name: str, at: datetime) -> str:
    """Return the `sandbox.yaml` that serves the sample where the source asks for it."""
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        "# What the sandbox answers for this source; the grammar is described in refresh_pipelines/sandbox_routes.py.\n"
        f"modified: {{good: {stamp}, revised: {stamp}}}\n"
        "routes:\n"
        f"  - path: {json.dumps(f'/{address.host}{address.path}')}\n"
        f"    good: {name}\n"
    )


def readme_text(source: str, address: Address, name: str, reading: Reading, at: datetime, *, whole: bool) -> str:
    """Return the README of the samples."""
    what = "the whole answer" if whole else f"the first {ROWS} of {reading.rows} rows"
    secret = f" {address.env} was taken out." if address.env else ""
    return (
        f"# Samples of {source}\n\n"
        f"**Real values**, taken by `refresh new` on {at:%Y-%m-%d} from {address.url}.{secret}\n"
        "Mind the licence before you publish them.\n\n"
        "| file | what it is |\n| --- | --- |\n"
        f"| `{name}` | {what} |\n\n"
        "With `REFRESH_UPSTREAM=sandbox` the sandbox serves it in place of the real host (`sandbox.yaml`).\n"
        "A second version goes into `revised/`, answers that must be refused into `bad/`.\n"
    )
