"""What the sandbox answers: routes declared in `samples/<source>/sandbox.yaml`. No sockets here.

modified: {good: 2026-05-15T10:49:00Z, revised: 2026-06-15T10:49:00Z}   # Last-Modified of each
routes:
  - path: /www.host.gov/files/{year}.zip    # host and path; {name} takes one part of the path
    good: data2025.zip                      # a file beside the YAML; may use {name}s, also of the query:
                                            # {page:1} is 1 without `page`, {offset} is also `$offset`
    revised: revised/data2025.zip           # falls back to `good` where that file is absent
    require: {api_key: {status: 400, file: bad/no-key.json}}     # the answer when the query lacks it
    having: [/reports/fields]               # other route if the query lacks one of these, with or without a value
    redate: {sample: 2025, first: 1996}     # see `Redate`
    otherwise: {status: 200, file: bad/page.html}    # in place of 404 for what the samples lack

Several sources may declare one path: the first whose file exists answers, and if none has it, the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AwareDatetime, Field, ValidationError

from refresh_pipelines.sandbox_answers import Answer, content_type, http_date, move_year, plain
from refresh_pipelines.spec import Model

Revision = Literal["good", "revised"]
PLACEHOLDER = re.compile(r"\{(?P<name>[A-Za-z_]\w*)(?::(?P<default>[A-Za-z0-9_.-]*))?\}", re.ASCII)
# What may come from a request into a file's name: no separator, so no other folder.
SAFE = re.compile(r"[A-Za-z0-9_.-]+")


class SandboxError(ValueError):
    """The samples cannot be served; the message names the file to correct."""


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

    The year is the path's `{year}`, which must be closed and not before `first`, or the running one with
    `running`; a path without it is the running year's file. Only months in quotes (`"202503"`) or at the start
    of a line (`2025 03 `), dates between commas (`,2025-03-04,`) and the names of archive members move: other
    dates are other things than the period.
    """

    sample: int
    first: int = 1
    running: bool = False


class Route(Model):
    """One path and the files that answer it."""

    path: str
    good: str
    revised: str | None = None
    require: dict[str, Reply] = Field(default_factory=dict)
    having: tuple[str, ...] = ()
    redate: Redate | None = None
    otherwise: Reply | None = None


