"""A batch of small sources, each with an address of its own at a scripted upstream, and runs that they share.

`Bench.launch` executes steps one after the other whatever the definitions say; here the executor is theirs.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from refresh_pipelines.fetch import Fetcher
from refresh_pipelines_tests.dagster_bench import QUIET
from refresh_pipelines_tests.hurried import Hurried

AT = datetime(2026, 6, 15, 6, tzinfo=timezone.utc)
ROWS = b"day,value\n2026-06-14,1\n2026-06-15,2\n"
MEMBER = """\
description: a test
request: {{url: "https://{host}/{name}.csv", timeout: 40s}}
format: csv
columns: {{day: {{type: date}}, value: {{type: double}}}}
merge_key: [day]
schedule: {{frequency: daily, time: "06:00", batch: small}}
retry: {{attempts: {attempts}, delay: 0s}}
{more}
"""


class Paths:
    """An upstream that answers by path; `answers` may be bytes, a status, or a function that returns one of these."""

    def __init__(self):
        self.answers, self.asked, self.at_once, self.most = {}, [], 0, 0
        self.lock = threading.Lock()
        paths = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.split("?")[0]
                with paths.lock:
                    paths.asked.append(name)
                    paths.at_once += 1
                    paths.most = max(paths.most, paths.at_once)
                try:
                    answer = paths.answers.get(name.rsplit("/", 1)[1].removesuffix(".csv"), ROWS)
                    answer = answer() if callable(answer) else answer
                finally:
                    with paths.lock:
                        paths.at_once -= 1
                status, body = (answer, b"") if isinstance(answer, int) else (200, answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that hangs up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Herd(Hurried):
    """A bench whose only sources are of the batch `small`, and due at six."""

    seconds = 60.0

    def __init__(self, folder, history):
        super().__init__(folder, history)
        for path in (folder / "catalog").rglob("*.yaml"):
            path.unlink()
        self.paths = self._stack.enter_context(Paths())
        self.environ["REFRESH_UPSTREAM"] = self.paths.base
        self.environ["REFRESH_LOCK_TIMEOUT"] = "20s"
        self.now = AT

    def member(self, name, more="", host=None, attempts=1):
        """Add a source of the batch."""
        text = MEMBER.format(name=name, host=host or f"{name}.example.org", more=more, attempts=attempts)
        self.add(f"benin/{name}", text)

    def _adjusted(self, tools):
        # Several threads use it: the warehouse as it is.
        return self.adjust(replace(tools, fetcher=Fetcher(self.settings, sleep=lambda _: None)))

    def tick(self, at=AT):
        """Return what a tick of the batch's schedule requests, and why it skips."""
        self.now = at
        repository = self.definitions().get_repository_def()
        context = dg.build_schedule_context(self.instance, scheduled_execution_time=at, repository_def=repository)
        found = repository.get_schedule_def("small_batch").evaluate_tick(context)
        return found.run_requests or [], found.skip_message

    def execute(self, request, **tags):
        """Execute a requested run with the executor of the definitions; return it."""
        checks = frozenset(request.asset_check_keys or ())
        job = self.job().get_subset(asset_selection=frozenset(request.asset_selection), asset_check_selection=checks)
        run = self.instance.create_run_for_job(
            job, run_config=QUIET, tags={**request.tags, **tags}, asset_selection=frozenset(request.asset_selection)
        )
        execute_run(InMemoryJob(job), run, self.instance, raise_on_error=False)
        return self.instance.get_run_by_id(run.run_id)
