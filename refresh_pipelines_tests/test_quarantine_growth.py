"""No false alarm: recorded series that grow, are revised and move on as their upstreams let them, beside the warehouse.

The payloads are real and cut at many places. Where they were not recorded, each test has nothing to read and passes.
"""

from __future__ import annotations

import json
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refresh_pipelines.parse import Notes
from refresh_pipelines.plausible import Implausible
from refresh_pipelines.stage import Part, Staged, stage
from refresh_pipelines.warehouse import Commit
from refresh_pipelines.weigh import time_column, weigh
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.attached import AttachedWarehouse
from refresh_pipelines_tests.recorded import READ, WORLD_BANK, recorded
from refresh_pipelines_tests.workbench import NOW, builtin, state_of

STEPS = 6


class Growing:
    """One partition of a built-in source, loaded again and again."""

    def __init__(self, source, folder, partition, names):
        self.spec, self.folder, self.partition, self.names = builtin(source), folder, partition, names
        self.warehouse, self.step = AttachedWarehouse(folder / "warehouse.duckdb", 5), 0

    def rows(self, path):
        """All rows of a payload, the oldest first."""
        window = window_of(self.spec, self.partition)
        staged = stage(self.spec, [Part(path, self.names)], window, self.folder / "all.arrow", Notes())
        return staged.table().sort_by([(time_column(self.spec), "ascending")])

    def load(self, rows):
        """Load rows as a refresh does, an hour after the last ones."""
        self.step += 1
        path, key = self.folder / f"{self.step}.arrow", self.partition or ""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        staged = Staged(path, rows.num_rows, rows.num_rows, 0, 0, str(self.step))
        now = NOW + timedelta(hours=self.step)
        known = {name: state.profiles for name, state in self.warehouse.states(self.spec.source)[0].items()}
        weight = weigh(self.spec, window_of(self.spec, self.partition), staged, known, now, size=40 * rows.num_rows)
        state = state_of(self.spec, self.partition, f"run-{self.step}", now, content_hash=str(self.step))
        return self.warehouse.commit(Commit(self.spec, key or None, staged, state, weight=weight))

    def revised(self, rows, every):
        """Give each nth row another value."""
        name = next(n for n, c in self.spec.columns.items() if c.type == "double" and n not in self.spec.merge_key)
        changed = [
            value if number % every or value is None else value + 0.25
            for number, value in enumerate(rows[name].to_pylist())
        ]
        return rows.set_column(rows.schema.get_field_index(name), name, pa.array(changed, pa.float64()))


def fred():
    """Each recorded series that a source declares."""
    for source in ("fred_conditions", "fred_fx", "fred_rates"):
        declared = builtin(source).partitions.static["series_id"]
        for path in recorded(READ[source]):
            series = path.stem.split("-")[1]
            if series in declared:
                yield source, path, series, {}


def world_bank():
    for source in WORLD_BANK:
        for path in recorded(READ[source]):
            indicator = json.loads(path.read_text())[1][0]["indicator"]["id"]
            if indicator in builtin(source).partitions.static.get("indicator", ()):
                yield source, path, indicator, {}


SERIES = [*fred(), *world_bank()]


@pytest.mark.parametrize("case", SERIES or [None], ids=lambda case: case[2] if case else "nothing recorded")
def test_the_usual_growth_of_a_recorded_source_is_no_surprise(tmp_path, case):
    if case is None:
        return
    source, path, partition, names = case
    place = Growing(source, tmp_path, partition, names)
    rows = place.rows(path)
    for step in range(STEPS):
        part = rows.slice(0, rows.num_rows * (60 + 6 * step) // 100)
        place.load(place.revised(part, every=10) if step % 3 == 2 else part)
    with pytest.raises(Implausible):
        place.load(rows.slice(0, rows.num_rows // 3))
    assert rows.num_rows < 60 or place.step == STEPS + 1


def test_a_buoy_whose_window_moves_on_is_no_surprise(tmp_path):
    for path in recorded(READ["ndbc_stdmet"])[:3]:
        folder = tmp_path / path.stem
        folder.mkdir()
        place = Growing("ndbc_stdmet", folder, path.stem.split("-")[1].lower(), {})
        if place.partition not in place.spec.partitions.static["station"]:
            continue
        rows = place.rows(path)
        size = rows.num_rows * 6 // 10
        for step in range(STEPS):
            place.load(rows.slice(rows.num_rows * 6 * step // 100, size))
        time = time_column(place.spec)
        assert pc.max(rows[time]).as_py() is not None
