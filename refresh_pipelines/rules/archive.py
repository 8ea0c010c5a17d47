"""What `archive.redact` may name."""

from __future__ import annotations

from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem

_KINDS = ("csv", "json", "jsonl")


def check_redact(draft: Draft) -> Iterator[Problem]:
    """Fields are masked only where it is certain which they are, and where rows can do without them."""
    names = _redacted(draft)
    form, loc = draft.format, ("archive", "redact")
    if names and (form is None or form.kind not in _KINDS or form.layouts):
        hint = "of another format the payload is kept as it is, whatever its columns"
        yield draft.problem(loc, f"archive.redact goes with format {', '.join(_KINDS)}", hint, key=True)
        return
    by = draft.partitions.column if draft.partitions else None
    needed = {by, *(draft.sections.get("merge_key") or ())}
    for place, path in enumerate(names):
        for name, column in draft.columns.items():
            if not any(one == path or one.startswith(f"{path}.") for one in column.fields(name)):
                continue
            if name in needed:
                hint = "rows are told apart by it"
                yield draft.problem((*loc, place), f"{path} is read into {name}, which no row can lack", hint)
            elif not column.nullable and column.type != "text":
                hint = f"a text becomes ***, and what is read into {column.type} becomes empty"
                yield draft.problem((*loc, place), f"{path} is read into {name}, which may not be empty", hint)


def _redacted(draft: Draft) -> list[str]:
    said = draft.raw.get("archive")
    names = said.get("redact") if isinstance(said, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
