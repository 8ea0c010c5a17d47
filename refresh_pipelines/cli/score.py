"""How a source's score is explained: part by part, so that anybody can add it up."""

from __future__ import annotations

from typing import Any

import click

from refresh_pipelines.cli.common import print_table
from refresh_pipelines.score import Score
from refresh_pipelines.score_parts import WINDOW, Part
from refresh_pipelines.spec import SourceSpec

_OVER = {
    "on time": ("tick", "ticks"),
    "recovery": ("stretch", "stretches"),
    "plausibility": ("refresh", "refreshes"),
    "schema": ("refresh", "refreshes"),
}


def shown_total(score: Score | None) -> float | None:
    """Return a score's total as it is shown everywhere, to two places; None without any."""
    total = score.total if score else None
    return None if total is None else round(total, 2)


def part_item(score: Score, part: Part) -> dict[str, Any]:
    """Return a part for programs; `weight` times `value`, added up, is the score."""
    return {
        "part": part.name,
        "weight": round(score.share(part), 4),
        "value": None if part.value is None else round(part.value, 4),
        "over": part.count,
        "lowered_by": list(part.lowered_by),
        "more": part.more,
    }


def print_score(spec: SourceSpec, score: Score | None) -> None:
    """Print what a score is made of; a sentence where there is none."""
    total = shown_total(score)
    if score is None:
        click.echo("\nNo score: a derived source asks no upstream.")
    elif total is None:
        days = WINDOW.days
        click.echo(f"\nNo score yet: no refresh of the last {days} days says anything of {spec.name}'s upstream.")
    else:
        click.echo("")
        rows = [_row(score, part) for part in score.parts]
        print_table(("SCORE", "WEIGHT", "VALUE", "POINTS", "OVER", "LOWERED MOST BY"), [*rows, _sum(total)])


def _row(score: Score, part: Part) -> tuple[object, ...]:
    if part.value is None:
        return (part.name, None, None, None, None, "nothing to judge by")
    share = score.share(part)
    more = f" and {part.more} more" if part.more else ""
    over = f"{part.count} {_OVER[part.name][part.count != 1]}"
    lowered = "; ".join(part.lowered_by) + more
    return (part.name, f"{share:.2f}", f"{part.value:.2f}", f"{share * part.value:.3f}", over, lowered or None)


def _sum(total: float) -> tuple[object, ...]:
    return ("total", "1.00", "", f"{total:.2f}", "", "")
