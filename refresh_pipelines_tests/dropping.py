"""What the tests of dropped files work with: a folder, files as old as a test wants, and a clock of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

from refresh_pipelines.drop.look import look_at
from refresh_pipelines.drop.sightings import Sightings
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.workbench import Bench, rows_of, spec_of

DAY, NEXT_DAY = "2026-11-22", "2026-11-23"
QUIET = timedelta(seconds=60)
LEDGER = 'SELECT key, status, rows_in, rows_loaded, rows_rejected, "partition" FROM refresh.file_ledger ORDER BY ALL'


def drop_spec(source="mini", drop=None, **changes):
    """A CSV source of three columns and key `k` that reads the folder `drops`."""
    values = {
        "request": {"drop": {"url": "drops", **(drop or {})}},
        "format": "csv",
        "schedule": {"frequency": "on_event"},
        "partitions": {"dynamic": "day"},
        "expect": {"min_rows": 1},
    }
    return spec_of(source, **{**values, **changes})


def csv(*rows):
    return "k,n,t\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


class Dropping(Bench):
    """A bench whose source is a folder."""

    def __init__(self, folder, **environ):
        super().__init__(folder, "")
        settings = Settings.load({"REFRESH_CATALOG": "catalog", **environ}, root=folder)
        self.settings = replace(settings, lock_timeout=timedelta(seconds=10))
        self.drops = folder / "drops"
        self.drops.mkdir(exist_ok=True)
        self.moved = None

    def put(self, name, content, age=3600):
        """Write a file that nobody has touched for `age` seconds."""
        path = self.drops / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        at = self.now.timestamp() - age
        os.utime(path, (at, at))
        return path

    def later(self, **span):
        self.now += timedelta(**span)

    def look(self, spec):
        return look_at(spec, self.settings, self.now)

    def pending(self, spec):
        return [file.key for file in self.look(spec).pending(spec.spec_hash)]

    def ledger(self):
        return rows_of(self.warehouse, LEDGER)

    def statuses(self):
        return {row[0]: row[1] for row in self.ledger()}

    def table(self, source="mini", columns="k, n, t, _partition"):
        return rows_of(self.warehouse, f"SELECT {columns} FROM raw.{source} ORDER BY ALL")

    def lose_sightings(self):
        for path in self.settings.data_dir.glob("ops.sqlite*"):
            path.unlink()

    def sightings(self, source="mini"):
        return Sightings(self.settings.data_dir, source).read()
