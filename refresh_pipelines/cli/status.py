"""`refresh status`: how every source is doing, from catalogue and event log; works with the daemon down."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.clocks import print_clocks
from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    missing_keys,
    print_blocked,
    print_json,
    print_stale,
    print_table,
    read_catalogue,
)
from refresh_pipelines.cli.processes import print_service, process_item, process_states
from refresh_pipelines.cli.score import part_item, print_score, shown_total
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.freshness import Late, Verdict, sentence
from refresh_pipelines.heartbeat import life_of
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.quarantine import Quarantine
from refresh_pipelines.rhythms import Rhythms
from refresh_pipelines.score import Score
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.states import all_well, is_held, state_of

if TYPE_CHECKING:
    from dagster import DagsterInstance

_HEADERS = (
    "SOURCE", "GROUP", "STATE", "CHECKED", "CHANGED", "PUBLISHED", "LAST OUTCOME", "NEXT RUN", "SCORE", "BREAKER",
)  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@json_option
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show which sources are fresh, late or failing, below the processes that `refresh start` has started.

    Exit code 1 if one of those does not run, or if a source is overdue, failing, or has a broken file,
    also while it runs on its last good version. One that waits for a key is blocked, which is no
    failure until what it has loaded before is overdue. Times are UTC. With one SOURCE it also says
    what its score is made of.
    """
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.status import status_items, verdicts_of  # noqa: PLC0415

    settings = load_settings()
    catalogue = read_catalogue(settings)
    try:
        with open_instance(settings) as instance:
            now = datetime.now(timezone.utc)
            verdicts = verdicts_of(instance, catalogue, now, settings)
            items = _only(status_items(instance, catalogue, now, settings, verdicts), names)
            one = catalogue.sources.get(items[0]["source"]) if len(items) == len(names) == 1 else None
            score = _score(instance, catalogue, one, settings, now) if one else None
    except RefreshError:
        if not (names or as_json):
            print_service(*process_states(settings))  # of which something can be said without the history
        raise
    if one:
        items[0]["score"] = shown_total(score)
    life = life_of(settings.data_dir)
    chosen = [spec for spec in catalogue.sources.values() if any(spec.source == item["source"] for item in items)]
    blocked = missing_keys(chosen, settings)
    states = [state_of(item, item["source"] in blocked) for item in items]
    ok = all_well(items, states)
    service, problem = ([], "") if names else process_states(settings)
    ok = ok and not problem and all(process.up for process in service)
    if as_json:
        more: dict[str, object] = {"score_parts": [part_item(score, part) for part in score.parts]} if score else {}
        more |= {"processes": list(map(process_item, service)), "service": problem} if service or problem else {}
        print_json(items, ok, heartbeat=life.text, **more)
    else:
        print_service(service, problem)
        if not settings.schedules_enabled:
            click.echo("REFRESH_SCHEDULES_ENABLED is false: no schedule or sensor requests a run.\n")
        grey = [number for number, state in enumerate(states) if state == "blocked"]
        print_table(_HEADERS, [_row(item, state) for item, state in zip(items, states, strict=True)], grey)
        _print_overdue(chosen, verdicts)
        _print_held(items)
        _print_waiting(settings, {item["source"] for item in items})
        print_blocked(blocked)
        print_stale(catalogue, {item["source"] for item in items})
        if one:
            print_clocks(one, items[0], settings, datetime.now(timezone.utc))
            print_score(one, score)
        for line in filter(None, (life.problem, life.sentence(now))):
            click.echo(f"\n{line}")
    sys.exit(0 if ok else 1)


def _score(
    instance: DagsterInstance, catalogue: Catalogue, spec: SourceSpec, settings: Settings, now: datetime
) -> Score | None:
    """Return the score of the one source that somebody wants to know of, whatever time that takes."""
    from refresh_pipelines.orchestration.scores import Asked, score_in_full  # noqa: PLC0415

    asked = Asked(settings, list(catalogue.sources.values()), Rhythms(settings.data_dir).read(), now, patience=None)
    return score_in_full(instance, spec, asked)


def _print_overdue(specs: list[SourceSpec], verdicts: Mapping[str, Verdict]) -> None:
    """Say of each overdue source since when, by which limit, and what to do."""
    late = [(spec, verdict) for spec in specs if (verdict := verdicts.get(spec.source)) and verdict.late]
    for spec, verdict in late:
        more = len(verdict.late) - 1 + verdict.more
        rest = f", and {more} more partition{'s' if more > 1 else ''}" if more else ""
        click.echo(f"\nOverdue: {sentence(spec, verdict.late[0])}{rest}.\n  {_todo(spec, verdict.late[0])}")


def _todo(spec: SourceSpec, late: Late) -> str:
    why = f"`refresh history {spec.source}` shows what its last refreshes did"
    if late.limit == "changed":
        return f"The upstream has served the same since then: look at it; {why}."
    run = f"refresh run {spec.source}{' --missing' if late.never and late.key else ''}"
    return f"`{run}` tries now; {why}."


def _print_held(items: list[dict[str, Any]]) -> None:
    """Say of each source whose breaker is open since when, when it is probed, and what to do."""
    for item in filter(is_held, items):
        probe = f"next probe {_short(item['next_probe_at'])}" if item["breaker"] == "open" else "a probe is due or made"
        click.echo(
            f"\nBreaker open: {item['group']}/{item['source']} since {_short(item['breaker_since'])}, after "
            f"{item['consecutive_failures']} failures in a row; {probe}.\n  `refresh run {item['source']}` asks now, "
            f"`refresh reset {item['source']}` closes it; `refresh history {item['source']}` shows what its last "
            "refreshes did."
        )


def _print_waiting(settings: Settings, sources: Collection[str]) -> None:
    """Say of each payload that waits why, and what to type."""
    for record in Quarantine(settings.data_dir).all():
        if record.state == "waiting" and record.source in sources:
            why = "; ".join(reason.text for reason in record.reasons)
            click.echo(
                f"\nQuarantined: {record.where} since {_short(record.at)}: {why}.\n  `refresh quarantine show "
                f"{record.id}` shows it, `refresh quarantine accept {record.id}` loads it, `refresh quarantine reject "
                f"{record.id}` does not."
            )


def _short(at: str | None) -> str | None:
    return at and at[:16].replace("T", " ")


def _only(items: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    known = {item["source"]: item for item in items} | {f"{item['group']}/{item['source']}": item for item in items}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no source is called {name!r} ({did_you_mean(name, known)})")
    return [known[name] for name in names] if names else items


def _row(item: dict[str, Any], state: str) -> tuple[object, ...]:
    times = [_short(item[name]) for name in ("last_success_at", "last_changed_at", "last_published_at")]
    breaker = item["breaker"] and item["breaker"].replace("_", " ")
    score = None if item["score"] is None else f"{item['score']:.2f}"
    last, following = item["last_outcome"], _short(item["next_run_at"])
    return (item["source"], item["group"], state, *times, last, following, score, breaker)
