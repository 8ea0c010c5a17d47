"""Rules across files: names that are plain and unique, sources that share a table, and names of before."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from refresh_pipelines.problems import Problem
from refresh_pipelines.spec import TABLE_NAME, SourceSpec
from refresh_pipelines.yamlpos import Document

_FORMER = re.compile(rf"({TABLE_NAME.pattern}/)?{TABLE_NAME.pattern}")


def name_problems(path: Path, first: Mapping[str, Path]) -> Iterator[Problem]:
    """A source's file name is plain, ends in .yaml and is the first of its stem."""
    if path.suffix != ".yaml":
        yield Problem(path, 1, 1, f"a source's file ends in .yaml, not {path.suffix}", f"rename it to {path.stem}.yaml")
    if not TABLE_NAME.fullmatch(path.stem):
        plain = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower())
        hint = f"rename it to {plain}.yaml" if TABLE_NAME.fullmatch(plain) else "at most 40 plain characters"
        yield Problem(path, 1, 1, f"the source's name {path.stem} must match {TABLE_NAME.pattern}", hint)
    if path.stem in first:
        message = f"the source {path.stem} stands twice, first in {first[path.stem]}"
        yield Problem(path, 1, 1, message, "names are unique over all groups and folders")


def table_problems(spec: SourceSpec, document: Document, tables: Mapping[str, SourceSpec]) -> Iterator[Problem]:
    """Sources that share a table agree on columns, merge key and history; `spec` is the later one."""
    other = tables.get(spec.raw_table)
    if other is None:
        return
    differing = []
    if _shape(spec) != _shape(other):
        differing.append(("columns", "names, types and order"))
    if spec.merge_key != other.merge_key:
        differing.append(("merge_key", f"there: {', '.join(other.merge_key)}"))
    if spec.load.history != other.load.history:
        differing.append(("load", f"there: history: {str(other.load.history).lower()}"))
    for key, hint in differing:
        at = document.value_mark(("table",)) if spec.table else document.key_mark((key,))
        what = "load.history" if key == "load" else key
        message = f"{spec.name} and {other.name} share the table {spec.raw_table} but not the same {what}"
        yield Problem(*at, message, f"compare with {other.file}, {hint}")


def alias_problems(
    spec: SourceSpec, document: Document, present: Mapping[str, Path], claims: Mapping[str, Collection[str]]
) -> Iterator[Problem]:
    """A name of before is plain, is borne by no source now, and was the name of one source.

    Args:
        present: the file of each source there is, by stem, also of broken and disabled ones.
        claims: the sources that name a stem among their aliases, by stem.
    """
    for index, alias in enumerate(spec.aliases):
        mark = document.value_mark(("aliases", index))
        group, _, stem = alias.rpartition("/")
        if not _FORMER.fullmatch(alias):
            yield Problem(*mark, f"{alias!r} was no source's name", "for instance old_name, or old_group/old_name")
        elif stem == spec.source and group in ("", spec.group):
            yield Problem(*mark, f"{alias} is this source's own name", "aliases are names it had before")
        elif stem in present and stem != spec.source:
            hint = "rename that one's file first, or take the alias out"
            yield Problem(*mark, f"{alias} is a source still, in {present[stem]}", hint)
        elif len(claims.get(stem, ())) > 1:
            others = ", ".join(sorted(set(claims[stem]) - {spec.name}))
            yield Problem(*mark, f"{others} says too that it was called {alias}", "one of them was")


def alias_claims(specs: Iterable[SourceSpec]) -> dict[str, set[str]]:
    """Return which sources say that they were called so before, by stem."""
    claims: dict[str, set[str]] = {}
    for spec in specs:
        for alias in spec.aliases:
            claims.setdefault(alias.rpartition("/")[2], set()).add(spec.name)
    return claims


def _shape(spec: SourceSpec) -> list[tuple[str, str]]:
    return [(name, column.type) for name, column in spec.columns.items()]
