"""What every measurement of `make bench` goes through: processes that are weighed, rounds that alternate, one store.

A work is done by contestants, ourselves among them, in turns: A B C, A B C, … so that a drift of the machine hits all
of them alike. Each turn leaves a sample per work: wall seconds, CPU seconds with those of ended children, peak
resident bytes of the largest process. What is measured is written after every turn; an interrupted session keeps it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import machine, stolen_seconds, versions

ROOT = Path(__file__).resolve().parent.parent
PEER_SCRIPTS = ROOT / "benchmarks" / "peers"
OWN = "refresh_pipelines"
# A process that hangs is a failed row, not a session that never ends.
PATIENCE = 1800.0


class BenchError(RuntimeError):
    """A measurement failed; the text says why and is shown in the table."""


@dataclass(frozen=True)
class Sample:
    """One turn. `value` is in the unit of its series; seconds of wall and CPU and bytes stand beside it where known."""

    value: float
    wall: float | None = None
    cpu: float | None = None
    rss: int | None = None

    @classmethod
    def timed(cls, found: Mapping[str, Any]) -> Sample:
        """Return a sample whose value is its wall time."""
        return cls(found["wall"], found["wall"], found.get("cpu"), found.get("rss"))


@dataclass
class Series:
    """The samples of one contestant at one work, or why there are none."""

    unit: str = "s"
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None

    def values(self, measure: str = "value") -> list[float]:
        """Return one measure of every sample that has it."""
        found = [getattr(sample, measure) for sample in self.samples]
        return [value for value in found if value is not None]

    def middle(self, measure: str = "value") -> float | None:
        """Return the median, None if there is nothing."""
        values = self.values(measure)
        return median(values) if values else None


def ratio(over: Series | None, under: Series | None, measure: str = "value") -> float | None:
    """Return the ratio of the medians; None where one side is missing, failed or zero."""
    if over is None or under is None or over.failure or under.failure:
        return None
    top, bottom = over.middle(measure), under.middle(measure)
    return top / bottom if top is not None and bottom else None


class Session:
    """All that is measured in one go, and its file.

    Attributes:
        path: where it is written after every turn.
        quick: tiny sizes, to see that everything works; the numbers mean nothing.
        modules: which have been measured to their end, or failed.
    """

    def __init__(self, path: Path, rounds: int = 5, *, quick: bool = False) -> None:
        self.path, self.rounds, self.quick = path, rounds, quick
        self.begun_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.machine, self.versions, self.notes = machine(), versions(peers()), dict[str, str]()
        self.works: dict[str, dict[str, Series]] = {}
        self.modules: list[str] = []
        self._stolen, self._clock = stolen_seconds(), time.monotonic()

    def take_up(self) -> None:
        """Go on with the session in the file, which may have been interrupted.

        Raises:
            BenchError: there is none, or it is not like this one: another machine, other versions, other rounds.
        """
        try:
            before = json.loads(self.path.read_text())
        except (OSError, ValueError) as error:
            raise BenchError(f"{self.path.name} cannot be taken up: {error}") from error
        now = self.document()
        other = [name for name in ("version", "rounds", "quick", "versions") if before.get(name) != now[name]]
        other += [
            name for name in ("cpu", "cores", "system") if before["machine"].get(name) != now["machine"].get(name)
        ]
        if other:
            raise BenchError(f"{self.path.name} is another session: {', '.join(other)} differ")
        self.begun_at, self.modules, self.notes = before["begun_at"], before["modules"], before["notes"]
        self.works = read_series(before)
        self._clock -= before["seconds"]
        self._stolen -= before["stolen_seconds"]

    def series(self, work: str, contestant: str, unit: str = "s") -> Series:
        """Return the series of a contestant at a work; a new one is empty."""
        return self.works.setdefault(work, {}).setdefault(contestant, Series(unit))

    def add(self, work: str, contestant: str, sample: Sample, unit: str = "s") -> None:
        """Keep a sample."""
        self.series(work, contestant, unit).samples.append(sample)
        self.save()

    def failed(self, work: str, contestant: str) -> bool:
        """Return whether a contestant is out."""
        found = self.works.get(work, {}).get(contestant)
        return bool(found and found.failure)

    def fail(self, works: Sequence[str], contestant: str, why: str) -> None:
        """Keep the reason why a contestant has no, or not all, samples."""
        for work in works:
            self.series(work, contestant).failure = why
        say(f"  {contestant} failed: {why}")
        self.save()

    def alternate(
        self, works: Sequence[str], turns: Mapping[str, Callable[[int], Mapping[str, Sample]]], unit: str = "s"
    ) -> None:
        """Let contestants take turns; each turn answers a sample per work. One that fails once is out.

        Args:
            works: what is measured, for the rows of a contestant that fails.
            turns: the work of each contestant, told the number of the round.
            unit: of the samples' values.
        """
        for number in range(self.rounds):
            for contestant, turn in turns.items():
                if any(self.failed(work, contestant) for work in works):
                    continue
                say(f"  round {number + 1}/{self.rounds}: {contestant}")
                try:
                    found = turn(number)
                except (BenchError, OSError, KeyError) as error:
                    self.fail(works, contestant, f"{type(error).__name__}: {error}".removeprefix("BenchError: "))
                    continue
                for work, sample in found.items():
                    self.add(work, contestant, sample, unit)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(self.document(), indent=1) + "\n")
        beside.replace(self.path)

    def document(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "version": 1,
            "begun_at": self.begun_at,
            "rounds": self.rounds,
            "quick": self.quick,
            "seconds": round(time.monotonic() - self._clock, 1),
            "stolen_seconds": round(stolen_seconds() - self._stolen, 2),
            "machine": self.machine,
            "versions": self.versions,
            "modules": self.modules,
            "notes": self.notes,
            "works": {work: {name: asdict(one) for name, one in found.items()} for work, found in self.works.items()},
        }


def read_series(document: Mapping[str, Any]) -> dict[str, dict[str, Series]]:
    """Return the series of a session's file."""
    return {
        work: {
            name: Series(one["unit"], [Sample(**sample) for sample in one["samples"]], one["failure"])
            for name, one in found.items()
        }
        for work, found in document["works"].items()
    }


