"""What was promised of speed, row by row, and whether a session's numbers keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.harness import OWN, Series, ratio

Works = Mapping[str, Mapping[str, Series]]
MET, MISSED, FAILED, ABSENT = "met", "missed", "failed", "not measured"
# Who stands where in more than one module.
PLAIN_DUCKDB, PLAIN_POSTGRES, HASHING, DLT = "plain DuckDB", "COPY and merge", "hashing", "dlt"
INGESTR, SLING, IMPORT = "ingestr", "sling", "import dagster"
DEFAULT, IN_PROCESS = "default launcher and executor", "default launcher, in-process executor"


@dataclass(frozen=True)
class Verdict:
    """What came of one check: a state, what was measured, and where it is missed by how much."""

    state: str
    measured: str


@dataclass(frozen=True)
class Check:
    """One demand on medians.

    Attributes:
        about: what is demanded, for people.
        work: what is measured; `who` does it.
        bound: `at_most` or `at_least`.
        limit: of the median itself, or of the ratio when there is something to compare with.
        over: the work and the contestant the median is divided by; None: the number itself.
        inverse: divide the other way round, "so many times faster".
    """

    about: str
    work: str
    bound: str
    limit: float
    over: tuple[str, str] | None = None
    who: str = OWN
    inverse: bool = False

    def judge(self, works: Works) -> Verdict:
        """Return whether the numbers keep it."""
        for work, who in ((self.work, self.who), *((self.over,) if self.over else ())):
            series = works.get(work, {}).get(who)
            if series and series.failure:
                return Verdict(FAILED, f"{who}: {series.failure}")
            if series is None or not series.samples:
                return Verdict(ABSENT, f"nothing of {who} at {work}")
        own = works[self.work][self.who]
        if self.over:
            other = works[self.over[0]][self.over[1]]
            found, unit = (ratio(other, own) if self.inverse else ratio(own, other)), "×"
        else:
            found, unit = own.middle(), own.unit
        if found is None:
            return Verdict(FAILED, "a median is zero")
        met = found <= self.limit if self.bound == "at_most" else found >= self.limit
        shown = shown_value(found, unit)
        if met:
            return Verdict(MET, shown)
        by = found / self.limit if self.bound == "at_most" else self.limit / found if found else float("inf")
        return Verdict(MISSED, f"{shown}, {(by - 1) * 100:.0f} % off")


@dataclass(frozen=True)
class Target:
    """A row of the promise.

    Attributes:
        only: the name by which `ONLY=` chooses the module that measures it.
    """

    row: str
    only: str
    checks: tuple[Check, ...]


def shown_value(value: float, unit: str) -> str:
    """Return a number with its unit and three digits that mean something."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def _times(work: str, factor: float, who: str, other: str | None = None) -> Check:
    return Check(f"≤ {factor:g} × {who}", work, "at_most", factor, (other or work, who))


def _faster(work: str, factor: float, who: str, other: str | None = None) -> Check:
    about = f"≥ {factor:g} × faster than {who}" if factor != 1 else f"faster than {who}"
    return Check(about, work, "at_least", factor, (other or work, who), inverse=True)


def _under(work: str, limit: float, unit: str, who: str = OWN) -> Check:
    return Check(f"≤ {shown_value(limit, unit)}", work, "at_most", limit, who=who)


def _more(work: str, factor: float, who: str) -> Check:
    return Check(f"≥ {factor:g} × {who}", work, "at_least", factor, (work, who))


TARGETS = (
    Target(
        "1M rows CSV, initial, warm process, DuckDB",
        "load",
        (_times("duckdb.initial", 1.5, PLAIN_DUCKDB), _faster("duckdb.initial", 2.5, DLT)),
    ),
    Target(
        "1M rows CSV, 1 % changed and 1 % new, warm process, DuckDB",
        "load",
        (_times("duckdb.delta", 1.5, PLAIN_DUCKDB), _faster("duckdb.delta", 2.5, DLT)),
    ),
    Target(
        "identical again, no validator",
        "load",
        (_times("duckdb.identical", 1.5, HASHING), _faster("duckdb.identical", 10, DLT)),
    ),
    Target("identical again, 304", "load", (_under("duckdb.not_modified", 0.020, "s"),)),
    *(
        Target(
            f"1M rows CSV, {what}, PostgreSQL",
            "load_postgres",
            (
                _times(f"postgres.{step}", 1.5, PLAIN_POSTGRES),
                _faster(f"postgres.{step}", 2, DLT),
                _faster(f"postgres.{step}", 1, SLING),
            ),
        )
        for step, what in (("initial", "initial"), ("delta", "1 % changed and 1 % new"))
    ),
    Target(
        "10k rows into a 10M-row table",
        "load",
        (Check("≤ 3 × into 10k rows", "growth.huge", "at_most", 3, ("growth.small", OWN)),),
    ),
    Target(
        "one scheduled run of 10,000 rows in the warm launcher, STARTING to end",
        "launched",
        (
            _under("launched.run", 0.6, "s"),
            _faster("launched.run", 1, INGESTR, "cold.run"),
            _faster("launched.run", 1, SLING, "cold.run"),
        ),
    ),
    Target("`refresh run SOURCE` cold, 10k rows", "cold", (_times("cold.run", 2.5, IMPORT),)),
    Target(
        "no-op runs drained per minute, 60 sources",
        "drain",
        (_more("drain.per_minute", 10, DEFAULT), _more("drain.per_minute", 6, IN_PROCESS)),
    ),
    Target(
        "1,000 due in one minute, requested",
        "due",
        (
            Check("≤ 60 s on PostgreSQL", "due.requested", "at_most", 60, who="PostgreSQL"),
            Check("≤ 60 s as a herd", "due.requested", "at_most", 60, who="herd"),
        ),
    ),
    Target(
        "1,000 due in one minute, drained and nothing lost",
        "due",
        tuple(
            check
            for who in ("herd", "PostgreSQL", "SQLite")
            for check in (
                Check(f"≤ 360 s, {who}", "due.drained", "at_most", 360, who=who),
                Check(f"none lost, {who}", "due.lost", "at_most", 0, who=who),
            )
        ),
    ),
    Target(
        "soak of forked runs, killed, terminated, reloaded",
        "soak",
        (
            Check("10,000 runs", "soak.runs", "at_least", 10_000),
            Check("none lost", "soak.lost", "at_most", 0),
            Check("memory ≤ 1.1 × that at first", "soak.growth", "at_most", 1.1),
        ),
    ),
    Target(
        "1,000 sources idle, all processes",
        "idle",
        (_under("idle.cpu", 5, "% of a core"), _under("idle.pss", 800, "MB")),
    ),
    Target(
        "1,000 sources and 1,000,000 events: `refresh status`; the API",
        "reads",
        (_under("reads.status", 2, "s"), _under("reads.api", 0.2, "s")),
    ),
    Target(
        "payload 100 MB → 1 GB",
        "memory",
        (
            Check("peak memory ≤ 1.3 ×", "memory.1gb", "at_most", 1.3, ("memory.100mb", OWN)),
            _under("memory.1gb", 600, "MB"),
        ),
    ),
)
