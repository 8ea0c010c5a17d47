"""What a run costs Dagster's history in SQLite and in PostgreSQL, in turns on this machine.

    python benchmarks/history.py

Measured are creating a run with its first event, as the daemon does, and an event of a run under way, as a refresh
writes it: with files or connections that stay open. Needs `make up PROFILE=postgres` once, for the server's programs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil

from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.orchestration.internals import many_events
from refresh_pipelines.service.embedded import Embedded
from refresh_pipelines.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
RUNS, EVENTS = 40, 200


@dg.op
def nothing() -> None:
    pass


@dg.job
def job() -> None:
    nothing()


def create(instance: dg.DagsterInstance) -> dg.DagsterRun:
    run = instance.create_run_for_job(job_def=job, run_id=str(uuid.uuid4()), tags={"refresh/source": "x"})
    instance.report_engine_event("the first event", run)
    return run


class Meter:
    """Wall and CPU seconds of this process, and of a server with the processes it has started."""

    def __init__(self, server: psutil.Process | None) -> None:
        self.server, self.wall, self.cpu = server, 0.0, 0.0

    def _cpu(self) -> float:
        times = os.times()
        spent = times.user + times.system
        if self.server:
            # Of those that have ended the server itself knows.
            spent += sum(self.server.cpu_times()[:4])
            for child in self.server.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    spent += sum(child.cpu_times()[:2])
        return spent

    def measure(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), self._cpu()
        work()
        self.wall, self.cpu = self.wall + time.perf_counter() - wall, self.cpu + self._cpu() - cpu


def settings_of(folder: Path, **environ: str) -> Settings:
    return Settings.load({"REFRESH_DATA_DIR": str(folder), **environ}, root=ROOT)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="history-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Embedded(folder / "pg")
        server.start()
        try:
            compare(folder, server)
        finally:
            server.stop()


def compare(folder: Path, server: Embedded) -> None:
    pid = int((server.cluster / "postmaster.pid").read_text().splitlines()[0])
    settings = {
        "SQLite": settings_of(folder / "lite"),
        "PostgreSQL": settings_of(folder / "pg", REFRESH_INSTANCE=server.url("dagster")),
    }
    instances = {kind: open_instance(own) for kind, own in settings.items()}
    meters = {kind: (Meter(None), Meter(None)) for kind in instances}
    meters["PostgreSQL"] = (Meter(psutil.Process(pid)), Meter(psutil.Process(pid)))
    runs = {kind: create(instance) for kind, instance in instances.items()}  # what is done once is not measured
    for _ in range(RUNS):
        for kind, instance in instances.items():
            meters[kind][0].measure(lambda instance=instance: create(instance))
    for _ in range(EVENTS // 20):
        for kind, instance in instances.items():
            run = runs[kind]
            with many_events(instance, run.run_id, settings[kind]):
                instance.report_engine_event("warm", run)

                def some(instance: dg.DagsterInstance = instance, run: dg.DagsterRun = run) -> None:
                    for _ in range(20):
                        instance.report_engine_event("an event", run)

                meters[kind][1].measure(some)
    for what, count, index in (("create a run and its first event", RUNS, 0), ("an event of a run", EVENTS, 1)):
        lite, postgres = (meters[kind][index] for kind in ("SQLite", "PostgreSQL"))
        for kind, meter in (("SQLite", lite), ("PostgreSQL", postgres)):
            wall, cpu = meter.wall / count * 1000, meter.cpu / count * 1000
            sys.stdout.write(f"{what}, {kind}: {wall:.1f} ms, {cpu:.1f} ms of CPU\n")
        ratios = (postgres.wall / lite.wall, postgres.cpu / lite.cpu)
        sys.stdout.write(f"{what}, PostgreSQL to SQLite: {ratios[0]:.2f} of the time, {ratios[1]:.2f} of the CPU\n")


if __name__ == "__main__":
    main()
