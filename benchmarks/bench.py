"""`make bench`: every measurement against its peers in one session, one table, one picture.

    python -m benchmarks.bench [--only load,cold] [--rounds 5] [--quick] [--take-up] [--results FOLDER]

What is missed is marked and is no error; what fails is shown with its reason and does not stop the rest. After every
module the table and the picture are written, so that an interrupted session keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg

from benchmarks import cold, drain, idle, launched, load, load_postgres, memory, reads
from benchmarks.harness import PATIENCE, ROOT, BenchError, Sample, Session, clean, say
from benchmarks.plot import draw
from benchmarks.report import render
from benchmarks.targets import TARGETS

RESULTS = ROOT / "benchmarks" / "results"
# In the order of the session: what is quick and asked most comes first.
OWN_MODULES: dict[str, Callable[[Session, Path], None]] = {
    "load": load.measure,
    "cold": cold.measure,
    "memory": memory.measure,
    "launched": launched.measure,
    "drain": drain.measure,
    "idle": idle.measure,
    "load_postgres": load_postgres.measure,
    "reads": reads.measure,
}
# Scripts beside this one that measure what has no peer; see `scripted`.
SCRIPTS = ("due",)
# Hours: measured only where they are asked for.
LONG = ("soak",)
# Of a script, in seconds.
_SCRIPT_PATIENCE = {"due": 2 * PATIENCE, "soak": 12 * PATIENCE}
NAMES = (*OWN_MODULES, *SCRIPTS, *LONG)


def main(words: list[str] | None = None) -> None:
    """Measure, and write `latest.json`, `latest.md` and `latest.svg`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help=f"of {', '.join(NAMES)}, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, not how fast it is")
    parser.add_argument("--take-up", action="store_true", help="go on with a session that was interrupted")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    chosen = [name for name in given.only.replace(" ", "").split(",") if name] or [*OWN_MODULES, *SCRIPTS]
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        parser.error(f"--only {','.join(unknown)}: expected some of {', '.join(NAMES)}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    session = Session(given.results / "latest.json", given.rounds, quick=given.quick)
    if given.take_up:
        try:
            session.take_up()
        except BenchError as error:
            parser.error(str(error))
    try:
        for name in NAMES:
            if name in chosen and name not in session.modules:
                say(name)
                _measure(session, name)
                session.modules.append(name)
                publish(session)
    finally:
        publish(session)
    sys.stdout.write(render(session.document()))


def publish(session: Session) -> None:
    """Write the session, its table and its picture."""
    session.save()
    document = session.document()
    session.path.with_suffix(".md").write_text(render(document))
    session.path.with_suffix(".svg").write_text(draw(document))


def _measure(session: Session, name: str) -> None:
    if name in OWN_MODULES:
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            attempt(session, name, lambda: OWN_MODULES[name](session, Path(folder)))
    else:
        attempt(session, name, lambda: scripted(session, name, ROOT / "benchmarks" / f"{name}.py"))


def attempt(session: Session, name: str, work: Callable[[], None]) -> None:
    """Do the work of a module; where it fails, its targets have failed for that reason."""
    try:
        work()
    except (BenchError, OSError, subprocess.SubprocessError, psycopg.Error) as error:
        session.notes[f"{name} failed"] = str(error)
        say(f"  {name} failed: {error}")
        for check in (check for target in TARGETS if target.only == name for check in target.checks):
            # A number that was found before stays in the file, and is not what was asked for.
            session.series(check.work, check.who).failure = str(error)


def scripted(session: Session, name: str, path: Path) -> None:
    """Run a script with --json and keep what it found: `measurements` of its last line, the lines before as a note.

    A measurement is `{"work": "due.requested", "contestant": "PostgreSQL", "unit": "s", "samples": [58.1]}`.

    Raises:
        BenchError: it is not there, ended with another code than 0, or not in time, or its last line is none of this.
    """
    if not path.exists():
        raise BenchError(f"{path.name} is not there")
    command, env = [sys.executable, path, "--json"], clean({"PYTHONPATH": str(ROOT)})
    patience = _SCRIPT_PATIENCE.get(name, PATIENCE)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=patience, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BenchError(f"{path.name} --json ended with {done.returncode}: {' / '.join(last[-3:])[-300:]}")
    *lines, last_line = done.stdout.strip().splitlines() or [""]
    try:
        found = json.loads(last_line)["measurements"]
        for one in found:
            for value in one["samples"]:
                session.add(one["work"], one.get("contestant", "refresh_pipelines"), Sample(float(value)), one["unit"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"the last line of {path.name} --json is no measurement: {last_line[:200]!r}") from error
    if lines:
        session.notes[name] = "\n".join(lines)


if __name__ == "__main__":
    # Measured is how fast it is, not how politely it shares.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
