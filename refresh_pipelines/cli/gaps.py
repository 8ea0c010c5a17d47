"""`refresh gaps`: which due ticks were neither a run nor an explained skip, what is missing, and `--fill`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    print_table,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.cli.due import Shown, one_at_a_time, run_orders
from refresh_pipelines.cli.outcomes import print_outcomes, progress
from refresh_pipelines.cli.upstream import sandbox_if_needed
from refresh_pipelines.clock import utc_now
from refresh_pipelines.decide import tick_text
from refresh_pipelines.gaps import Finding
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.plan import why_no_fires
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.units import parse_duration

if TYPE_CHECKING:
    from refresh_pipelines.orchestration.gaps import Account

_HEADERS = ("SOURCE", "VERDICT", "FIRST TICK", "LAST TICK", "TICKS", "PARTITIONS", "WHY")
_LISTED = frozenset({"gap", "expired", "made_up", "missing"})
_ORDER = ("run", "coalesced", "skipped", "paused", "pending", "made_up", "expired", "gap")


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--group", help="Only the sources of this group.")
@click.option(
    "--since", default="90d", show_default=True, help="A date, an ISO time (UTC unless it says so) or an age."
)
@click.option("--fill", is_flag=True, help="Refresh what is missing, and what a gap would have asked for.")
@click.option("--verbose", is_flag=True, help="With --fill: show Dagster's log of each run.")
@json_option
def gaps(names: tuple[str, ...], group: str | None, since: str, fill: bool, verbose: bool, as_json: bool) -> None:
    """List due ticks that were neither a run nor a skip with a reason, and partitions that are missing.

    Due ticks come from the schedule, as far back as it is known to be what it is now; what became of
    them from Dagster's history of ticks and runs. A gap whose partitions were all refreshed later is
    listed as made up for, and leaves nothing to do. Times are UTC.

    Exit code 1 if there is a gap or something is missing; with --fill as of `refresh run`.
    """
    settings = load_settings()
    now = utc_now()
    wanted = _instant(since, now)
    catalogue = read_catalogue(settings)
    specs = select_sources(catalogue, names, group)
    for broken in [] if names else catalogue.broken.values():
        if group in (None, broken.group):
            click.echo(f"{broken.name} is left out, its YAML has problems: run `refresh check`.", err=True)
    if fill:
        _fill(specs, settings, wanted, Shown(verbose=verbose, quiet=as_json))
    accounts = _accounts(specs, settings, wanted, now)
    ok = all(account.good for account in accounts)
    if as_json:
        print_json([item for account in accounts for item in _items(account)], ok)
    else:
        _print(accounts)
    sys.exit(0 if ok else 1)


def _instant(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        at = at.replace(tzinfo=at.tzinfo or timezone.utc)
    except ValueError:
        try:
            at = now - parse_duration(text)
        except (ValueError, OverflowError) as error:
            raise click.UsageError(
                f"--since {text!r}: expected a time such as 2026-10-25, or an age such as 90d"
            ) from error
    if at > now:
        raise click.UsageError(f"--since {text!r} lies ahead: gaps are looked for in the past")
    return at


def _accounts(specs: Sequence[SourceSpec], settings: Settings, wanted: datetime, now: datetime) -> list[Account]:
    from refresh_pipelines.orchestration.gaps import accounts_of  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415
    from refresh_pipelines.orchestration.reads import Reads  # noqa: PLC0415

    with open_instance(settings) as instance:
        return accounts_of(instance, settings, specs, Reads(specs, settings), wanted, now)


def _fill(specs: Sequence[SourceSpec], settings: Settings, wanted: datetime, shown: Shown) -> None:
    """Make the runs, print them as `refresh run` does, and end the command."""
    with sandbox_if_needed(settings) as served:
        outcomes = list(_filled(specs, served, wanted, shown))
    ok = all(outcome.outcome in GOOD_EXIT for outcome in outcomes)
    if shown.quiet:
        print_json([outcome.item() for outcome in outcomes], ok)
    elif outcomes:
        print_outcomes(outcomes, settings)
    else:
        click.echo("nothing is to be filled")
    sys.exit(0 if ok else 1)


def _filled(specs: Sequence[SourceSpec], settings: Settings, wanted: datetime, shown: Shown) -> Iterator[Outcome]:
    from refresh_pipelines.orchestration.gaps import fill_orders  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415

    with open_instance(settings) as instance, one_at_a_time(settings, shown.quiet) as alone:
        if not alone:
            return
        accounts = _accounts(specs, settings, wanted, utc_now())
        orders = [order for account in accounts for order in fill_orders(account)]
        with progress(len(orders), shown.quiet) as step:
            for order in orders:
                step(order.spec.name)
                if not (yield from run_orders(instance, [order], settings, shown)):
                    return


def _items(account: Account) -> Iterator[dict[str, Any]]:
    for found in (*account.findings, *account.missing):
        yield {
            "source": account.spec.source,
            "group": account.spec.group,
            "tick": tick_text(found.tick),
            "verdict": found.verdict,
            "reason": found.reason or None,
            "run_id": found.run_id or None,
            "partition": found.partition,
        }


def _print(accounts: Sequence[Account]) -> None:
    for account in accounts:
        click.echo(_line(account))
        for note in account.horizon.notes if account.horizon else ():
            click.echo(f"  {note}")
    rows = [row for account in accounts for row in _rows(account)]
    if rows:
        click.echo()
        print_table(_HEADERS, rows)
    for account in accounts:
        if account.missing and account.blocked:
            click.echo(f"\nblocked: set {account.blocked} in the environment or in .env ({account.spec.source})")
    if any(not account.good for account in accounts):
        click.echo("\n`refresh gaps --fill` refreshes what is missing.")


def _line(account: Account) -> str:
    spec = account.spec
    if account.horizon is None:
        return f"{spec.name}: {why_no_fires(spec) or 'no tick was due yet'}"
    if not account.findings:
        return f"{spec.name}: no tick was due since {_minute(account.horizon.start)} UTC"
    counts = {word: sum(found.verdict == word for found in account.findings) for word in _ORDER}
    said = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in counts.items() if number)
    missing = f"; {len(account.missing)} partitions missing" if account.missing else ""
    ticks = f"{len(account.findings)} due tick{'s' if len(account.findings) > 1 else ''}"
    return f"{spec.name}: {ticks} since {_minute(account.horizon.start)} UTC: {said}{missing}"


def _rows(account: Account) -> Iterator[tuple[object, ...]]:
    """Yield what is to be listed, neighbours with the same verdict and reason in one row."""
    for findings in (account.findings, account.missing):
        for (verdict, reason), group in groupby(findings, key=lambda found: (found.verdict, found.reason)):
            if verdict in _LISTED:
                yield _row(account.spec, verdict, reason, list(group))


def _row(spec: SourceSpec, verdict: str, reason: str, same: Sequence[Finding]) -> tuple[object, ...]:
    ticks = len({found.tick for found in same})
    first, last = _minute(same[0].tick), _minute(same[-1].tick) if ticks > 1 else None
    return (spec.name, verdict.replace("_", " "), first, last, ticks, _keys(found.partition for found in same), reason)


def _keys(keys: Iterable[str | None]) -> str | None:
    named = [key for key in keys if key is not None]
    if not named:
        return None
    return ", ".join(named) if len(named) < 4 else f"{named[0]} … {named[-1]} ({len(named)})"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
