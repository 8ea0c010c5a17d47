"""How outcomes are shown: progress while refreshes run, then one row per source and partition."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import click

from refresh_pipelines.cli.common import print_table, program
from refresh_pipelines.notices import Notices
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.settings import Settings

_HEADERS = (
    "SOURCE", "PARTITION", "OUTCOME", "FETCHED", "ADDED", "UPDATED", "UNCHANGED", "DELETED", "SECONDS",
)  # fmt: skip


@contextmanager
def progress(total: int, quiet: bool) -> Iterator[Step]:
    """Yield a function to call before each run: a bar on a terminal, plain lines otherwise."""
    step = Step(total, quiet)
    try:
        yield step
    finally:
        step.close()


class Step:
    """Says which source comes next."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.done, self.quiet, self.bar = total, 0, quiet, None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415

            self.bar = tqdm(total=total, unit="source", leave=False, bar_format="{desc} {bar} {n}/{total}")

    def __call__(self, name: str) -> None:
        """Show that the next one begins."""
        if self.bar is not None:
            self.bar.update(self.done - self.bar.n)
            self.bar.set_description(name)
        elif not self.quiet:
            click.echo(f"[{self.done + 1}/{self.total}] {name}", err=True)
        self.done += 1

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def send_notices(outcomes: list[Outcome], settings: Settings) -> None:
    """Send what was failed here and waits for other sources of its host: from this command none will come."""
    if any(outcome.outcome not in GOOD_EXIT for outcome in outcomes):
        # What cannot be sent or read now is told by `print_outcomes`, and later runs and the daemon try again.
        with suppress(OSError, sqlite3.Error):
            Notices(settings).release()


def print_outcomes(outcomes: list[Outcome], settings: Settings) -> None:
    """Print one row per outcome, then each message once, and what to do next."""
    print_table(
        _HEADERS,
        [
            (
                f"{o.group}/{o.source}", o.partition, o.outcome, o.counts.fetched, o.counts.added, o.counts.updated,
                o.counts.unchanged, o.counts.deleted, round(o.seconds.total, 2),
            )
            for o in outcomes
        ],
    )  # fmt: skip
    for said in rejected_lines(outcomes):
        click.echo(f"\n{said}")
    # A missing key is the same sentence for every partition.
    for verdict, message in dict.fromkeys((o.outcome, o.message) for o in outcomes if o.message):
        click.echo(f"\n{verdict}: {message}", err=verdict in ("failed", "quarantined"))
    _say_waiting(Notices(settings))
    click.echo(_next(outcomes, settings))


def rejected_lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield a sentence for each refresh that has loaded and rejected rows."""
    for one in outcomes:
        if one.counts.rejected and one.success:
            where = f"{one.source}[{one.partition}]" if one.partition else one.source
            yield (
                f"{where}: {one.counts.rejected} of {one.counts.fetched} rows were rejected; they lie with the reasons "
                "in schema quarantine of the warehouse, in a table named as the source's (docs/contract.md)."
            )


def _say_waiting(notices: Notices) -> None:
    try:
        waiting = notices.waiting()
    except sqlite3.Error as error:
        text = f"Notices cannot be written to {notices.path}: {error}. Move that file away; a new one is then made."
        click.echo(f"\n{text}", err=True)
        return
    if waiting:
        click.echo(f"\nThe webhook did not take {waiting} notice(s); later runs and the daemon send them.", err=True)


def _next(outcomes: list[Outcome], settings: Settings) -> str:
    failed = next((o for o in outcomes if o.outcome not in GOOD_EXIT), None)
    refresh = program()
    steps = [(f"{refresh} quarantine show {failed.quarantine}", "why it waits")] if failed and failed.quarantine else []
    steps += [(f"{refresh} history {failed.source}", "what it did before")] if failed else []
    steps += [
        (f"{refresh} status", "how every source is doing"),
        (f'{refresh} sql "SELECT * FROM refresh.load_state"', "what the warehouse knows of each load"),  # noqa: S608 - shown
        ("make up", "the Dagster UI with assets, schedules and history"),
    ]
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command.ljust(width)}  {what}" for command, what in steps]
    return "\n".join(["", f"Warehouse: {settings.warehouse_name}", "Next:", *lines])
