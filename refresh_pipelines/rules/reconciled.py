"""Rules for `derive.reconcile`: its columns are those it gives, and its sources have different priorities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.rules.queries import check_tables
from refresh_pipelines.spec import RESULT, SourceSpec
from refresh_pipelines.yamlpos import Document

_SOURCES = ("derive", "reconcile", "sources")


def check_reconcile(draft: Draft) -> Iterator[Problem]:
    """The table's key is the one that is reconciled, its columns are given, and its sources are required ones."""
    wanted = draft.derive.reconcile if draft.derive else None
    if wanted is None:
        return
    given = (*wanted.key, *RESULT)
    for name, column in draft.columns.items():
        for field in column.fields(name):
            if field not in given:
                loc = ("columns", name, "from") if column.source else ("columns", name)
                hint = did_you_mean(field, given) or f"there are {', '.join(given)}"
                yield draft.problem(loc, f"{field} is not what reconcile gives", hint, key=not column.source)
    read = {field: name for name, column in draft.columns.items() for field in column.fields(name)}
    if "columns" not in draft.bad and "merge_key" not in draft.bad:
        key = {read.get(name) for name in wanted.key}
        if key != set(draft.sections.get("merge_key") or ()):
            yield draft.problem(("merge_key",), "the merge key is that of reconcile", ", ".join(wanted.key))
    required = {need.stem for need in draft.requires}
    for name in wanted.sources:
        if name not in required and "requires" not in draft.bad:
            hint = did_you_mean(name, required) or f"requires: [{{source: {name}}}]"
            yield draft.problem((*_SOURCES, name), f"{name} is not among the required sources", hint, key=True)


def reconcile_problems(spec: SourceSpec, document: Document, sources: Mapping[str, SourceSpec]) -> Iterator[Problem]:
    """Each source has a priority that no other has, and its SELECT reads its own table.

    Args:
        sources: all that can be loaded, by stem.
    """
    wanted = spec.derive.reconcile if spec.derive else None
    seen: dict[float, str] = {}
    for name, select in wanted.sources.items() if wanted else ():
        source = sources.get(name)
        if source is None:
            continue
        yield from check_tables(document, (*_SOURCES, name), select, {source.raw_table})
        mark = document.key_mark((*_SOURCES, name))
        if source.priority is None:
            hint = f"say priority: in {source.file}, higher than that of the sources it is to win over"
            yield Problem(*mark, f"{source.name} has no priority", hint)
        elif source.priority in seen:
            message = f"{source.name} has the priority {source.priority:g}, as {seen[source.priority]} has"
            yield Problem(*mark, message, "which of them is chosen must be said: change one of them")
        else:
            seen[source.priority] = source.name
