"""Rules for what a request's parts need of each other and of the rest: each, paging, span, JSON paths."""

from __future__ import annotations

from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem
from refresh_pipelines.rules.placeholders import fields_used


def check_each(draft: Draft) -> Iterator[Problem]:
    """Each value gives another request, and a part that is missing deletes nothing."""
    request = draft.request
    if request is None or request.each is None:
        return
    each = request.each
    if each.name not in fields_used(request):
        message = f"the request does not use {{{each.name}}}, so each value would be asked the same"
        yield draft.problem(("request", "each"), message, key=True)
    if each.on_error == "keep_rest" and draft.load.mode == "replace_partition":
        message = "keep_rest would delete the rows of what failed under load.mode: replace_partition"
        yield draft.problem(("request", "each", "on_error"), message, "use mode: merge, or on_error: fail")
    if each.on_error == "keep_rest" and (draft.expect.keep or draft.expect.present):
        message = "what failed would count as lost under expect.keep and expect.present, so there is no rest to keep"
        yield draft.problem(("request", "each", "on_error"), message, "use on_error: fail, or leave them out")


def check_paging(draft: Draft) -> Iterator[Problem]:
    """Pages are counted and their marks found in JSON documents, and no parameter is set twice."""
    request, form = draft.request, draft.format
    if request is None or request.paging is None:
        return
    paging, loc = request.paging, ("request", "paging")
    by_header = paging.kind == "link" and paging.next is None and paging.total is None
    if not by_header and (form is None or form.kind != "json"):
        message = f"paging of kind {paging.kind} looks into JSON pages"
        yield draft.problem(loc, message, "format: json; only links in the header Link go with other formats", key=True)
    for name in filter(None, (paging.param, paging.size_param)):
        if name in request.params:
            yield draft.problem(("request", "params", name), f"paging sets {name}", "leave it out here", key=True)


def check_span(draft: Draft) -> Iterator[Problem]:
    """A request that spans partitions says from when to when, and its rows say where they belong."""
    request, partitions = draft.request, draft.partitions
    if request is None or request.span == 1 or "partitions" in draft.bad:
        return
    loc = ("request", "span")
    if partitions is None or partitions.time is None or partitions.column is None:
        yield draft.problem(loc, "span needs partitions with time and column", key=True)
        return
    used = fields_used(request)
    if not {"start", "end"} <= used or "partition" in used:
        message = "a request that spans partitions names {start} and {end}, and not {partition}"
        yield draft.problem(loc, message, "it would ask for the first partition alone", key=True)


def check_document(draft: Draft) -> Iterator[Problem]:
    """Paths into a document go with JSON."""
    form = draft.format
    if form is None or "json" in (form.kind, *form.of):
        return
    for key in ("document", "published", "error", "rows"):
        if draft.wrote("format", key):
            yield draft.problem(("format", key), f"format.{key} goes with JSON, not with {form.kind}", key=True)
