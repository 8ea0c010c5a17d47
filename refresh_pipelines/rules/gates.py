"""Rules for `requires` and `derive`: what goes with them, and that required sources exist."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from refresh_pipelines.draft import Draft
from refresh_pipelines.lineage import circle_through
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.reconcile import selects_of
from refresh_pipelines.rules.queries import check_query, check_tables
from refresh_pipelines.rules.reconciled import check_reconcile, reconcile_problems
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.yamlpos import Document

_INSTEAD = ("request", "format", "parser")
_NOT_WITH = {
    "schedule": "it is built whenever its inputs have changed",
    "partitions": "a query gives the whole table each time",
}
_QUERY = ("derive", "query")


def check_requires(draft: Draft) -> Iterator[Problem]:
    """No source requires itself or another one twice, and periods are only compared where there are some."""
    seen: set[str] = set()
    timed = draft.partitions is not None and draft.partitions.time is not None
    for index, need in enumerate(draft.requires):
        loc = ("requires", index, "source")
        if need.stem == draft.source:
            yield draft.problem(loc, "a source cannot require itself")
        if need.stem in seen:
            yield draft.problem(loc, f"{need.stem} is required twice", "keep one of them")
        seen.add(need.stem)
        if need.period == "same" and not timed and "partitions" not in draft.bad:
            message = "period: same compares time partitions, and this source has none"
            yield draft.problem(("requires", index, "period"), message, "newest or any")


def check_derived(draft: Draft) -> Iterator[Problem]:
    """A derived source has inputs, a query and nothing that belongs to asking an upstream."""
    if draft.raw.get("derive") is None:
        return
    for key in _INSTEAD:
        if draft.raw.get(key) is not None:
            yield draft.problem((key,), f"derive stands in place of {key}", "keep one of them", key=True)
    for key, hint in _NOT_WITH.items():
        if draft.raw.get(key) is not None:
            yield draft.problem((key,), f"{key} does not go with derive", hint, key=True)
    if draft.wrote("load", "mode") and draft.load.mode != "replace_partition":
        hint = "leave load.mode out: the result of the query replaces what it gave before"
        yield draft.problem(("load", "mode"), f"load.mode: {draft.load.mode} does not go with derive", hint)
    if not draft.requires and "requires" not in draft.bad:
        hint = "requires: [{source: name}] for each source whose table it reads"
        yield draft.problem(("derive",), "a derived source names the sources it is made from", hint, key=True)
    if draft.derive is not None:
        for loc, query in selects_of(draft.derive).items():
            yield from check_query(draft, loc, query)
        yield from check_reconcile(draft)


def requirement_problems(
    spec: SourceSpec, document: Document, sources: Mapping[str, SourceSpec], broken: Collection[str]
) -> Iterator[Problem]:
    """Required sources exist and do not require the source in turn; a query reads their tables and no others.

    Args:
        sources: all that can be loaded, by stem; `broken`: the stems of the others.
    """
    for index, need in enumerate(spec.requires):
        mark = document.value_mark(("requires", index, "source"))
        required = sources.get(need.stem)
        if required is None and need.stem in broken:
            yield Problem(*mark, f"{need.source} cannot be loaded now, so the gate stays closed", severity="note")
        elif required is None or need.source not in (required.source, required.name):
            hint = (
                f"did you mean {required.name}?"
                if required
                else did_you_mean(need.source, _names(need.source, sources))
            )
            yield Problem(*mark, f"no source is called {need.source}", hint)
        else:
            yield from _check_one(spec, document, index, required)
    circle = circle_through(spec, sources)
    if circle:
        mark = document.key_mark(("requires",))
        yield Problem(*mark, f"the sources wait for each other: {' → '.join(circle)}", "take one requirement out")
    if spec.derive is None or {need.stem for need in spec.requires} & set(broken):
        return
    if spec.derive.query is not None:
        allowed = {sources[need.stem].raw_table for need in spec.requires if need.stem in sources}
        yield from check_tables(document, _QUERY, spec.derive.query, allowed)
    else:
        yield from reconcile_problems(spec, document, sources)


def _names(written: str, sources: Mapping[str, SourceSpec]) -> list[str]:
    return [spec.name if "/" in written else spec.source for spec in sources.values()]


def _check_one(spec: SourceSpec, document: Document, index: int, required: SourceSpec) -> Iterator[Problem]:
    need = spec.requires[index]
    if not required.enabled:
        mark = document.value_mark(("requires", index, "source"))
        message = f"{required.name} is disabled: the gate only asks whether it was ever refreshed"
        yield Problem(*mark, message, severity="note")
    if need.period == "same" and not (required.partitions and required.partitions.time):
        mark = document.value_mark(("requires", index, "period"))
        message = f"period: same compares time partitions, and {required.name} has none"
        yield Problem(*mark, message, "newest or any")
