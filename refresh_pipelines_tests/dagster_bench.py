"""A place to run refreshes through Dagster: own catalogue, data folder and history, sandbox as upstream.

Import it only from tests that need Dagster; its import costs a second.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import range_tags
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.refresh import Tools
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES, Settings
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.attached import AttachedWarehouse
from refresh_pipelines_tests.catalogues import copy_two_sources

KEY = "planted5ecret"
FRED = "/api.stlouisfed.org/fred/series/observations"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def make_empty_history(folder):
    """Make an instance's storage; creating it costs two seconds, copying it nothing."""
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
    cheap_history.let_go()  # what SQLite has kept beside its files is written into them
    return folder


class Bench:
    """Everything a run needs, below one temporary folder.

    Attributes:
        environ: settings beside those of the bench.
        adjust: last word on the tools of each attempt of a run; waits are taken out before.
        now: what time ticks and sensors take it to be, None for the real one.
    """

    def __init__(self, folder, history):
        self.folder = folder
        shutil.copytree(history, folder / "history")
        copy_two_sources(folder / "catalog")
        self._stack = contextlib.ExitStack()
        self.instance = self._stack.enter_context(dg.DagsterInstance.local_temp(str(folder / "history")))
        self.sandbox = self._stack.enter_context(Sandbox(SAMPLES))
        self.environ: dict[str, str] = {}
        self.now: datetime | None = None
        self.adjust: Callable[[Tools], Tools] = lambda tools: tools

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()
        cheap_history.let_go()

    @property
    def settings(self):
        environ = {
            "REFRESH_CATALOG": "catalog",
            "REFRESH_UPSTREAM": self.sandbox.base,
            "REFRESH_LOCK_TIMEOUT": "1s",
            "FRED_API_KEY": KEY,
            **self.environ,
        }
        return Settings.load(environ, root=self.folder)

    @property
    def workshop(self):
        return Workshop(self.settings, self._adjusted, lambda: self.now or utc_now(), keep=timedelta(0))

    def _adjusted(self, tools):
        warehouse = AttachedWarehouse(self.settings.warehouse_file, self.settings.lock_timeout.total_seconds())
        return self.adjust(replace(tools, warehouse=warehouse, fetcher=Fetcher(self.settings, sleep=lambda _: None)))

    def edit(self, name, before, after):
        """Replace text in the YAML of `group/source`."""
        path = self.folder / "catalog" / f"{name}.yaml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def add(self, name, text):
        """Write the YAML of `group/source`."""
        path = self.folder / "catalog" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def catalogue(self):
        return load_catalogue(self.settings.catalog, self.settings.environ)

    def spec(self, source):
        return self.catalogue().find(source)

    def definitions(self):
        return build_definitions(self.settings, self.catalogue(), workshop=self.workshop)

    def job(self):
        return self.definitions().get_repository_def().get_implicit_global_asset_job_def()

    def launch(self, sources, *keys, run_id=None, **tags):
        """Run the assets over one partition, or over the range from the first key to the last."""
        names = [sources] if isinstance(sources, str) else sources
        spread = range_tags(keys) if len(keys) > 1 else {}
        return self.job().execute_in_process(
            instance=self.instance,
            asset_selection=[key_of(self.spec(name)) for name in names],
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={**spread, **{name.replace("__", "/"): value for name, value in tags.items()}},
            raise_on_error=False,
            run_config=QUIET,
            run_id=run_id,
        )

    def good(self, result, source=None):
        """Return a run's materializations, in order."""
        return self._events(result, "MATERIALIZATION", source)

    def bad(self, result, source=None):
        """Return a run's observations, in order."""
        return self._events(result, "OBSERVATION", source)

    def _events(self, result, kind, source):
        out = []
        for entry in self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType[f"ASSET_{kind}"]):
            data = entry.dagster_event.event_specific_data
            event = data.materialization if kind == "MATERIALIZATION" else data.asset_observation
            if source in (None, event.asset_key.path[-1]):
                out.append(event)
        return out

    def run(self, result):
        return self.instance.get_run_by_id(result.run_id)

    def status(self):
        """Return the sources of status.json by name."""
        document = json.loads((self.settings.data_dir / "status.json").read_text())
        assert document["version"] == 1
        return {item["source"]: item for item in document["sources"]}


def at(stage, action):
    """Return an `adjust` that does `action` whenever a refresh reaches the stage."""

    def progress(reached):
        if reached == stage:
            action()

    return lambda tools: replace(tools, progress=progress)


def values(event):
    """Return an event's metadata as plain values."""
    return {name: value.value for name, value in event.metadata.items()}


def version(event):
    return event.tags["dagster/data_version"]


def partitions(events):
    return [event.partition for event in events]


class Receiver:
    """A webhook's receiver on loopback; `status` is what it answers next, None hangs up."""

    def __init__(self):
        self.status: int | None = 200
        self.received: list[tuple[int | None, dict[str, str], dict]] = []
        self.raw: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.status
                receiver.raw.append(body)
                receiver.received.append((status, dict(self.headers), json.loads(body)))
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/pathsecret"

    def __enter__(self):
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def delivered(self):
        """Bodies that were answered 200."""
        return [body for status, _, body in self.received if status == 200]


def wait_until(condition, seconds, what):
    """Return the first true value of `condition()`; fail naming `what`, or what that returns, when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
