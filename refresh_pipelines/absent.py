"""What it means that data are not where they were expected: moved, replaced by a page, or not out yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from refresh_pipelines.errors import WrongPeriod
from refresh_pipelines.fetch import NotHere
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import Window


def nowhere(passed_over: Sequence[NotHere]) -> NotHere:
    """Return one error for all addresses: the first that was more than a plain 404 speaks for them."""
    first = next((error for error in passed_over if error.page), passed_over[0])
    others = [f"{error.problem}: {error.came}" for error in passed_over if error is not first]
    return NotHere(
        first.problem,
        page=first.page,
        expected=first.expected,
        came="; and ".join([first.came, *others]),
        todo=first.todo,
    )


def behind_a_page(wrong: WrongPeriod, url: str, passed_over: Sequence[NotHere]) -> WrongPeriod | NotHere:
    """Prefer the web page at the right address over the wrong period at the fallback."""
    page = next((error for error in passed_over if error.page), None)
    if page is None or wrong.earlier:
        wrong.came += f" at {url}"
        return wrong
    return NotHere(
        page.problem,
        page=True,
        expected=page.expected,
        came=f"{page.came}; and {url} holds {wrong.came}",
        todo=page.todo,
    )


def unpublished_until(spec: SourceSpec, window: Window, now: datetime, error: NotHere | WrongPeriod) -> datetime | None:
    """Return the end of the time in which `error` only means that the period is not published yet.

    None when it is over or was never declared, or when the error is no such sign.
    """
    sign = error.earlier if isinstance(error, WrongPeriod) else not error.page
    grace = spec.partitions.unpublished_for if spec.partitions and spec.partitions.time else None
    if not (sign and grace and window.start) or now >= window.start + grace:
        return None
    return window.start + grace