class SandboxYaml(Model):
    """The file `sandbox.yaml`."""

    modified: Modified
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Place:
    """A route with the folder its files lie in, which is named after the source."""

    folder: Path
    modified: Modified
    route: Route

    @property
    def source(self) -> str:
        """Name of the source whose route this is."""
        return self.folder.name

    def match(self, path: str) -> dict[str, str] | None:
        """Return the values of the path's placeholders, or None when it is another path."""
        pattern, end = "", 0
        for part in PLACEHOLDER.finditer(self.route.path):
            pattern += re.escape(self.route.path[end : part.start()]) + f"(?P<{part['name']}>[^/]+)"
            end = part.end()
        found = re.fullmatch(pattern + re.escape(self.route.path[end:]), path)
        return found.groupdict() if found else None

    def sample(self, values: Mapping[str, str], revision: Revision, now: datetime) -> Answer | None:
        """Answer a request that matched from a file; None if it lacks something or there is no such file.

        Args:
            values: those of the request's path and query.
            revision: which version is served.
            now: decides which years are closed.
        """
        if self._missing(values) or self._unsafe(values):
            return None
        found, year = self._file(values, revision), self._year(values, now)
        if found is None or year is None:
            return None
        file, modified = found
        body, sample = file.read_bytes(), self.route.redate.sample if self.route.redate else year
        if year != sample:
            body, modified = move_year(body, sample, year), modified + timedelta(days=365 * (year - sample))
        return Answer(200, body, {"Content-Type": content_type(file), "Last-Modified": http_date(modified)})

    def refusal(self, values: Mapping[str, str]) -> Answer:
        """Answer a request that matched and for which there is no sample."""
        missing, unsafe = self._missing(values), self._unsafe(values)
        if missing:
            return self._fixed(missing)
        if unsafe:
            return plain(400, f"{unsafe}={values[unsafe]!r} cannot be part of a file's name")
        if self.route.otherwise:
            return self._fixed(self.route.otherwise)
        return plain(404, f"the samples of {self.source} have no {_named(self.route.good, values)}")

    def inside(self, name: str) -> Path | None:
        """Return the file of that name, or None if it does not exist or lies outside the folder."""
        file = (self.folder / name).resolve()
        return file if file.is_relative_to(self.folder.resolve()) and file.is_file() else None

    def _file(self, values: Mapping[str, str], revision: Revision) -> tuple[Path, datetime] | None:
        wanted = [(self.route.good, self.modified.good)]
        if revision == "revised" and self.route.revised:
            wanted.insert(0, (self.route.revised, self.modified.revised))
        for template, modified in wanted:
            file = self.inside(_named(template, values))
            if file:
                return file, modified
        return None

    def _missing(self, values: Mapping[str, str]) -> Reply | None:
        return next((reply for name, reply in self.route.require.items() if not values.get(name)), None)

    def _unsafe(self, values: Mapping[str, str]) -> str | None:
        templates = f"{self.route.good} {self.route.revised}"
        names = [name for part in PLACEHOLDER.finditer(templates) for name in (part["name"], f"${part['name']}")]
        return next((name for name in names if values.get(name) and not SAFE.fullmatch(values[name])), None)

    def _year(self, values: Mapping[str, str], now: datetime) -> int | None:
        redate = self.route.redate
        if redate is None or "{year}" not in self.route.path:
            return now.year
        year = int(values["year"]) if re.fullmatch(r"[0-9]{4}", values["year"]) else 0
        served = year == now.year if redate.running else redate.first <= year < now.year
        return year if served else None

    def _fixed(self, reply: Reply) -> Answer:
        file = self.folder / reply.file
        return Answer(reply.status, file.read_bytes(), {"Content-Type": reply.type or content_type(file)})


def _named(template: str, values: Mapping[str, str]) -> str:
    # An absent value without a default leaves an empty name behind, which no file has.
    return PLACEHOLDER.sub(
        lambda part: values.get(part["name"]) or values.get(f"${part['name']}") or part["default"] or "", template
    )


def load_places(folders: Sequence[Path]) -> list[Place]:
    """Read every `<source>/sandbox.yaml` of the folders, which need not all exist. Raises SandboxError."""
    files = [file for folder in folders for file in sorted(folder.glob("*/sandbox.yaml"))]
    if not files:
        names = ", ".join(map(str, folders))
        raise SandboxError(f"{names}: no <source>/sandbox.yaml in this folder, so there is nothing to serve")
    return [place for file in files for place in _read(file)]


def _read(file: Path) -> list[Place]:
    try:
        declared = _declared(file.read_text(encoding="utf-8"))
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


@lru_cache(maxsize=1024)
def _declared(text: str) -> SandboxYaml:
    """Read the text of a `sandbox.yaml`, once however many sandboxes a process serves."""
    return SandboxYaml.model_validate(yaml.safe_load(text))


@dataclass(frozen=True)
class Found:
    """An answer, and the source whose route gave it; None where no route fits."""

    source: str | None
    answer: Answer


def find_answer(
    places: Sequence[Place], path: str, query: Mapping[str, str], revision: Revision, now: datetime
) -> Found:
    """Answer one request; a 404 for a path without a route says where to declare one."""
    fitting = [
        (place, {**query, **values})
        for place in places
        if (values := place.match(path)) is not None and query.keys() >= set(place.route.having)
    ]
    for place, values in fitting:
        answer = place.sample(values, revision, now)
        if answer:
            return Found(place.source, answer)
    if fitting:
        place, values = fitting[0]
        return Found(place.source, place.refusal(values))
    known = "\n".join(f"  {place.route.path}" for place in places)
    # A refresh quotes about a hundred characters of it: what to do comes first.
    todo = "no route for it: declare one in samples/<source>/sandbox.yaml beside your catalogue folder"
    return Found(None, plain(404, f"{todo}\n\n{path} is none of the known routes:\n{known}"))
