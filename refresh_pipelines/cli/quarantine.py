"""`refresh quarantine`: look at payloads that wait for a person, and decide."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from typing import Any

import click

from refresh_pipelines import log
from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    print_table,
    program,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.clock import utc_now
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.quarantine import Quarantine, Record
from refresh_pipelines.quarantine_words import commands, short, text_lines
from refresh_pipelines.settings import LogLevel, Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse

_HEADERS = ("ID", "SOURCE", "PARTITION", "STATE", "SINCE", "SEEN", "ROWS BEFORE", "ROWS NOW", "WHY")


@click.group()
def quarantine() -> None:
    """Payloads that wait for a person: list, show, accept, reject.

    A payload that is unlike those accepted before is not loaded; it lies in the archive until somebody
    decides, or until the upstream serves one that is plausible. An ID may be shortened.
    """


@quarantine.command("list")
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "everything", is_flag=True, help="Also those that are decided or superseded.")
@json_option
def list_records(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List what waits, the newest first."""
    settings = load_settings()
    wanted = {spec.source for spec in select_sources(read_catalogue(settings), names)} if names else None
    records = [
        record
        for record in Quarantine(settings.data_dir).all()
        if (everything or record.state == "waiting") and (wanted is None or record.source in wanted)
    ]
    if as_json:
        print_json([record.item() for record in records], ok=True)
        return
    if not records:
        click.echo("nothing waits")
        return
    print_table(_HEADERS, [_row(record) for record in records])
    click.echo(f"\n`{program()} quarantine show {records[0].id}` says more.")


@quarantine.command()
@click.argument("record_id", metavar="ID")
@json_option
def show(record_id: str, as_json: bool) -> None:
    """Show why a payload waits, which rows it would add, change and lack, and what to type."""
    record = _record(load_settings(), record_id)
    if as_json:
        print_json([record.item()], ok=True)
        return
    for line in text_lines(record):
        click.echo(line)
    click.echo()
    width = max(len(command) for command, _ in commands(record))
    for command, what in commands(record)[1:]:
        click.echo(f"  {command.ljust(width)}  {what}")


@quarantine.command()
@click.argument("record_id", metavar="ID")
@click.option("--force", is_flag=True, help="Also if something newer was loaded or waits.")
@json_option
def accept(record_id: str, force: bool, as_json: bool) -> None:
    """Load exactly this payload from the archive, as a run of its source, and remember that such a change is right.

    Rows have to fit the contract as always; only the comparison with earlier payloads is left out.
    """
    settings = load_settings()
    record = _record(settings, record_id)
    [spec] = select_sources(read_catalogue(settings), [record.source])
    if record.state == "accepted":
        _done(settings, record, f"{record.id} was accepted before, and is loaded.", as_json)
        return
    if not force:
        _refuse_older(settings, spec, record)
    outcomes = _load(settings, spec, record)
    record = _record(settings, record.id)
    ok = all(outcome.outcome in GOOD_EXIT for outcome in outcomes)
    if as_json:
        print_json([_item(record, outcome) for outcome in outcomes], ok)
    else:
        from refresh_pipelines.cli.outcomes import print_outcomes  # noqa: PLC0415 - only where rows are printed

        print_outcomes(outcomes, settings)
    level: LogLevel = "info" if ok else "warning"
    for outcome in outcomes:
        _log("accepted", record, level, outcome=outcome.outcome)
    sys.exit(0 if ok else 1)


@quarantine.command()
@click.argument("record_id", metavar="ID")
@json_option
def reject(record_id: str, as_json: bool) -> None:
    """Keep a payload out. While the upstream serves it, refreshes say that it was rejected, and load nothing."""
    settings = load_settings()
    record = _record(settings, record_id)
    if record.state == "accepted":
        raise click.UsageError(f"{record.id} was accepted on {short(record.decided_at)}, and is loaded")
    if record.state != "rejected":
        record = Quarantine(settings.data_dir).reject(record, _user(), utc_now())
        _log("rejected", record)
    text = f"{record.id} is rejected: {record.where} stays as it is until the upstream serves another payload."
    _done(settings, record, text, as_json)


def _record(settings: Settings, start: str) -> Record:
    found = Quarantine(settings.data_dir).find(start)
    if not found:
        raise click.UsageError(f"no payload {start!r} waits; `refresh quarantine list --all` shows all")
    if len(found) > 1:
        raise click.UsageError(f"{start!r} may be {', '.join(record.id for record in found)}")
    return found[0]


def _refuse_older(settings: Settings, spec: SourceSpec, record: Record) -> None:
    """End the command where loading an old payload would take back what came later."""
    if record.superseded_by:
        newer = record.superseded_by
        raise click.UsageError(
            f"{record.id} was superseded by {newer}, which came later: accept that one, or load the older with --force"
        )
    states, _ = open_warehouse(settings).states(spec.source, spec.raw_table)
    state = states.get(record.partition or "")
    if record.state == "superseded" or (state and state.committed_at > datetime.fromisoformat(record.seen_at)):
        raise click.UsageError(
            f"{record.where} was refreshed with a newer payload since {record.id} came; --force loads the older one"
        )


def _load(settings: Settings, spec: SourceSpec, record: Record) -> list[Outcome]:
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.runner import Order, run_order  # noqa: PLC0415
    from refresh_pipelines.orchestration.tags import ACCEPT, ACCEPTED_BY  # noqa: PLC0415

    tags = {ACCEPT: record.id, ACCEPTED_BY: _user()}
    keys = (record.partition,) if record.partition else ()
    with open_instance(settings) as instance:
        return run_order(instance, Order(spec, keys, tags=tags), settings)


def _log(what: str, record: Record, level: LogLevel = "info", **fields: str) -> None:
    log.event(
        f"quarantine.{what}", level=level, source=record.source, group=record.group, partition=record.partition,
        quarantine=record.id, user=_user(), **fields,
    )  # fmt: skip


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"  # a container's user without a name


def _done(settings: Settings, record: Record, text: str, as_json: bool) -> None:
    if as_json:
        print_json([_record(settings, record.id).item()], ok=True)
    else:
        click.echo(text)


def _item(record: Record, outcome: Outcome) -> dict[str, Any]:
    """Return what became of an accepted payload: its own item, with the run that loaded it."""
    return {**record.item(), "outcome": outcome.outcome, "message": outcome.message, "run_id": outcome.run_id}


def _row(record: Record) -> tuple[object, ...]:
    why = "; ".join(reason.text for reason in record.reasons)
    return (
        record.id, record.source, record.partition, record.state, short(record.at), record.seen, record.rows_before,
        record.rows_now, why,
    )  # fmt: skip
