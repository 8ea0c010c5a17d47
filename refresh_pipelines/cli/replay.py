"""`refresh replay`: load accepted payloads again from the archive, or make the whole table anew from it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from datetime import date, datetime, timezone

import click

from refresh_pipelines.cli.common import json_option, load_settings, print_json, read_catalogue, select_sources
from refresh_pipelines.cli.outcomes import print_outcomes, progress
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.ranges import runs_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.window import partition_keys, split_key


@click.command()
@click.argument("name", metavar="SOURCE")
@click.option("--partition", "partitions", multiple=True, help="This partition; may be given several times.")
@click.option("--since", metavar="DATE", help="Partitions whose payload was accepted on or after this day (UTC).")
@click.option("--rebuild", "anew", is_flag=True, help="Remove all rows and make the table anew, oldest payload first.")
@click.option("--lossy", is_flag=True, help="With --rebuild: go ahead although earlier payloads are gone.")
@json_option
def replay(name: str, partitions: tuple[str, ...], since: str | None, anew: bool, lossy: bool, as_json: bool) -> None:
    """Load accepted payloads again from the archive, by the YAML as it is now, and ask nobody.

    Without options the payload that each partition was accepted with last. What differs is updated as
    by a refresh of now.

    --rebuild makes rows and load states anew from every payload that was accepted since the first,
    with the times and runs they had, in one transaction: the table is then what live loading gave, as
    today's YAML reads it. It mends a table that no longer fits its YAML.
    """
    if sum((bool(partitions), since is not None, anew)) > 1:
        raise click.UsageError("say one of --partition, --since and --rebuild")
    if lossy and not anew:
        raise click.UsageError("--lossy goes with --rebuild")
    first = _day(since)
    settings = load_settings()
    [spec] = select_sources(read_catalogue(settings), [name])
    keys = _kept(spec, settings, partitions, first, anew=anew, lossy=lossy)
    how = ("lossy" if lossy else "rebuild") if anew else "accepted"
    outcomes = _run(spec, settings, keys, how, quiet=as_json)
    ok = all(outcome.outcome in GOOD_EXIT for outcome in outcomes)
    if as_json:
        print_json([outcome.item() for outcome in outcomes], ok)
    elif outcomes:
        print_outcomes(outcomes, settings)
    else:
        click.echo(f"{spec.name}: no payload was accepted since {first:%Y-%m-%d}")
    sys.exit(0 if ok else 1)


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--since {text!r}: expected a day such as 2026-01-31") from error
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _kept(
    spec: SourceSpec, settings: Settings, named: Sequence[str], since: datetime | None, *, anew: bool, lossy: bool
) -> list[str]:
    """Return the partitions to load, "" without any; end the command where payloads are missing."""
    from refresh_pipelines.replay import past_of, require_kept  # noqa: PLC0415 - Arrow, which help does without

    past = past_of(spec, settings, open_warehouse(settings))
    if anew:
        require_kept(spec, past, None, lossy=lossy)
        return past.partitions
    wanted = list(dict.fromkeys(named)) if named else list(past.chains)
    newest = {key: chain.newest for key, chain in past.chains.items()}
    if since:
        wanted = [key for key in wanted if (load := newest[key]) and load.at >= since]
    if wanted or not since:
        require_kept(spec, past, wanted)
    return [key for key in past.partitions if key in wanted]


def _run(spec: SourceSpec, settings: Settings, keys: list[str], how: str, *, quiet: bool) -> list[Outcome]:
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.partitions import dynamic_keys  # noqa: PLC0415
    from refresh_pipelines.orchestration.past import add_keys  # noqa: PLC0415
    from refresh_pipelines.orchestration.runner import Order, run_order  # noqa: PLC0415
    from refresh_pipelines.orchestration.tags import REPLAY  # noqa: PLC0415
    from refresh_pipelines.replay import TRIGGER  # noqa: PLC0415

    outcomes: list[Outcome] = []
    with open_instance(settings) as instance:
        add_keys(instance, spec, keys)
        dynamic = dynamic_keys(instance, spec) if spec.partitions and spec.partitions.dynamic else ()
        every = partition_keys(spec, datetime.now(timezone.utc), dynamic)
        runs = _ends(spec, keys, every) if how != "accepted" else _parts(spec, keys, every)
        with progress(len(runs), quiet) as step:
            for run in runs:
                step(spec.name)
                order = Order(spec, run, trigger=TRIGGER, tags={REPLAY: how})
                outcomes += run_order(instance, order, settings)
    return outcomes


def _parts(spec: SourceSpec, keys: Collection[str], every: Sequence[str]) -> list[tuple[str, ...]]:
    """Divide the partitions into runs."""
    return runs_of(spec, keys, every) if spec.partitions else [()] * bool(keys)


def _ends(spec: SourceSpec, keys: Sequence[str], every: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the one run that covers all of the partitions, from the first to the last there is between them."""
    if spec.partitions is None:
        return [()]
    inside = [key for key in every if key in set(keys)]
    if spec.partitions.time is None or spec.partitions.dimension is None:
        return [tuple(dict.fromkeys((inside[0], inside[-1])))]
    times, others = sorted(split_key(key)[0] for key in inside), spec.partitions.static[spec.partitions.dimension]
    return [tuple(dict.fromkeys((f"{times[0]}|{others[0]}", f"{times[-1]}|{others[-1]}")))]
