"""`refresh history`: past refreshes from Dagster's event log, the only copy."""

from __future__ import annotations

import click

from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    print_table,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.cli.outcomes import rejected_lines
from refresh_pipelines.clocks import savings_of, size_text

_HEADERS = (
    "STARTED", "SOURCE", "PARTITION", "OUTCOME", "FETCHED", "ADDED", "UPDATED", "DELETED", "SAVED", "TRIGGER", "RUN",
)  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--partition", help="Only this partition.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="At most so many per source."
)
@json_option
def history(names: tuple[str, ...], partition: str | None, limit: int, as_json: bool) -> None:
    """Show past refreshes and what they did, newest first."""
    from refresh_pipelines.orchestration.events import history as read  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415

    settings = load_settings()
    specs = select_sources(read_catalogue(settings), names)
    with open_instance(settings) as instance:
        outcomes = [outcome for spec in specs for outcome in read(instance, spec, limit, partition)]
    outcomes.sort(key=lambda outcome: outcome.started_at or "", reverse=True)
    if as_json:
        print_json([outcome.item() for outcome in outcomes], ok=True)
        return
    print_table(
        _HEADERS,
        [
            (
                (o.started_at or "")[:19].replace("T", " "), o.source, o.partition, o.outcome, o.counts.fetched,
                o.counts.added, o.counts.updated, o.counts.deleted,
                size_text(o.bytes_saved) if o.bytes_saved else None, o.trigger, o.run_id[:8],
            )
            for o in outcomes
        ],
    )  # fmt: skip
    if said := savings_of(outcomes).sentence():
        click.echo(f"\n{said}.")
    for said in rejected_lines(outcomes[:limit]):
        click.echo(f"\n{said}")
    for outcome in outcomes:
        if outcome.message and outcome.outcome in ("failed", "quarantined"):
            click.echo(f"\n{outcome.run_id[:8]}: {outcome.message}")
