"""Rules for what a source is: owner, tags, homepage, and whether it says enough to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem

# These three are Dagster's own; one source it refuses would take the whole code location with it.
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")


def check_whole(draft: Draft) -> Iterator[Problem]:
    """A source is read by a format or a parser, and one that is enabled is due at some time."""
    if draft.raw.get("derive") is not None:
        return  # `rules.gates` says what such a source needs
    if draft.raw.get("request") is None:
        yield draft.problem((), "request is missing")
    readers = [key for key in ("format", "parser") if draft.raw.get(key) is not None]
    if len(readers) == 2:
        yield draft.problem(("parser",), "format and parser exclude each other", "keep one of them", key=True)
    elif not readers:
        yield draft.problem((), "a source needs exactly one of format and parser", "for instance format: csv")
    enabled = draft.raw.get("enabled", True)
    if enabled is False or {"enabled", "schedule"} & draft.bad:
        return
    if draft.schedule is None or not (draft.schedule.cron or draft.schedule.frequency):
        message = "an enabled source needs schedule.frequency or schedule.cron"
        yield draft.problem(("schedule",), message, "or say enabled: false", key=True)


def check_identity(draft: Draft) -> Iterator[Problem]:
    """Owner, tags and homepage are what Dagster and the pages can show."""
    owner = draft.sections.get("owner")
    if owner and not (_EMAIL.fullmatch(owner) or re.fullmatch(r"team:\S.*", owner)):
        yield draft.problem(
            ("owner",), "owner must be an e-mail address or team:name", f"for instance team:{draft.group}"
        )
    for key, value in (draft.sections.get("tags") or {}).items():
        if not _TAG_KEY.fullmatch(key) or key.startswith("dagster/"):
            yield draft.problem(("tags", key), "a tag's name holds letters, digits, _ . - only", key=True)
        if not _TAG_VALUE.fullmatch(value):
            hint = "at most 63 of them"
            yield draft.problem(("tags", key), "a tag's value holds letters, digits, _ . - only", hint)
    homepage = draft.sections.get("homepage")
    if homepage and not re.match(r"https?://[^/\s]+", homepage):
        yield draft.problem(("homepage",), "homepage must be an address that begins with https://")
