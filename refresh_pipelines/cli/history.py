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

_HEADERS = ("STARTED", "SOURCE", "PARTITION", "OUTCOME", "FETCHED", "ADDED", "UPDATED", "DELETED", "TRIGGER", "RUN")


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
                o.counts.added, o.counts.updated, o.counts.deleted, o.trigger, o.run_id[:8],
            )
            for o in outcomes
        ],
    )  # fmt: skip
    for outcome in outcomes:
        if outcome.message and outcome.outcome == "failed":
            click.echo(f"\n{outcome.run_id[:8]}: {outcome.message}")
