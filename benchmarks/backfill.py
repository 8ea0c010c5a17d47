"""What a partition costs when one request serves a whole range of them.

    .venv/bin/python benchmarks/backfill.py

An upstream on loopback serves any days of 2024, three rows each, and the source asks for up to 366 of
them at once (`request.span`). Timed are whole processes of `refresh run`, from the shell's point of
view, each in a fresh folder:

- one: `refresh run days --partition 2024-01-01`
- year: `refresh run days --from 2024-01-01 --to 2024-12-31`, 366 partitions in one run
- each: (year - one) / 366, what a partition costs
- cpu: the same of the processor's time, which other programs on the machine disturb less

Five runs; printed are median, smallest and largest. The target is 0.1 s for each partition; exit 1 if
the median misses it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).resolve().parent.parent
DAYS, REPEATS, TARGET = 366, 5, 0.1
FIRST = date(2024, 1, 1)
SOURCE = """\
description: Three numbers a day
request: {url: "https://example.org/days.csv", params: {start: "{start}", end: "{end}"}, span: 366}
format: csv
columns:
  day: {type: date}
  site: {type: text}
  value: {type: double}
merge_key: [day, site]
load: {mode: replace_partition}
schedule: {frequency: daily}
partitions: {time: day, start: 2024-01-01, column: day}
"""


def main() -> None:
    """Measure and print a table; exit 1 if the target is missed."""
    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    one, year, each, cpu = [], [], [], []
    for _ in range(REPEATS):
        single = timed(server, "--partition", str(FIRST))
        whole = timed(server, "--from", str(FIRST), "--to", str(FIRST + timedelta(days=DAYS - 1)))
        one.append(single[0])
        year.append(whole[0])
        each.append((whole[0] - single[0]) / DAYS)
        cpu.append((whole[1] - single[1]) / DAYS)
    server.shutdown()
    print(f"{'seconds':>8}  {'median':>7}  {'min':>7}  {'max':>7}")
    for name, values in (("one", one), ("year", year), ("each", each), ("cpu", cpu)):
        print(f"{name:>8}  {median(values):7.3f}  {min(values):7.3f}  {max(values):7.3f}")
    print(f"{DAYS} partitions by 1 request; target {TARGET} s each: {'met' if median(each) <= TARGET else 'missed'}")
    sys.exit(0 if median(each) <= TARGET else 1)


def timed(server: Server, *options: str) -> tuple[float, float]:
    """Return wall and processor time of one `refresh run`; stop if it failed or asked more than once."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copy(ROOT / "dagster.yaml", home)
        source = home / "catalog" / "benin" / "days.yaml"
        source.parent.mkdir(parents=True)
        source.write_text(SOURCE)
        server.asked = 0
        before, begun = spent(), perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "refresh_pipelines", "run", "days", *options],
            cwd=home,
            env=environment(server),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = perf_counter() - begun, spent() - before
    if done.returncode or server.asked != 1:
        sys.exit(f"exit {done.returncode} after {server.asked} requests\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def spent() -> float:
    """Return the processor time of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment(server: Server) -> dict[str, str]:
    """Return an environment in which byte code is kept, as anybody's is."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REFRESH_", "DAGSTER_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    upstream = f"http://127.0.0.1:{server.server_port}"
    return {**kept, "PYTHONPATH": str(ROOT), "REFRESH_CATALOG": "catalog", "REFRESH_UPSTREAM": upstream}


class Server(ThreadingHTTPServer):
    """The upstream; `asked` counts requests."""

    asked = 0


class Handler(BaseHTTPRequestHandler):
    """Answers `?start=2024-01-01&end=2024-01-03` with the rows of the days between."""

    server: Server

    def do_GET(self) -> None:
        """Serve the days asked for."""
        self.server.asked += 1
        query = parse_qs(urlsplit(self.path).query)
        start, end = (date.fromisoformat(query[name][0]) for name in ("start", "end"))
        days = (start + timedelta(days=number) for number in range((end - start).days))
        lines = [f"{day},{site},{day.toordinal()}.5" for day in days for site in "abc"]
        body = "\n".join(["day,site,value", *lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    main()
