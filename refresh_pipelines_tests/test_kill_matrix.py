"""A refresh killed at each of its stages, on both databases: table, counts, payloads and events are as without it."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import asdict
from datetime import timedelta

import pytest

from refresh_pipelines.archive.keep import entries
from refresh_pipelines.quarantine import Quarantine
from refresh_pipelines_tests.killing_child import SPEC
from refresh_pipelines_tests.stores import both, by_hand, opened
from refresh_pipelines_tests.upstream import Upstream, answer
from refresh_pipelines_tests.workbench import Bench, start

pytestmark = pytest.mark.e2e
FIRST = [f"k{number:03},{number},a" for number in range(60)]
REVISED = [*(f"k{number:03},{number},b" for number in range(5, 20)), *FIRST[20:], "new,1,a"]
HALF = FIRST[:20]


class Place(Bench):
    """A bench on either database, whose upstream serves lines."""

    def __init__(self, folder, upstream, kind, request):
        super().__init__(folder, upstream.base, lock_timeout=2)
        self.warehouse = opened(kind, request, self.file)
        self.database = self.warehouse.url if kind == "postgres" else "duckdb"
        self.upstream, self.told = upstream, []

    def load(self, lines):
        self.upstream.lines = lines
        outcome = self.refresh(SPEC)
        self.now += timedelta(hours=1)
        self.told.append((outcome.outcome, asdict(outcome.counts)))
        return outcome

    def seen(self):
        """Return everything but the times and names of runs that somebody finds afterwards."""
        states = self.warehouse.states("mini")[0]
        return (
            [row[:4] for row in by_hand(self.warehouse, "SELECT k, n, t, _source FROM raw.mini ORDER BY k")],
            by_hand(self.warehouse, "SELECT k, n, t, _op, _ended FROM history.mini ORDER BY k, n, t"),
            {key: (state.raw_sha256, state.content_hash, state.counts, state.rows) for key, state in states.items()},
            {entry.id for entry in entries(self.settings.data_dir, "mini")},
            [(one.state, one.payload, one.seen) for one in Quarantine(self.settings.data_dir).of("mini")],
        )

    def changes(self):
        """Count the rows that all events together say were added, updated and deleted, each event once."""
        events = {state.run_id: asdict(state.counts) for state in self.recovered}
        own = Counter()
        for run_id, counts in events.items():
            if run_id == "killed-run":
                own.update(counts)
        for outcome, counts in self.told:
            if outcome == "loaded":
                own.update(counts)
        return {name: own[name] for name in ("added", "updated", "deleted")}


@pytest.fixture(scope="module")
def reaper():
    child = start("killing_child")
    assert child.stdout.readline() == "ready\n"
    yield child
    child.stdin.close()
    child.stdout.close()
    assert child.wait(30) == 0


@pytest.fixture
def upstream():
    def serve(handler):
        handler.wfile.write(answer("\n".join(["k,n,t", *upstream.lines, ""]).encode()))

    with Upstream(serve) as upstream:
        upstream.lines = []
        yield upstream


def killed(reaper, place, lines, stage):
    place.upstream.lines = lines
    reaper.stdin.write(f"{place.folder} {place.upstream.base} {place.database} {stage}\n")
    reaper.stdin.flush()
    return int(reaper.stdout.readline())


@both
@pytest.mark.parametrize("stage", ["fetched", "archived", "staged", "merged", "committed"])
@pytest.mark.parametrize("before", [[], FIRST], ids=["first load", "revision"])
def test_killed_at_a_stage_the_next_refresh_leaves_all_as_if_nothing_had_been(
    kind, stage, before, request, tmp_path, upstream, reaper
):
    left, twin = (Place(tmp_path / name, upstream, kind, request) for name in ("left", "twin"))
    if kind == "postgres":
        twin.warehouse = opened("duckdb", request, twin.file)
    for place in (left, twin):
        if before:
            place.load(before)
    rows = left.warehouse.states("mini")
    assert killed(reaper, left, REVISED, stage) == signal.SIGKILL
    if stage != "committed":
        assert left.warehouse.states("mini")[0] == rows[0]
    for place in (left, twin):
        place.load(REVISED)
    assert left.told[-1][0] == ("unchanged" if stage == "committed" else "loaded")
    assert left.seen() == twin.seen()
    assert left.changes() == twin.changes()


@both
@pytest.mark.parametrize("stage", ["archived", "staged", "held"])
def test_killed_while_a_surprise_is_put_aside_it_waits_once_and_its_bytes_are_kept(
    kind, stage, request, tmp_path, upstream, reaper
):
    place = Place(tmp_path / "left", upstream, kind, request)
    place.load(FIRST)
    table = place.seen()[:3]
    assert killed(reaper, place, HALF, stage) == signal.SIGKILL
    outcome = place.load(HALF)
    [record] = Quarantine(place.settings.data_dir).of("mini")
    assert (outcome.outcome, record.state) == ("quarantined", "waiting")
    assert record.payload in {entry.id for entry in entries(place.settings.data_dir, "mini")}
    assert place.seen()[:3] == table
