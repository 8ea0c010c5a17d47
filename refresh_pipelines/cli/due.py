"""`refresh run --due`: what has no success for its newest due tick, asked by another clock than Dagster's."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from filelock import FileLock, Timeout

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.outcomes import progress
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

if TYPE_CHECKING:  # a second's import
    from refresh_pipelines.orchestration.due import Due, Instance
    from refresh_pipelines.orchestration.reads import Reads
    from refresh_pipelines.orchestration.runner import Order


# A command that is called every five minutes is to have ended by then.
_CLEARING = timedelta(minutes=2)


@dataclass(frozen=True)
class Shown:
    """How runs are made and shown, as the options say."""

    force: bool = False
    verbose: bool = False
    quiet: bool = False


@contextmanager
def one_at_a_time(settings: Settings, quiet: bool) -> Iterator[bool]:
    """Yield whether this is the only command that makes runs by the clock; if it is not, say so and start nothing.

    The lock ends with the process, however that ends.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.data_dir / ".due.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not quiet:
            click.echo("another `refresh run --due` or `refresh gaps --fill` is at work: nothing was started", err=True)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def run_due(specs: Sequence[SourceSpec], catalogue: Catalogue, settings: Settings, shown: Shown) -> Iterator[Outcome]:
    """Run what is due, one after the other, and yield an outcome per partition.

    What is due and must not run now (paused, no key, a run of the same partitions under way, misfired) is `blocked`.
    """
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.pause import paused_sources  # noqa: PLC0415
    from refresh_pipelines.orchestration.reads import Reads  # noqa: PLC0415

    with open_instance(settings) as instance, one_at_a_time(settings, shown.quiet) as alone:
        if not alone:
            return
        reads = Reads(specs, settings, sources=catalogue.sources)
        reads.note(instance, utc_now(), specs)
        paused = paused_sources(instance, settings, specs)
        due = [spec for spec in specs if not spec.derived and _due(instance, spec, settings, reads)]
        with progress(len(due), shown.quiet) as step:
            for spec in due:
                step(spec.name)
                if spec.source in paused:
                    text = f"{spec.name} is paused: `refresh resume {spec.source}` ends it"
                    yield Outcome(spec.source, spec.group, None, "blocked", message=text, trigger="schedule")
                elif not (yield from _run(instance, spec, catalogue, settings, shown)):
                    return
        derived = [spec for spec in specs if spec.derived and spec.source not in paused]
        yield from _build(instance, derived, catalogue, settings, shown)
        _clear(instance, catalogue, settings, shown)


def _due(instance: Instance, spec: SourceSpec, settings: Settings, reads: Reads) -> Due | None:
    from refresh_pipelines.orchestration.due import arrived_of, due_of  # noqa: PLC0415

    if spec.request.drop is not None and spec.enabled:
        return arrived_of(instance, spec, settings, reads, utc_now())
    return due_of(instance, spec, settings, reads, utc_now())


def _run(
    instance: Instance, spec: SourceSpec, catalogue: Catalogue, settings: Settings, shown: Shown
) -> Generator[Outcome, None, bool]:
    """Run what is due of one source, asked once more: others may have run it. Returns whether to go on."""
    from refresh_pipelines.orchestration.internals import cancel_run  # noqa: PLC0415
    from refresh_pipelines.orchestration.reads import Reads  # noqa: PLC0415

    due = _due(instance, spec, settings, Reads([spec], settings, timedelta(0), sources=catalogue.sources))
    if due is None:
        return True
    for run_id in due.cancel:
        cancel_run(instance, run_id, "overlap: cancel; `refresh run --due` takes its place")
    if not due.orders:
        message = f"{spec.name}: {due.reason.removeprefix('blocked: ')}"
        yield Outcome(spec.source, spec.group, None, "blocked", message=message, trigger="schedule")
    return (yield from run_orders(instance, due.orders, settings, shown))


def run_orders(
    instance: Instance, orders: Sequence[Order], settings: Settings, shown: Shown
) -> Generator[Outcome, None, bool]:
    """Run orders and yield their outcomes. Returns whether to go on: Ctrl-C means the command, and not only the run."""
    from refresh_pipelines.orchestration.runner import run_order  # noqa: PLC0415

    for order in orders:
        if order.instead:
            yield order.instead
            continue
        outcomes = run_order(instance, order, settings, force=shown.force, verbose=shown.verbose)
        yield from outcomes
        if any(outcome.error_class == "interrupted" for outcome in outcomes):
            return False
    return True


def _clear(instance: Instance, catalogue: Catalogue, settings: Settings, shown: Shown) -> None:
    """Once a day remove what is too old, which the daemon does where there is one."""
    from refresh_pipelines.orchestration.retention import is_due  # noqa: PLC0415

    if not is_due(settings, utc_now()):
        return
    from refresh_pipelines.orchestration.retention import clear  # noqa: PLC0415
    from refresh_pipelines.orchestration.retention_asset import report  # noqa: PLC0415
    from refresh_pipelines.orchestration.server import history_errors  # noqa: PLC0415

    try:
        cleared = clear(instance, settings, list(catalogue.sources.values()), utc_now(), _CLEARING)
        report(instance, cleared)
        said = cleared.sentence()
    except history_errors(RefreshError) as error:
        # What was refreshed is told all the same.
        said = f"Nothing old can be removed: {' '.join(str(error).split())[:500]}"
    if not shown.quiet:
        click.echo(said, err=True)


def _build(
    instance: Instance, derived: Sequence[SourceSpec], catalogue: Catalogue, settings: Settings, shown: Shown
) -> Iterator[Outcome]:
    """Build the derived sources whose inputs have changed, each after those it is made from."""
    from refresh_pipelines.orchestration.due import build_of  # noqa: PLC0415

    for spec in derived:
        order = build_of(instance, spec, catalogue.sources, settings, utc_now())
        if order is not None:
            if not shown.quiet:
                click.echo(spec.name, err=True)
            if not (yield from run_orders(instance, [order], settings, shown)):
                return
