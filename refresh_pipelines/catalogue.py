"""The declared sources of all catalogue folders, and every problem in them. Reads files, changes none.

A folder holds `<group>/<source>.yaml`; `defaults.yaml` beside the groups and `group.yaml` beside the
sources fill what a source leaves out. One broken file never keeps the other sources from loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from refresh_pipelines.catalogue_files import Shared, entries, is_yaml, read_file, read_shared
from refresh_pipelines.collector import collection_paused
from refresh_pipelines.draft import Draft, read_draft
from refresh_pipelines.overrides import expand_lists, override_params, unused_overrides
from refresh_pipelines.problems import Broken, Problem, did_you_mean
from refresh_pipelines.reconcile import with_priorities
from refresh_pipelines.rules import check_draft
from refresh_pipelines.rules.across import alias_claims, alias_problems, name_problems, table_problems
from refresh_pipelines.rules.batches import batch_problems, batches_of
from refresh_pipelines.rules.gates import requirement_problems
from refresh_pipelines.spec import TABLE_NAME, SourceSpec
from refresh_pipelines.yamlpos import Document

__all__ = [
    "Broken",
    "BrokenSource",
    "Catalogue",
    "Problem",
    "Stale",
    "UnknownSource",
    "errors_of",
    "load_catalogue",
    "read_source",
]


class UnknownSource(ValueError):
    """No source or group has this name; the message names the nearest one."""


class BrokenSource(ValueError):
    """The source exists but cannot be loaded; `broken` says why."""

    def __init__(self, broken: Broken) -> None:
        self.broken = broken
        self.problems = broken.problems
        super().__init__(f"{broken.name} cannot be loaded:\n" + "\n".join(map(str, broken.problems)))


@dataclass(frozen=True)
class Stale:
    """A source that runs on what its file said before it was broken.

    Attributes:
        broken: what is wrong with the file now.
        good_at: when that last good version was first seen.
    """

    broken: Broken
    good_at: datetime


@dataclass(frozen=True)
class Catalogue:
    """What was found.

    Attributes:
        sources: the sources that can be loaded, by file stem, ordered by group and source.
        broken: the others, by file stem; by `group/stem`, numbered if need be, when the stem is taken.
        problems: all errors and notes of all files, each once, also those of defaults.yaml.
        files: every YAML file that was read, with defaults.yaml and group.yaml.
        written: what each loaded source says with defaults filled in, before the environment's params.
        stale: the loaded sources whose file is broken; `lastgood` fills it, the files alone give none.
    """

    sources: Mapping[str, SourceSpec]
    broken: Mapping[str, Broken]
    problems: tuple[Problem, ...]
    files: tuple[Path, ...] = ()
    written: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stale: Mapping[str, Stale] = field(default_factory=dict)

    def find(self, name: str) -> SourceSpec:
        """Return a source by `source` or `group/source`. Raises UnknownSource or BrokenSource."""
        stem = name.rpartition("/")[2]
        spec = self.sources.get(stem)
        if spec is not None and name in {stem, spec.name}:
            return spec
        for broken in self.broken.values():
            if name in {broken.source, broken.name}:
                raise BrokenSource(broken)
        known = {spec.name: spec.source for spec in self.sources.values()}
        known |= {broken.name: broken.source for broken in self.broken.values()}
        same = next((full for full, source in known.items() if source == stem), None)
        hint = f"did you mean {same}?" if same else did_you_mean(name, known if "/" in name else known.values())
        raise UnknownSource(f"no source is called {name!r}" + (f" ({hint})" if hint else ""))

    def select(self, names: Sequence[str] = (), group: str | None = None) -> list[SourceSpec]:
        """Return the named sources, each once, in the order given; without names all that load.

        Args:
            group: only sources of this group. Disabled sources are selected too.

        Raises:
            UnknownSource: a name or the group does not exist.
            BrokenSource: a named source cannot be loaded. Without names broken ones are left out.
        """
        groups = {spec.group for spec in self.sources.values()} | {b.group for b in self.broken.values()}
        if group is not None and group not in groups:
            hint = did_you_mean(group, groups)
            raise UnknownSource(f"no group is called {group!r}" + (f" ({hint})" if hint else ""))
        chosen = [self.find(name) for name in names] if names else list(self.sources.values())
        unique = {spec.source: spec for spec in chosen}
        return [spec for spec in unique.values() if group in (None, spec.group)]


@dataclass
class _Shelf:
    """What has been read so far."""

    environ: Mapping[str, str]
    sources: dict[str, SourceSpec] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    first: dict[str, Path] = field(default_factory=dict)
    tables: dict[str, SourceSpec] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    written: dict[str, Mapping[str, Any]] = field(default_factory=dict)


@collection_paused()
def load_catalogue(folders: Sequence[Path], environ: Mapping[str, str] | None = None) -> Catalogue:
    """Read the folders in order. Raises nothing: what is wrong stands in the catalogue's problems.

    Args:
        environ: where `REFRESH_PARAM_<GROUP>_<NAME>` is looked up; an empty value counts as not set.
    """
    shelf = _Shelf(environ or {})
    for folder in folders:
        _read_folder(shelf, folder)
    _check_aliases(shelf)
    _check_requirements(shelf)
    _check_batches(shelf)
    shelf.sources = with_priorities(shelf.sources)
    shelf.problems += unused_overrides(shelf.environ, shelf.params)
    specs = sorted(shelf.sources.values(), key=lambda spec: (spec.group, spec.source))
    problems = sorted(dict.fromkeys(shelf.problems), key=lambda p: (str(p.file), p.line, p.column))
    files = tuple(dict.fromkeys(shelf.files))
    by_stem = {spec.source: spec for spec in specs}
    written = {stem: shelf.written[stem] for stem in by_stem}
    return Catalogue(by_stem, _by_stem(shelf), tuple(problems), files, written)


def _by_stem(shelf: _Shelf) -> dict[str, Broken]:
    out: dict[str, Broken] = {}
    for broken in sorted(shelf.broken, key=lambda b: (b.group, b.source)):
        key, count = broken.source, 1
        while key in out or (key in shelf.sources and key == broken.source):
            key = broken.name if count == 1 else f"{broken.name} ({count})"
            count += 1
        out[key] = broken
    return out


def _read_folder(shelf: _Shelf, folder: Path) -> None:
    if not folder.is_dir():
        hint = "check REFRESH_CATALOG; builtin names the catalogue that comes with the package"
        shelf.problems.append(Problem(folder, 1, 1, "there is no such catalogue folder", hint))
        return
    defaults = _read_beside(shelf, folder / "defaults.yaml")
    for path in entries(folder):
        if path.is_dir():
            _read_group(shelf, path, defaults)
        elif is_yaml(path) and path.name != "defaults.yaml":
            hint = f"move it to {folder.name}/<group>/{path.stem}.yaml"
            shelf.problems.append(Problem(path, 1, 1, "a source lies in the folder of its group", hint))


def _read_group(shelf: _Shelf, folder: Path, defaults: Shared) -> None:
    paths = [path for path in entries(folder) if is_yaml(path)]
    if paths and not TABLE_NAME.fullmatch(folder.name):
        message = f"the group's folder {folder.name} must match {TABLE_NAME.pattern}"
        defaults = defaults.with_error(Problem(folder, 1, 1, message, "rename the folder"))
    shared = _read_beside(shelf, folder / "group.yaml").under(defaults)
    for path in paths:
        if path.name != "group.yaml":
            _read_source(shelf, path, shared)
    for path in folder.glob("*/*.y*ml"):
        if is_yaml(path) and not path.parent.name.startswith("."):
            hint = "a catalogue has groups and sources, no third level"
            shelf.problems.append(Problem(path, 1, 1, "this file is too deep to be a source", hint))


def _read_beside(shelf: _Shelf, path: Path) -> Shared:
    shared = read_shared(path)
    if path.exists():
        shelf.files.append(path)
    shelf.problems += shared.errors
    return shared


def _read_source(shelf: _Shelf, path: Path, shared: Shared) -> None:
    shelf.files.append(path)
    group, stem = path.parent.name, path.stem
    problems = [*shared.errors, *name_problems(path, shelf.first)]
    own = read_file(path)
    spec = None
    if isinstance(own, Document):
        filled = shared.fill(own)
        draft, found, used = read_source(filled, path, shelf.environ)
        shelf.params |= used
        problems += found
        spec = draft.spec
    else:
        problems += own
    if spec is not None and not errors_of(problems):
        problems += table_problems(spec, draft.document, shelf.tables)
    shelf.problems += problems
    shelf.first.setdefault(stem, path)
    if spec is None or errors_of(problems):
        shelf.broken.append(Broken(group, stem, path, errors_of(problems)))
        return
    shelf.sources[stem] = spec
    shelf.written[stem] = filled.value
    if spec.aliases or spec.requires or (spec.schedule and spec.schedule.batch):
        shelf.documents[stem] = draft.document
    shelf.tables.setdefault(spec.raw_table, spec)


def read_source(document: Document, path: Path, environ: Mapping[str, str]) -> tuple[Draft, list[Problem], set[str]]:
    """Read what a source's file says, with defaults filled in; its place gives its names.

    Returns the draft, what is wrong by itself (not across files), and the variables looked up.
    """
    document, wrong, used = override_params(document, path.parent.name, environ)
    document, unlisted = expand_lists(document)
    draft, found = read_draft(document, path.parent.name, path.stem, str(path))
    return draft, wrong + unlisted + found + check_draft(draft), used


def _check_aliases(shelf: _Shelf) -> None:
    """Break the sources that claim a name of before which is not theirs: what it has loaded cannot be given twice."""
    claims = alias_claims(shelf.sources.values())
    for stem, document in shelf.documents.items():
        _disable(shelf, stem, [*alias_problems(shelf.sources[stem], document, shelf.first, claims)])


def _check_requirements(shelf: _Shelf) -> None:
    """Break the sources that wait for what does not exist, or for each other."""
    broken = {one.source for one in shelf.broken}
    waiting = [stem for stem in shelf.documents if stem in shelf.sources and shelf.sources[stem].requires]
    found = {
        stem: [*requirement_problems(shelf.sources[stem], shelf.documents[stem], shelf.sources, broken)]
        for stem in waiting
    }
    for stem, problems in found.items():
        _disable(shelf, stem, problems)


def _check_batches(shelf: _Shelf) -> None:
    """Break the sources that are of a batch and not due when it is."""
    for members in batches_of(shelf.sources.values()).values():
        for spec in members:
            _disable(shelf, spec.source, [*batch_problems(spec, shelf.documents[spec.source], members)])


def _disable(shelf: _Shelf, stem: str, problems: list[Problem]) -> None:
    """Note problems of a source that was right by itself; with an error among them it cannot be loaded."""
    shelf.problems += problems
    if errors_of(problems):
        spec = shelf.sources.pop(stem)
        shelf.broken.append(Broken(spec.group, stem, shelf.first[stem], errors_of(problems)))


def errors_of(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the errors among the problems, each once."""
    return tuple(dict.fromkeys(problem for problem in problems if problem.severity == "error"))
