"""Rules for dropped files: a folder that can be reached safely, and nothing beside it that is for asking a server."""

from __future__ import annotations

from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.drop.listing import LOCAL, PROTOCOLS, pattern_of, protocol_of
from refresh_pipelines.problems import Problem
from refresh_pipelines.rules.addresses import check_address, filled
from refresh_pipelines.rules.secrets import is_secret_name
from refresh_pipelines.spec import Drop

# What a request may say that a folder has no use for.
_ASKING = (
    *("method", "params", "headers", "body", "rate", "auth", "retry_on", "retry_after", "stale"),
    *("each", "paging", "span"),
)


def check_drop(draft: Draft) -> Iterator[Problem]:
    """A drop goes with on_event and a partition for each day of arrival, and is merged."""
    drop = draft.request.drop if draft.request else None
    frequency = draft.schedule.frequency if draft.schedule else None
    if drop is None:
        if frequency == "on_event" and draft.request and "request" not in draft.bad:
            hint = "request.drop names the folder in which they arrive"
            yield draft.problem(("schedule", "frequency"), "on_event goes with dropped files", hint, key=True)
        return
    yield from _check_around(draft, frequency)
    yield from _check_url(draft, drop)
    yield from _check_names(draft, drop)
    for name in drop.options:
        if is_secret_name(name):
            hint = "a credential belongs in the environment: AWS_ACCESS_KEY_ID and the like"
            yield draft.problem(("request", "drop", "options", name), f"{name} is written as a value", hint)
    endpoint = drop.options.get("endpoint_url")
    if isinstance(endpoint, str):
        allow = bool(draft.request and draft.request.allow_private)
        yield from check_address(draft, ("request", "drop", "options", "endpoint_url"), endpoint, allow)


def _check_around(draft: Draft, frequency: str | None) -> Iterator[Problem]:
    for key in _ASKING:
        if draft.wrote("request", key):
            yield draft.problem(("request", key), f"request.{key} does not go with drop", key=True)
    if frequency != "on_event" and "schedule" not in draft.bad and draft.schedule:
        hint = "a sensor looks into the folder every half minute"
        yield draft.problem(("schedule",), "a source with drop says schedule: {frequency: on_event}", hint, key=True)
    if "partitions" not in draft.bad and not (draft.partitions and draft.partitions.dynamic):
        hint = "partitions: {dynamic: day}: one for each day on which files arrive"
        yield draft.problem(("request", "drop"), "a source with drop has dynamic partitions", hint, key=True)
    if draft.load.mode != "merge":
        hint = "rows of earlier files of the day would be deleted; use mode: merge"
        yield draft.problem(("load", "mode"), f"load.mode: {draft.load.mode} does not go with drop", hint)
    if draft.expect.keep:
        hint = "one file is not the whole of a day"
        yield draft.problem(("expect", "keep"), "expect.keep does not go with drop", hint, key=True)


def _check_url(draft: Draft, drop: Drop) -> Iterator[Problem]:
    url, loc = filled(drop.url, draft), ("request", "drop", "url")
    protocol = protocol_of(url)
    if "::" in url or protocol not in PROTOCOLS:
        names = ", ".join(sorted(f"{name}://" for name in PROTOCOLS if name))
        yield draft.problem(loc, "not a folder that files can be dropped into", f"a path below the root, or {names}")
    elif protocol in LOCAL and ".." in url.split("/"):
        yield draft.problem(loc, "the folder lies outside the root", "an absolute path says so openly")
    elif "@" in url.partition("://")[2].partition("/")[0]:
        yield draft.problem(loc, "an address must not hold a user or password", "credentials belong in the environment")


def _check_names(draft: Draft, drop: Drop) -> Iterator[Problem]:
    try:
        pattern_of(drop.pattern)
    except ValueError as error:
        yield draft.problem(("request", "drop", "pattern"), str(error))
    column = next((name for name, found in draft.columns.items() if found.source == "{file}"), None)
    if column and draft.columns[column].type != "text":
        yield draft.problem(("columns", column, "type"), "the name of a file is text")
    if drop.same_name == "replace" and column is None and draft.wrote("request", "drop", "same_name"):
        message = "rows that a new version of a file no longer holds stay in the table"
        hint = 'a column with from: "{file}" says which they are; they are then deleted'
        yield draft.problem(("request", "drop", "same_name"), message, hint, severity="note")
