"""The last good version of each source: what keeps it running while its file is broken.

`data/last_good/<source>.json` holds what a source said when it could last be loaded: its YAML with the defaults of
its group filled in, and no value of the environment. It is read again by the grammar of today, as a file is, so it
gives the very spec it gave before, or is refused like any other. A file that is deleted is not kept running.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from refresh_pipelines.catalogue import Broken, Catalogue, Problem, Stale, errors_of, load_catalogue, read_source
from refresh_pipelines.reconcile import with_priorities
from refresh_pipelines.rules.across import alias_claims, alias_problems, table_problems
from refresh_pipelines.rules.batches import batch_problems, batches_of
from refresh_pipelines.rules.gates import requirement_problems
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import TABLE_NAME, SourceSpec
from refresh_pipelines.whole import write_whole
from refresh_pipelines.yamlpos import Document, Loc, Mark

_VERSION = 1
# The two kinds of value that YAML has and JSON has not.
_DATE, _INSTANT = "yaml:date", "yaml:timestamp"


def working_catalogue(settings: Settings) -> Catalogue:
    """Read the catalogue folders, with each broken source on its last good version if there is one."""
    return with_last_good(load_catalogue(settings.catalog, settings.environ), settings)


def remember(catalogue: Catalogue, settings: Settings, now: datetime, only: Collection[str] | None = None) -> None:
    """Keep what each source says that could be loaded from its file; write only what has changed.

    Args:
        only: stems of the sources to keep. Without it all are, and those of deleted files are forgotten, unless a
            whole catalogue folder is missing.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for source, value in catalogue.written.items():
        if only is None or source in only:
            _keep(folder / f"{source}.json", catalogue.sources[source].group, value, now)
    if only is None and all(path.is_dir() for path in settings.catalog):
        present = {*catalogue.sources, *(broken.source for broken in catalogue.broken.values())}
        for path in folder.glob("[!.]*.json"):
            if path.stem not in present:
                path.unlink(missing_ok=True)


def with_last_good(catalogue: Catalogue, settings: Settings) -> Catalogue:
    """Return the catalogue with broken sources on their last good version; its problems stay as they are.

    A source without one, or whose last good version is refused today, stays broken and says so.
    """
    if not catalogue.broken:
        return catalogue
    revival = _Revival(catalogue, settings)
    for key, bad in catalogue.broken.items():
        revival.take(key, bad)
    ordered = sorted(revival.sources.values(), key=lambda spec: (spec.group, spec.source))
    sources = with_priorities({spec.source: spec for spec in ordered})
    return replace(catalogue, sources=sources, broken=revival.broken, stale=revival.stale)


class _Revival:
    """The catalogue's sources, joined one by one by those that were good before."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.settings, self.folder = settings, _folder(settings)
        self.sources, self.broken = dict(catalogue.sources), dict(catalogue.broken)
        self.stale: dict[str, Stale] = {}
        self.present = {name: Path(spec.file) for name, spec in self.sources.items()}
        self.present |= {bad.source: bad.file for bad in self.broken.values()}
        self.tables: dict[str, SourceSpec] = {}
        for spec in self.sources.values():
            self.tables.setdefault(spec.raw_table, spec)

    def take(self, key: str, bad: Broken) -> None:
        """Bring back one broken source, or let it say why not."""
        kept = _read(self.folder / f"{bad.source}.json") if TABLE_NAME.fullmatch(bad.source) else None
        if kept is None or kept.group != bad.group or bad.source in self.sources:
            return
        draft, problems, _ = read_source(_document(kept.value, bad.file), bad.file, self.settings.environ)
        if draft.spec is not None and not errors_of(problems):
            problems += self._across(draft.spec, draft.document)
        wrong = errors_of(problems)
        if draft.spec is None or wrong:
            when = kept.good_at.isoformat(timespec="minutes")
            text = f"the last good version, of {when}, is refused today too" + (
                f": {wrong[0].message}" if wrong else ""
            )
            self.broken[key] = replace(bad, problems=(*bad.problems, Problem(bad.file, 1, 1, text)))
            return
        self.sources[bad.source], self.stale[bad.source] = draft.spec, Stale(bad, kept.good_at)
        self.tables.setdefault(draft.spec.raw_table, draft.spec)
        del self.broken[key]

    def _across(self, spec: SourceSpec, document: Document) -> Iterator[Problem]:
        """Yield what does not go together with the other sources of today."""
        yield from table_problems(spec, document, self.tables)
        if spec.aliases:
            claims = alias_claims([*self.sources.values(), spec])
            yield from alias_problems(spec, document, self.present, claims)
        batch = spec.schedule and spec.schedule.batch
        yield from batch_problems(spec, document, batches_of(self.sources.values()).get(batch or "", ()))
        if spec.requires:
            others = {bad.source for bad in self.broken.values()} - {spec.source}
            yield from requirement_problems(spec, document, {**self.sources, spec.source: spec}, others)


class _Kept(NamedTuple):
    group: str
    good_at: datetime
    value: dict[str, Any]


def _folder(settings: Settings) -> Path:
    return settings.data_dir / "last_good"


def _keep(path: Path, group: str, value: Mapping[str, Any], now: datetime) -> None:
    """Write one source; the first line says when, so that the rest can be compared as text."""
    body = json.dumps({"group": group, "written": value}, default=_as_json)
    try:
        if path.read_text(encoding="utf-8").partition("\n")[2] == body:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    write_whole(path, json.dumps({"version": _VERSION, "good_at": now.isoformat(timespec="seconds")}) + "\n" + body)


def _read(path: Path) -> _Kept | None:
    """Return what was kept; None if nothing was, or if it is no file of ours or of a later version."""
    try:
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
        about, kept = json.loads(head), json.loads(body, object_hook=_from_json)
        if about["version"] != _VERSION or not isinstance(kept["written"], dict):
            return None
        return _Kept(kept["group"], datetime.fromisoformat(about["good_at"]), kept["written"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _as_json(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {_INSTANT: value.isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    raise TypeError(f"{type(value).__name__} is no value of a YAML file")


def _from_json(value: dict[str, Any]) -> Any:
    if value.keys() == {_DATE}:
        return date.fromisoformat(value[_DATE])
    return datetime.fromisoformat(value[_INSTANT]) if value.keys() == {_INSTANT} else value


def _document(value: dict[str, Any], file: Path) -> Document:
    """Return a document whose every part stands in the first line, since its own text is gone."""
    mark = Mark(file, 1, 1)
    values = {loc: mark for loc, _ in _parts(value, ())}
    return Document(value, {loc: mark for loc, is_key in _parts(value, ()) if is_key}, values)


def _parts(value: Any, loc: Loc, *, is_key: bool = False) -> Iterator[tuple[Loc, bool]]:
    yield loc, is_key
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(part, (*loc, key), is_key=True)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _parts(part, (*loc, index))
