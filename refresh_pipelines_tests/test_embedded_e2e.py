"""`make up PROFILE=postgres`: a server of its own, which may be started anew under a run and killed at any moment."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from refresh_pipelines.service.embedded import Embedded
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.postgres import let_in
from refresh_pipelines_tests.served import Served, copied
from refresh_pipelines_tests.test_supervised import GOOD, SOURCE
from refresh_pipelines_tests.upstream import Upstream

pytestmark = pytest.mark.e2e


@pytest.fixture
def root():
    """A copy of the repository where the user that PostgreSQL runs as can reach it."""
    let_in()
    with tempfile.TemporaryDirectory(prefix="up-") as name:
        Path(name).chmod(0o755)
        yield copied(Path(name) / "a copy")


@pytest.fixture
def server(root):
    server = Embedded(root / "data")
    yield server
    server.stop()


def rows(server, database, statement):
    with psycopg.connect(server.url(database)) as connection:
        return connection.execute(statement).fetchall()


def test_a_run_outlives_its_server_being_started_anew_and_a_killed_server_starts_again(root, server, tmp_path):
    write(root / "mine", {"benin/slow.yaml": SOURCE.format(name="slow")})
    log = tmp_path / "up.log"
    with Upstream() as upstream:

        def serve(handler):
            upstream.released.wait(100)
            handler.wfile.write(GOOD)

        upstream.script.append(serve)
        with Served(root, upstream, log, REFRESH_CATALOG="mine", PROFILE="postgres") as served:
            run = served.launch("benin", "slow")
            wait_until(lambda: upstream.seen, 120, f"the request of the run; see {log}")
            server.stop()
            upstream.released.set()
            wait_until(lambda: "waiting for the server of Dagster's history" in logged(root), 150, "the run to wait")
            server.start()
            forget_connections(served, run)
            assert wait_until(lambda: served.ended(run), 120, f"the run to end; see {log}")[0] == "SUCCESS"
            assert served.stop() == []
    assert not server.runs()

    server.start()
    os.kill(int((server.cluster / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    server.start()
    assert rows(server, "warehouse", "SELECT n FROM raw.slow") == [(1,)]
    # Of this source alone: what the location does by itself, such as the weekly score, may fall into the same minutes.
    told = "SELECT run_id FROM event_logs WHERE asset_key LIKE '%slow%' AND dagster_event_type = "
    assert rows(server, "dagster", told + "'ASSET_MATERIALIZATION'") == [(run,)]
    assert rows(server, "dagster", f"SELECT status FROM runs WHERE run_id = '{run}'") == [("SUCCESS",)]
    assert "env: REFRESH_INSTANCE" in (root / "data/dagster.yaml").read_text()


def forget_connections(served, run):
    """Ask the UI until it has noticed: it meets each connection that was cut once, and does not try again."""
    for _ in range(5):
        with suppress(AssertionError):
            served.ended(run)


def logged(root):
    return (root / "data/log/refresh.log").read_text()
