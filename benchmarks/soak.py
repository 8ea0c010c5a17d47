"""Many runs of our launcher in bad weather: whether any is lost, and whether memory stays what it was.

    python benchmarks/soak.py --runs 10000

Runs of sixty sources are queued a round at a time. In every round a run's process and now and then the template are
killed, a run is terminated as the UI's button does and one from another process, and a file of the catalogue changes,
which makes a new template. At the end every run must have ended, and well unless it was hit, nothing may be
left in staging or among locks, and the processes that stay must not have grown.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil

from benchmarks import payloads
from benchmarks.drain import sources_of
from benchmarks.harness import BenchError, say
from benchmarks.place import PREFORK, Place, dagster_home, wait
from benchmarks.serving import served
from refresh_pipelines.service import supervised

SOURCES = 60
_RUN, _TEMPLATE = "refresh-run", "refresh_pipelines.orchestration.template"
_TERMINATE = "mutation ($id: String!) {terminateRun(runId: $id) {__typename}}"
_PATIENCE = 600.0
# So many rounds overlap, since the second tries of what was killed come late; then all is waited for, and memory taken.
_OVERLAP = 10
# Measurements of memory that go by before the first that is compared: caches fill.
_WARM = 1


@dataclass
class Soak:
    """What was done and seen so far."""

    place: Place
    instance: Any
    random: random.Random = field(default_factory=lambda: random.Random(1))
    runs: list[str] = field(default_factory=list)
    hit: Counter[str] = field(default_factory=Counter)
    terminated: set[str] = field(default_factory=set)
    memory: list[float] = field(default_factory=list)

    def round(self, number: int) -> None:
        """Queue a run of each source, let things befall them, wait until most have ended; now and then for all."""
        self.runs += self.place.queue(self.place.names)
        if number % 3 == 2:
            self._touch()
        for name, strike in (("killed", self._kill), ("terminated in the UI", self._terminate_there),
                             ("terminated from here", self._terminate_here)):  # fmt: skip
            if strike():
                self.hit[name] += 1
        if number % 5 == 4 and self._kill_template():
            self.hit["template killed"] += 1
        whole = number % _OVERLAP == _OVERLAP - 1
        few = 0 if whole else SOURCES // 2
        wait(lambda: self._under_way() <= few, f"round {number} to end", self.place.folder / "log", _PATIENCE)
        if whole or not self.memory:
            self.memory.append(self._stays() / 1e6)

    def lost(self) -> list[str]:
        """Return the runs of which neither they nor Dagster's next try ended well, and that nobody terminated."""
        return [run_id for run_id in self.runs if not self._is_well(run_id)]

    def _is_well(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        if run is None or not run.is_finished:
            return False
        again = run.tags.get("dagster/auto_retry_run_id")
        return run.is_success or run_id in self.terminated or bool(again and self._is_well(again))

    def _under_way(self) -> int:
        from dagster import RunsFilter  # noqa: PLC0415 - a second's import

        from refresh_pipelines.orchestration.reads import UNDER_WAY  # noqa: PLC0415

        return self.instance.get_runs_count(RunsFilter(statuses=list(UNDER_WAY)))

    def _processes(self) -> list[psutil.Process]:
        supervisor = supervised.running(self.place.settings)
        if supervisor is None:
            raise BenchError("the service is not running")
        return psutil.Process(supervisor.pid).children(recursive=True)

    def _kill(self) -> bool:
        time.sleep(self.random.uniform(0, 1))  # not always one that has just begun
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for one in self._processes():
                with suppress(psutil.Error):
                    if one.name() == _RUN:
                        one.kill()
                        return True
        return False

    def _kill_template(self) -> bool:
        for one in self._processes():
            with suppress(psutil.Error):
                if _TEMPLATE in one.cmdline() and one.name() != _RUN:
                    one.kill()
                    return True
        return False

    def _started(self) -> str | None:
        from dagster import DagsterRunStatus, RunsFilter  # noqa: PLC0415

        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = self.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=1)
            if found:
                return str(found[0].run_id)
        return None

    def _terminate_there(self) -> bool:
        run_id = self._started()
        if run_id is None:
            return False
        self.terminated.add(run_id)
        return bool(self.place.ask(_TERMINATE, id=run_id))

    def _terminate_here(self) -> bool:
        run_id = self._started()
        if run_id is None:
            return False
        self.terminated.add(run_id)
        return bool(self.instance.run_launcher.terminate(run_id))

    def _touch(self) -> None:
        path = next((self.place.folder / "catalog").rglob(f"{self.random.choice(self.place.names)}.yaml"))
        path.write_text(path.read_text() + f"# {time.time()}\n")

    def _stays(self) -> float:
        """Return the bytes that belong to what runs on: all but runs."""
        total = 0
        for one in self._processes():
            with suppress(psutil.Error):
                total += one.memory_full_info().pss if one.name() != _RUN else 0
        return total


@click.command()
@click.option("--runs", default=10_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="End with a line that `make bench` reads.")
def main(runs: int, as_json: bool) -> None:
    """Measure `soak.*`."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        payloads.initial(folder / "files" / "ten.csv", 10)
        with served(folder / "files") as base:
            place = Place(folder / "place", f"{base}/etag/ten.csv", sources_of(SOURCES), PREFORK)
            place.refresh("run", "--all")
            place.refresh("start")
            try:
                place.wait_loaded()
                with dagster_home(place) as instance:
                    found = _soaked(Soak(place, instance), runs)
            except BenchError as error:
                raise click.ClickException(str(error)) from error
            finally:
                place.refresh("stop")
            left = [path.name for path in (place.settings.data_dir / "staging").glob("*")]
            found["soak.left"] = ("folders", float(len(left)))
    for work, (unit, value) in found.items():
        say(f"{work}: {value:.3g} {unit}")
    if as_json:
        click.echo(json.dumps({"measurements": [
            {"work": work, "unit": unit, "samples": [value]} for work, (unit, value) in found.items()
        ]}))  # fmt: skip


def _soaked(soak: Soak, runs: int) -> dict[str, tuple[str, float]]:
    begun, number = time.monotonic(), 0
    while len(soak.runs) < runs:
        soak.round(number)
        number += 1
        seconds, memory = time.monotonic() - begun, soak.memory[-1]
        say(f"  {len(soak.runs)} runs after {seconds:.0f} s, {memory:.0f} MB, {dict(soak.hit)}")
    with suppress(BenchError):  # then it says what is still missing
        wait(lambda: not soak.lost(), "the last tries", soak.place.folder / "log", 120)
    lost = soak.lost()
    for run_id in lost[:5]:
        say(f"  lost: {run_id}")
    quarter = max(1, (len(soak.memory) - _WARM) // 4)
    first, last = median(soak.memory[_WARM : _WARM + quarter] or soak.memory), median(soak.memory[-quarter:])
    return {
        "soak.runs": ("runs", float(len(soak.runs))),
        "soak.lost": ("runs", float(len(lost))),
        "soak.hit": ("events", float(sum(soak.hit.values()))),
        "soak.per_minute": ("runs/min", len(soak.runs) / (time.monotonic() - begun) * 60),
        "soak.growth": ("× of the memory at first", last / first),
    }


if __name__ == "__main__":
    sys.exit(main())
