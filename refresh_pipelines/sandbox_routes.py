"""What the sandbox answers: routes declared in `samples/<source>/sandbox.yaml`. No sockets here.

modified: {good: 2026-05-15T10:49:00Z, revised: 2026-06-15T10:49:00Z}   # Last-Modified of each
routes:
  - path: /www.host.gov/files/{year}.zip    # host and path; {name} takes one part of the path
    good: data2025.zip                      # a file beside the YAML; may use {name}s, also of the query
    revised: revised/data2025.zip           # falls back to `good` where that file is absent
    require: {api_key: {status: 400, file: bad/no-key.json}}     # the answer when the query lacks it
    redate: {sample: 2025, first: 1996}     # see `Redate`
    otherwise: {status: 200, file: bad/page.html}    # in place of 404 for what the samples lack
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AwareDatetime, Field, ValidationError

from refresh_pipelines.spec import Model

Revision = Literal["good", "revised"]
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# What may come from a request into a file's name: no separator, so no other folder.
SAFE = re.compile(r"[A-Za-z0-9_.-]+")
TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".zip": "application/x-zip-compressed",
}


class SandboxError(ValueError):
    """The samples cannot be served; the message names the file to correct."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer without the headers that only the server knows."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Modified(Model):
    """When upstream would say that the two versions of its files changed last."""

    good: AwareDatetime
    revised: AwareDatetime


class Reply(Model):
    """A fixed answer from a file."""

    status: int
    file: str
    type: str | None = None


class Redate(Model):
    """Rows of one year stand for those of another, so that a sample does not grow old.

    The year is the path's `{year}`, which must be closed and not before `first`; a path without it
    is the running year's file. Only months in quotes (`"202503"`) and the names of archive members
    move: whole dates are other things than the period.
    """

    sample: int
    first: int = 1


class Route(Model):
    """One path and the files that answer it."""

    path: str
    good: str
    revised: str | None = None
    require: dict[str, Reply] = Field(default_factory=dict)
    redate: Redate | None = None
    otherwise: Reply | None = None


class SandboxYaml(Model):
    """The file `sandbox.yaml`."""

    modified: Modified
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Place:
    """A route with the folder its files lie in."""

    folder: Path
    modified: Modified
    route: Route

    def match(self, path: str) -> dict[str, str] | None:
        """Return the values of the path's placeholders, or None when it is another path."""
        parts = PLACEHOLDER.split(self.route.path)
        pattern = "".join(f"(?P<{p}>{SAFE.pattern})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None

    def answer(self, values: Mapping[str, str], revision: Revision, now: datetime) -> Answer:
        """Answer a request that matched; `values` are those of its path and query."""
        for name, reply in self.route.require.items():
            if not values.get(name):
                return self._fixed(reply)
        names = PLACEHOLDER.findall(f"{self.route.good} {self.route.revised}")
        unsafe = [name for name in names if name in values and not SAFE.fullmatch(values[name])]
        if unsafe:
            return plain(400, f"{unsafe[0]}={values[unsafe[0]]!r} cannot be part of a file's name")
        found, year = self._file(values, revision), self._year(values, now)
        if found is None or year is None:
            return (
                self._fixed(self.route.otherwise) if self.route.otherwise else plain(404, "no sample for this request")
            )
        file, modified = found
        body, sample = file.read_bytes(), self.route.redate.sample if self.route.redate else year
        if year != sample:
            body, modified = move_year(body, sample, year), modified + timedelta(days=365 * (year - sample))
        return Answer(200, body, {"Content-Type": content_type(file), "Last-Modified": http_date(modified)})

    def inside(self, name: str) -> Path | None:
        """Return the file of that name, or None if it does not exist or lies outside the folder."""
        file = (self.folder / name).resolve()
        return file if file.is_relative_to(self.folder.resolve()) and file.is_file() else None

    def _file(self, values: Mapping[str, str], revision: Revision) -> tuple[Path, datetime] | None:
        wanted = [(self.route.good, self.modified.good)]
        if revision == "revised" and self.route.revised:
            wanted.insert(0, (self.route.revised, self.modified.revised))
        for template, modified in wanted:
            # An absent value leaves an empty name behind, which no file has.
            file = self.inside(PLACEHOLDER.sub(lambda m: values.get(m[1], ""), template))
            if file:
                return file, modified
        return None

    def _year(self, values: Mapping[str, str], now: datetime) -> int | None:
        redate = self.route.redate
        if redate is None or "{year}" not in self.route.path:
            return now.year
        year = int(values["year"]) if re.fullmatch(r"[0-9]{4}", values["year"]) else 0
        return year if redate.first <= year < now.year else None

    def _fixed(self, reply: Reply) -> Answer:
        file = self.folder / reply.file
        return Answer(reply.status, file.read_bytes(), {"Content-Type": reply.type or content_type(file)})


def load_places(samples: Path) -> list[Place]:
    """Read every `sandbox.yaml` below `samples`. Raises SandboxError."""
    files = sorted(samples.glob("*/sandbox.yaml"))
    if not files:
        raise SandboxError(f"{samples}: no <source>/sandbox.yaml in this folder, so there is nothing to serve")
    return [place for file in files for place in _read(file)]


def _read(file: Path) -> list[Place]:
    try:
        declared = SandboxYaml.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise SandboxError(f"{file}: {error}") from error
    places = [Place(file.parent, declared.modified, route) for route in declared.routes]
    for place in places:
        route = place.route
        replies = [*route.require.values(), *([route.otherwise] if route.otherwise else [])]
        fixed = [reply.file for reply in replies] + [name for name in (route.good, route.revised) if name]
        for name in fixed:
            if not PLACEHOLDER.search(name) and place.inside(name) is None:
                raise SandboxError(f"{file}: {route.path} names {name}, which is no file in this folder")
    return places


def find_answer(places: list[Place], path: str, query: Mapping[str, str], revision: Revision, now: datetime) -> Answer:
    """Answer one request from the first route that fits; a 404 names the known routes."""
    for place in places:
        values = place.match(path)
        if values is not None:
            return place.answer({**query, **values}, revision, now)
    known = "\n".join(f"  {place.route.path}" for place in places)
    return plain(404, f"the sandbox has no route for {path}; it knows\n{known}")


def plain(status: int, text: str) -> Answer:
    """Return an answer in words."""
    body = f"{status} {HTTPStatus(status).phrase}: {text}\n".encode()
    return Answer(status, body, {"Content-Type": TYPES[".txt"]})


def content_type(file: Path) -> str:
    """Return the media type upstreams give files of this kind."""
    return TYPES.get(file.suffix, "application/octet-stream")


def http_date(at: datetime) -> str:
    """Write an instant as HTTP headers have it."""
    return format_datetime(at.astimezone(timezone.utc), usegmt=True)


def move_year(body: bytes, sample: int, year: int) -> bytes:
    """Move the months of `sample` to `year`, in text or in an archive's members; see `Redate`.

    Times inside an archive are kept: equal input gives equal bytes, and a second refresh finds
    nothing new.
    """
    if not body.startswith(b"PK\x03\x04"):
        return re.sub(rb'"%d(?=(?:0[1-9]|1[0-2])")' % sample, b'"%d' % year, body)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            moved = zipfile.ZipInfo(member.filename.replace(str(sample), str(year)), member.date_time)
            moved.compress_type, moved.create_system = member.compress_type, member.create_system
            moved.external_attr = member.external_attr
            new.writestr(moved, move_year(old.read(member), sample, year))
    return out.getvalue()
