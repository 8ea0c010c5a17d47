"""Rules across files: names that are plain and unique, and sources that share a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from refresh_pipelines.problems import Problem
from refresh_pipelines.spec import TABLE_NAME, SourceSpec
from refresh_pipelines.yamlpos import Document


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
    """Sources that share a table agree on columns and merge key; `spec` is the later one."""
    other = tables.get(spec.raw_table)
    if other is None:
        return
    differing = []
    if _shape(spec) != _shape(other):
        differing.append(("columns", "names, types and order"))
    if spec.merge_key != other.merge_key:
        differing.append(("merge_key", f"there: {', '.join(other.merge_key)}"))
    for key, hint in differing:
        at = document.value_mark(("table",)) if spec.table else document.key_mark((key,))
        message = f"{spec.name} and {other.name} share the table {spec.raw_table} but not the same {key}"
        yield Problem(*at, message, f"compare with {other.file}, {hint}")


def _shape(spec: SourceSpec) -> list[tuple[str, str]]:
    return [(name, column.type) for name, column in spec.columns.items()]
