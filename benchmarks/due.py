"""A thousand sources due in one minute: how long until all of them are requested, and until all have been refreshed.

A service as `refresh start` runs it, with forked runs. Requested: from the minute in which they are due to the last
row of a run, by the history. Drained: to the end of the last run. Each source is loaded for the first time. Contestants
are a run each with history in SQLite, a run each with history in PostgreSQL, and one batch (`schedule.batch`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click

from benchmarks import payloads
from benchmarks.cluster import cluster
from benchmarks.harness import BenchError, say
from benchmarks.own_load import yaml_of
from benchmarks.place import GROUP, PREFORK, Place, dagster_home, wait
from benchmarks.serving import served

CONTESTANTS = ("herd", "PostgreSQL", "SQLite")
# From the start of the service to the minute in which everything is due.
_AHEAD = timedelta(minutes=4)
_PATIENCE = 1500.0


@click.command()
@click.option("--sources", default=1000, show_default=True)
@click.option("--only", type=click.Choice(CONTESTANTS), multiple=True)
@click.option("--json", "as_json", is_flag=True, help="End with a line that `make bench` reads.")
def main(sources: int, only: Sequence[str], as_json: bool) -> None:
    """Measure how a herd of sources is requested and drained."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        for number, who in enumerate(only or CONTESTANTS):
            folder = Path(home) / str(number)
            folder.mkdir()
            try:
                requested, drained, lost = _of(who, folder, sources)
            except BenchError as error:
                raise click.ClickException(f"{who}: {error}") from error
            say(f"{who}: {sources} sources requested {requested:.0f} s after they were due, drained after {drained:.0f}"
                f" s, {lost} lost")  # fmt: skip
            for work, unit, value in (
                ("requested", "s", requested),
                ("drained", "s", drained),
                ("lost", "sources", lost),
            ):
                found.append({"work": f"due.{work}", "contestant": who, "unit": unit, "samples": [value]})
    if as_json:
        click.echo(json.dumps({"measurements": found}))


def _of(who: str, folder: Path, sources: int) -> tuple[float, float, int]:
    payloads.initial(folder / "files" / "ten.csv", 10)
    if who == "PostgreSQL":
        (folder / "postgres").mkdir()
        with cluster(folder / "postgres") as server:
            server.fresh("history")
            return _served(who, folder, sources, {"REFRESH_INSTANCE": server.url("history")})
    return _served(who, folder, sources, {})


def _served(who: str, folder: Path, sources: int, more: dict[str, str]) -> tuple[float, float, int]:
    due = (datetime.now(timezone.utc) + _AHEAD).replace(second=0, microsecond=0)
    batch = ", batch: herd" if who == "herd" else ""
    text = yaml_of(f'{{cron: "{due.minute} {due.hour} {due.day} {due.month} *"{batch}, expire: 6h, misfire_grace: 6h}}')
    texts = {f"s{number:04}": text.replace("https://", f"https://s{number}.") for number in range(sources)}
    with served(folder / "files") as base:
        place = Place(folder / "place", f"{base}/etag/ten.csv", texts, PREFORK, **more)
        place.refresh("start")
        try:
            place.wait_loaded()
            if datetime.now(timezone.utc) >= due:
                raise BenchError("the service took longer to start than was allowed for")
            with dagster_home(place) as instance:
                return _watched(place, instance, due, sources, shared=who == "herd")
        finally:
            place.refresh("stop")


def _watched(place: Place, instance: Any, due: datetime, sources: int, *, shared: bool) -> tuple[float, float, int]:
    from dagster import AssetKey, DagsterRunStatus, RunsFilter  # noqa: PLC0415 - a second's import

    wanted = RunsFilter(tags={"refresh/tick": due.strftime("%Y-%m-%dT%H:%M:%SZ")})
    runs = 1 if shared else sources
    log = place.folder / "log"
    wait(lambda: instance.get_runs_count(wanted) >= runs, f"{runs} runs to be requested", log, _PATIENCE)
    over = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    ended = RunsFilter(tags=wanted.tags, statuses=over)
    wait(lambda: instance.get_runs_count(ended) >= runs, f"{runs} runs to end", log, _PATIENCE)
    records = instance.get_run_records(wanted)
    requested = max(record.create_timestamp for record in records).timestamp() - due.timestamp()
    drained = max(record.end_time or 0.0 for record in records) - due.timestamp()
    keys = [AssetKey([GROUP, name]) for name in place.names]
    loaded = [one for one in instance.get_asset_records(keys) if one.asset_entry.last_materialization]
    return requested, drained, sources - len(loaded)


if __name__ == "__main__":
    sys.exit(main())
