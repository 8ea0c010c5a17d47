"""What one tick of a schedule costs in the code server: with one instance and one read for all, and without.

    python benchmarks/ticks.py [sources]

Both sides evaluate the same ticks of made-up daily sources, one after the other, on the same instance:
`each` opens the instance for every tick and remembers nothing, as Dagster does by itself; `shared` is what
the product does. Medians of one run; the ratio is what counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.score_asset import SCHEDULE
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings

AT = datetime(2026, 6, 15, 6, tzinfo=timezone.utc)
SOURCE = """
description: a made-up source
request: {url: "https://example.org/data.csv"}
format: csv
columns: {day: {type: date}, n: {type: int}}
merge_key: [day]
schedule: {frequency: daily, time: "06:00"}
partitions: {time: day, start: 2026-01-01, column: day, lookback: 3}
"""


def evaluate(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, *, own: bool) -> list[float]:
    """Return the seconds of one tick of every schedule."""
    out = []
    for schedule in repository.schedule_defs:
        if schedule.name == SCHEDULE:  # that of the scores
            continue
        context = dg.build_schedule_context(instance, scheduled_execution_time=AT, repository_def=repository)
        begun = time.perf_counter()
        with context:
            if own:
                assert context.instance  # opened here, so that nothing is shared
            data = schedule.evaluate_tick(context)
        out.append(time.perf_counter() - begun)
        assert len(data.run_requests or ()) == 1, data.skip_message
    return out


def main() -> None:
    """Print the medians and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(count):
            path = folder / "catalog" / "benin" / f"source_{number}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SOURCE)
        settings = Settings.load({"REFRESH_CATALOG": "catalog"}, root=folder)
        medians = {}
        (folder / "history").mkdir()
        with dg.DagsterInstance.local_temp(str(folder / "history")) as instance:
            instance.get_runs_count()
            for label, keep in (("each", timedelta(0)), ("shared", timedelta(seconds=2))):
                workshop = Workshop(settings, clock=lambda: AT, keep=keep)
                repository = build_definitions(settings, workshop=workshop).get_repository_def()
                evaluate(repository, instance, own=label == "each")  # the first ones import and create what there is to
                medians[label] = statistics.median(evaluate(repository, instance, own=label == "each"))
    for label, median in medians.items():
        print(f"{label:7} {median * 1000:7.1f} ms a tick")
    print(f"ratio   {medians['each'] / medians['shared']:7.1f}")


if __name__ == "__main__":
    main()
