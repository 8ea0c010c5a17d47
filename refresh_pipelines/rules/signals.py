"""Rules for what decides beforehand: a catalogue that is asked before the payload, and rows chosen by their texts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.rules.addresses import check_address

_ALONE = "it speaks of one payload"


def check_signal(draft: Draft) -> Iterator[Problem]:
    """A signal has an address that may be asked, and goes with a refresh that is one request."""
    request = draft.request
    if request is None or request.signal is None:
        return
    yield from check_address(draft, ("request", "signal", "url"), request.signal.url, request.allow_private)
    for key in ("each", "paging", "drop"):
        if getattr(request, key) is not None:
            yield draft.problem(("request", "signal"), f"a signal does not go with {key}", _ALONE, key=True)
    if request.span > 1:
        yield draft.problem(("request", "signal"), "a signal does not go with span", _ALONE, key=True)
    if request.method != "GET":
        yield draft.problem(("request", "signal"), f"a signal does not go with {request.method}", key=True)


def check_where(draft: Draft) -> Iterator[Problem]:
    """The fields by which rows are chosen are among those that the format names."""
    chosen = draft.format
    if chosen is None or not chosen.fields:
        return
    for name in chosen.where:
        if name not in chosen.fields and not re.fullmatch(r"\{[^{}]*\}", name):
            hint = did_you_mean(name, chosen.fields)
            yield draft.problem(("format", "where", name), f"{name} is not among format.fields", hint, key=True)
