"""A million rows of CSV into DuckDB, by us, by DuckDB itself and by dlt; and what finding nothing new costs.

Each turn is a process with a fresh folder that loads a thousand rows first, unmeasured, then: the payload; the same
again without validators; the same with an ETag twice, of which the second is answered by 304; 1 % changed and 1 % new.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import payloads
from benchmarks.harness import OWN, PEER_SCRIPTS, BenchError, Sample, Session, peer, say, stepwise
from benchmarks.serving import served

WARM = "warm=plain/warm.csv:warm"
STEPS = (
    WARM,
    "initial=plain/initial.csv:main",
    "identical=plain/initial.csv:main",
    "delta=plain/delta.csv:main",
)
# First with the validator's first sight, so that the second can be a 304.
TAGGED = ("tag=etag/delta.csv:main", "not_modified=etag/delta.csv:main")
WORKS = ("initial", "identical", "delta")


def sizes(session: Session) -> tuple[int, int, int]:
    """Return the rows of the large, the huge and the small payload."""
    return (2_000, 5_000, 200) if session.quick else (1_000_000, 10_000_000, 10_000)


def measure(session: Session, folder: Path) -> None:
    """Measure `duckdb.*` and `growth.*`."""
    large, huge, small = sizes(session)
    files = folder / "files"
    say(f"payload of {large} rows")
    payloads.initial(files / "warm.csv", min(1000, large))
    size = payloads.initial(files / "initial.csv", large).stat().st_size
    payloads.delta(files / "delta.csv", large)
    session.notes["payload"] = f"{large:,} rows × {len(payloads.COLUMNS)} columns, {size / 1e6:.1f} MB of CSV"
    with served(files) as base:
        turns = {
            OWN: own(folder, base, (*STEPS, *TAGGED)),
            "plain DuckDB": scripted("duckdb_plain.py", folder, base, STEPS),
            "dlt": scripted("dlt_load.py", folder, base, STEPS),
            "hashing": scripted("hashing.py", folder, base, (WARM, "identical=plain/initial.csv:main")),
        }
        measure_steps(session, "duckdb", (*WORKS, "not_modified"), turns)
        _growth(session, folder, base, huge, small)


def measure_steps(
    session: Session, name: str, steps: Sequence[str], turns: Mapping[str, Callable[[], dict[str, Sample]]]
) -> None:
    """Let the contestants take turns at steps; of those that a contestant does not do it has no series."""

    def kept(turn: Callable[[], dict[str, Sample]]) -> Callable[[int], dict[str, Sample]]:
        return lambda _: {f"{name}.{step}": sample for step, sample in turn().items() if step in steps}

    session.alternate([f"{name}.{WORKS[0]}"], {who: kept(turn) for who, turn in turns.items()})


def own(folder: Path, base: str, steps: Sequence[str], database: str = "") -> Callable[[], dict[str, Sample]]:
    """Return our turn: a fresh process and folder, the steps in it."""
    return lambda: _turn([sys.executable, "-m", "benchmarks.own_load"], folder, base, steps, database)


def scripted(
    script: str, folder: Path, base: str, steps: Sequence[str], database: str = ""
) -> Callable[[], dict[str, Sample]]:
    """Return a peer's turn, a script in the peers' environment."""
    return lambda: _turn([peer("python"), PEER_SCRIPTS / script], folder, base, steps, database)


def _turn(
    command: Sequence[str | Path], folder: Path, base: str, steps: Sequence[str], database: str
) -> dict[str, Sample]:
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    try:
        return stepwise([*command, "--url", base, "--state", state, "--database", database, "--steps", *steps])
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _growth(session: Session, folder: Path, base: str, huge: int, small: int) -> None:
    """Measure a small payload into a huge table and into a small one, in turns in one process."""
    say(f"payload of {huge} rows")
    files = folder / "files"
    payloads.initial(files / "huge.csv", huge)
    payloads.initial(files / "small.csv", small)
    steps = [WARM, "huge=plain/huge.csv:huge", "small=plain/small.csv:small"]
    for number in range(session.rounds):
        for into, beyond in (("huge", huge), ("small", small)):
            # Each follows the last, so that every turn finds half of its rows changed and half of them new.
            name = f"{into}_{number}.csv"
            payloads.later(files / name, small, beyond + number * (small // 2))
            steps.append(f"{into}.{number}=plain/{name}:{into}")
    works = ["growth.huge", "growth.small"]

    try:
        found = own(folder, base, steps)()
    except BenchError as error:
        session.fail(works, OWN, str(error))
        return
    for number in range(session.rounds):
        for into in ("huge", "small"):
            session.add(f"growth.{into}", OWN, found[f"{into}.{number}"])