def weighed(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> tuple[str, Sample]:
    """Run a whole process; return what it printed and what it took, its ended children included.

    Raises:
        BenchError: it ended with another code than 0, or not in time; the last of what it said is in the text.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=err, env=clean(env), cwd=cwd, start_new_session=True
        )
        status, usage = _waited(process, begun + PATIENCE)
        wall = time.perf_counter() - begun
        out.seek(0)
        err.seek(0)
        said, errors = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code  # so that its destructor does not wait for a process that is gone
    if code:
        told = (errors.strip() or said.strip()).splitlines()
        raise BenchError(f"{Path(command[0]).name} ended with {code}: {''.join(told[-1:])[:200]}")
    # Without a peak of memory: what the kernel says of an ended process includes the program it was forked from.
    return said, Sample(wall, wall, usage.ru_utime + usage.ru_stime)


def _waited(process: subprocess.Popen[bytes], until: float) -> tuple[int, Any]:
    # A wait that blocks and a clock beside it: asking again and again would cost what is being measured.
    killer = threading.Timer(until - time.perf_counter(), os.killpg, (process.pid, signal.SIGKILL))
    killer.daemon = True
    killer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        killer.cancel()
    return status, usage


def stepwise(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> dict[str, Sample]:
    """Run a process that measures its own steps; return a sample for each, and `whole` for the process.

    The last line it prints is JSON: `{"step": {"wall": …, "cpu": …, "rss": …}}`; see peers/timing.py.
    """
    said, whole = weighed(command, env)
    try:
        steps = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BenchError(f"{Path(command[-1]).name} printed no measurement: {said[-200:]!r}") from error
    return {**{name: Sample.timed(found) for name, found in steps.items()}, "whole": whole}


def clean(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a contestant: compiled modules are kept, nobody reports usage, no settings of ours."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("REFRESH_", "DAGSTER_"))}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    quiet = {
        "RUNTIME__DLTHUB_TELEMETRY": "false", "DISABLE_TELEMETRY": "true", "INGESTR_DISABLE_TELEMETRY": "true",
        "SLING_DISABLE_TELEMETRY": "true", "DAGSTER_DISABLE_TELEMETRY": "yes", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    return {**found, **quiet, **(env or {})}


def peers() -> Path:
    """Return the peers' environment, of which BENCH_PEERS names another one."""
    return Path(os.environ.get("BENCH_PEERS") or ROOT / ".venv-peers")


def peer(name: str) -> Path:
    """Return a program of the peers' environment. Raises BenchError where it is not installed."""
    path = peers() / "bin" / name
    if not path.exists():
        raise BenchError(f"{name} is not installed in {peers().name}: `make bench` makes it")
    return path


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
