"""Several `refresh run` at once keep the rate of their host together: what the upstream's own log shows."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import groupby
from threading import Barrier

import pytest

from refresh_pipelines_tests.command_home import ROOT, Home
from refresh_pipelines_tests.served import environment
from refresh_pipelines_tests.upstream import Upstream, answer

pytestmark = pytest.mark.e2e

# The third of them declares no rate, and the second a higher one: the lowest holds for all.
RATES = {"a": ", rate: 2/s", "b": ", rate: 9/s", "c": "", "d": ", rate: 2/s"}
SOURCE = """\
description: a test
request:
  {{url: "https://example.org/{name}.csv?part={{part}}", each: {{part: ["1", "2", "3", "4", "5"]}}, timeout: 99s{rate}}}
format: csv
columns: {{part: {{type: text, from: "{{part}}"}}, n: {{type: int}}}}
merge_key: [part]
schedule: {{frequency: daily}}
"""
EVERY = 0.5
# How much later than its turn a request may arrive on two busy cores; all twenty take 9.5 seconds, without a rate one.
LATE = 2.0


class Timed(Upstream):
    """Remembers when each request came, and for which source; the first answers wait until all sources have asked."""

    def __init__(self):
        super().__init__(self._serve)
        self.came, self.together = [], Barrier(len(RATES))

    def _serve(self, handler):
        name = handler.path.split("/")[2][0]
        self.came.append((time.monotonic(), name))
        if handler.path.endswith("part=1"):
            self.together.wait(90)
        handler.wfile.write(answer(b"n\n1\n"))


def test_four_processes_together_ask_a_host_no_more_often_than_its_lowest_rate(tmp_path, empty_history):
    with Timed() as upstream:
        home = Home(tmp_path, empty_history, upstream)
        home.add({f"benin/{name}.yaml": SOURCE.format(name=name, rate=rate) for name, rate in RATES.items()})
        command = [sys.executable, "-m", "refresh_pipelines", "run"]
        env, tell = environment(ROOT, **home.environ), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        runs = [subprocess.Popen([*command, name], cwd=tmp_path, env=env, text=True, **tell) for name in RATES]
        for run in runs:
            said, _ = run.communicate(timeout=200)
            assert run.returncode == 0, said
    came = sorted(upstream.came)
    assert len(came) == 20
    for first, (start, _) in enumerate(came):
        for count, (end, _) in enumerate(came[first:], 1):
            assert count <= (end - start + LATE) / EVERY + 1
    # They were at it together, not one after the other.
    assert len(list(groupby(name for _, name in came))) > len(RATES)
