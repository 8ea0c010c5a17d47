"""One source as far as it could be read, for rules to look at; and the grammar's own problems.

A source with a wrong section still has its other ones checked, so that one run of `refresh check`
shows everything. What is wrong is left out of the draft, and `bad` says which sections are not whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from refresh_pipelines.grammar import explain
from refresh_pipelines.problems import Problem, Severity
from refresh_pipelines.spec import (
    Breaker,
    Column,
    Derive,
    Expect,
    Format,
    Load,
    Partitions,
    Request,
    Requires,
    Retry,
    Schedule,
    SourceSpec,
    SourceYaml,
)
from refresh_pipelines.yamlpos import Document, Loc

# Keys that the file's place says; a person may not write them.
_BY_PLACE = frozenset({"group", "source", "file"})


@dataclass(frozen=True)
class Draft:
    """What a source declares, with the places of it.

    Attributes:
        spec: the source, if the grammar has no complaint.
        sections: every section that could be read, by its key; wrong single keys are left out of it.
        bad: the sections in which something was wrong.
    """

    document: Document
    group: str
    source: str
    spec: SourceSpec | None
    sections: Mapping[str, Any]
    bad: frozenset[str]

    @property
    def raw(self) -> dict[str, Any]:
        """The values as written, with defaults filled in."""
        return self.document.value

    @property
    def request(self) -> Request | None:
        """The request, as far as it is right."""
        return self.sections.get("request")

    @property
    def format(self) -> Format | None:
        """The format; None for a parser."""
        return self.sections.get("format")

    @property
    def columns(self) -> dict[str, Column]:
        """The columns that are right; `column_names` has the others too."""
        return self.sections.get("columns") or {}

    @property
    def column_names(self) -> list[str]:
        """Names of all columns as written, right or wrong."""
        columns = self.raw.get("columns")
        return list(columns) if isinstance(columns, dict) else []

    @property
    def load(self) -> Load:
        """How rows are loaded."""
        return self.sections.get("load") or Load()

    @property
    def schedule(self) -> Schedule | None:
        """The schedule, if there is one and it could be read."""
        return self.sections.get("schedule")

    @property
    def partitions(self) -> Partitions | None:
        """The partitions, if there are any and they could be read."""
        return self.sections.get("partitions")

    @property
    def retry(self) -> Retry:
        """The tries of one refresh."""
        return self.sections.get("retry") or Retry()

    @property
    def breaker(self) -> Breaker:
        """When the source is left alone."""
        return self.sections.get("breaker") or Breaker()

    @property
    def expect(self) -> Expect:
        """What a plausible payload looks like."""
        return self.sections.get("expect") or Expect()

    @property
    def requires(self) -> tuple[Requires, ...]:
        """The sources it needs; () if one of them could not be read."""
        return self.sections.get("requires") or ()

    @property
    def derive(self) -> Derive | None:
        """How it is made from others; None for a source that asks an upstream."""
        return self.sections.get("derive")

    @property
    def params(self) -> dict[str, Any]:
        """The source's own params, with those of its group."""
        params = self.raw.get("params")
        return params if isinstance(params, dict) else {}

    def wrote(self, *loc: str) -> bool:
        """Whether a person wrote the key at `loc`, here or in the defaults."""
        return loc in self.document.keys

    def problem(
        self, loc: Loc, message: str, hint: str = "", *, key: bool = False, severity: Severity = "error"
    ) -> Problem:
        """Return a problem at the value of `loc`, or at its key; at what is around it if not written."""
        mark = self.document.key_mark(loc) if key else self.document.value_mark(loc)
        return Problem(mark.file, mark.line, mark.column, message, hint, severity)


def read_draft(document: Document, group: str, source: str, file: str) -> tuple[Draft, list[Problem]]:
    """Check a document against the grammar; return what could be read and what is wrong."""
    draft = Draft(document, group, source, None, {}, frozenset())
    taken = [
        draft.problem((key,), f"unknown key {key}", "the file's place says it", key=True)
        for key in document.value
        if key in _BY_PLACE
    ]
    raw = {key: value for key, value in document.value.items() if key not in _BY_PLACE}
    try:
        model = SourceYaml.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False)
        bad = frozenset(str(item["loc"][0]) for item in details if item["loc"])
        draft = replace(draft, sections=_salvage(raw, details), bad=bad)
        found = explain(document, details)
        return draft, taken + [draft.problem(loc, text, hint, key=at_key) for loc, at_key, text, hint in found]
    spec = SourceSpec(**dict(model), group=group, source=source, file=file)
    return replace(draft, spec=None if taken else spec, sections=dict(model)), taken


def _salvage(raw: Mapping[str, Any], details: Iterable[ErrorDetails]) -> dict[str, Any]:
    """Read each section by itself, without its wrong keys."""
    wrong: dict[str, set[str | int]] = {}
    for item in details:
        if item["loc"]:
            wrong.setdefault(str(item["loc"][0]), set()).update(item["loc"][1:2])
    out: dict[str, Any] = {}
    for name in SourceYaml.model_fields:
        if name not in raw:
            continue
        value = raw[name]
        if name in wrong:
            if not isinstance(value, dict):
                continue
            value = {key: part for key, part in value.items() if key not in wrong[name]}
        try:
            out[name] = _adapter(name).validate_python(value)
        except ValidationError:
            continue  # It is wrong as a whole, and its problems are known already.
    return out


@lru_cache
def _adapter(name: str) -> TypeAdapter[Any]:
    annotation: Any = SourceYaml.model_fields[name].annotation
    return TypeAdapter(annotation)
