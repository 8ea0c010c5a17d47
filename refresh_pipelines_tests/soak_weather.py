"""The soak itself: the service is started, suffers, comes to rest and is stopped, and is a story to look at."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import psycopg

from refresh_pipelines.notices import Notices
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines_tests.dagster_bench import Receiver, wait_until
from refresh_pipelines_tests.postgres import Server
from refresh_pipelines_tests.soak_place import Soak, sources_at
from refresh_pipelines_tests.soak_upstream import Growing
from refresh_pipelines_tests.upstream import Upstream

AWAY = 60
# Since the first due minute: when which server goes, and when nobody is killed any more.
WAREHOUSE, HISTORY, BAD = (timedelta(seconds=seconds) for seconds in (10, 75, 185))


@dataclass
class Story:
    """The place after everything, and what its own commands said of it before it was stopped."""

    place: Soak
    upstream: Growing
    receiver: Receiver
    history: dg.DagsterInstance
    began: datetime
    gaps: list
    findings: list
    stopped: str
    seconds: dict


def live_through(place, growing, begin):
    """Start the service, have it suffer, and let it come to rest; return when what was over."""
    marks = {}
    begun = time.monotonic()

    def mark(name):
        marks[name] = round(time.monotonic() - begun)

    done = place.refresh("start")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(place.loaded_here, 120, "the sources to be loaded")
    place.up_at = now()
    mark("started")
    with ThreadPoolExecutor(5) as pool:
        many = pool.submit(place.run_many)
        beside = [many, pool.submit(place.watch_memory), pool.submit(place.ask_api)]
        try:
            beside.append(pool.submit(place.kill_some, (begin + BAD - now()).total_seconds()))
            wait_until(lambda: now() >= begin + WAREHOUSE, 180, "the first ticks")
            place.away(place.warehouse, AWAY, signal.SIGINT)
            wait_until(lambda: now() >= begin + HISTORY, 150, "half of the bad weather")
            place.away(place.history, AWAY, signal.SIGQUIT)
            wait_until(lambda: now() >= begin + BAD, 120, "the last kill")
            mark("the last kill")
            growing.freeze()
            place.end_command()
            many.result(timeout=60)
            come_to_rest(place, pool, mark)
        finally:
            place.calm.set()
            place.over.set()
        for one in beside:
            one.result(timeout=60)
    return marks


def come_to_rest(place, pool, mark):
    """Wait until what was asked for is done, refresh everything once more, and wait until all trouble is over."""
    wait_until(place.all_up, 120, "all processes to run")
    with history_of(place) as history:
        # A machine that has other things to do takes its time; where it has not, that is a minute.
        wait_until(lambda: not under_way(history), 600, lambda: f"the runs to end:\n{what_hangs(place, history)}")
        place.growing.calm_down()
        mark("runs ended")
        notices = Notices(place.settings)
        names = sorted(behind(place) | {one.source for one in notices.open() if one.source})
        # Two commands at once, each with every second one of them.
        for one in [pool.submit(all_good, place, names[first::2]) for first in (0, 1)]:
            one.result()
        mark(f"{len(names)} refreshed once more")
        wait_until(lambda: not notices.open() and not notices.waiting(), 300, "all trouble to be told as over")
        wait_until(lambda: not under_way(history), 120, "the last runs to end")
        mark("at rest")


def behind(place):
    """Return the sources whose table is not what is served now."""
    final = place.growing.step
    with psycopg.connect(place.warehouse.url("warehouse")) as warehouse:
        return {
            source.name
            for source in place.growing.sources.values()
            if any(rows_of(warehouse, source, key) != source.rows(final, key) for key in source.keys)
        }


def rows_of(warehouse, source, key):
    """Return what is in the table of a source, or of one of its partitions."""
    if warehouse.execute("SELECT to_regclass(%s)", [f"raw.{source.name}"]).fetchone() == (None,):
        return []
    where = f"WHERE half = '{key}'" if key else ""
    return warehouse.execute(f"SELECT n, said, revised FROM raw.{source.name} {where} ORDER BY n").fetchall()


def all_good(place, names):
    if names:
        done = place.refresh("run", *names)
        assert done.returncode == 0, done.stdout + done.stderr


def under_way(history):
    ended = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    return history.get_runs(dg.RunsFilter(statuses=[one for one in dg.DagsterRunStatus if one not in ended]))


def what_hangs(place, history):
    """Return what is known of runs that do not end, and what the daemon said last."""
    lines = []
    for run in under_way(history):
        said = [f"  {one.timestamp:.0f} {one.user_message or one.message}" for one in history.all_logs(run.run_id)]
        lines += [f"{run.run_id} {run.status.value} {run.tags}", *said[-8:]]
    for name in ("daemon", "code"):
        path = place.root / f"data/log/{name}.log"
        lines += [f"{name}:", *(path.read_text(errors="replace").splitlines()[-30:] if path.exists() else ["no log"])]
    return "\n".join(lines)


def now():
    return datetime.now(timezone.utc)


@contextmanager
def history_of(place):
    """Open the instance of the place, and leave this process where and as it was."""
    names, here = ("DAGSTER_HOME", "REFRESH_INSTANCE", "DAGSTER_DISABLE_TELEMETRY"), Path.cwd()
    before = {name: os.environ.get(name) for name in names}
    try:
        os.environ["REFRESH_INSTANCE"] = place.more["REFRESH_INSTANCE"]
        history = open_instance(place.settings)
    finally:
        os.chdir(here)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    with history:
        yield history


def lived(root, stack, seed):
    """Live through it in a new place; what is open is closed with the stack."""
    began = now()
    begin = (began + timedelta(seconds=75)).replace(second=0, microsecond=0)
    growing = Growing(sources_at(begin), seed)
    servers = []
    for name in ("dagster", "warehouse"):
        # Not below pytest's folder, into which no other user may look: the server runs as one.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-"))
        servers.append(Server(Path(folder)))
        stack.callback(servers[-1].stop)
        servers[-1].ask("postgres", f"CREATE DATABASE {name}")
    upstream, receiver = stack.enter_context(Upstream(growing)), stack.enter_context(Receiver())
    place = Soak(root / "p", growing, upstream, receiver, *servers, seed)
    stack.callback(place.kill_all)
    seconds = live_through(place, growing, begin)
    gaps, findings = place.items("gaps"), place.items("doctor")
    stopped = place.refresh("stop")
    seconds["looked at"] = round((now() - began).total_seconds())
    history = stack.enter_context(history_of(place))
    said = stopped.stdout + stopped.stderr
    return Story(place, growing, receiver, history, begin, gaps, findings, said, seconds)
