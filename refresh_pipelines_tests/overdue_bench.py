"""One source below the sensor `overdue`, at times that a test names."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
from dagster._core.test_utils import freeze_time

from refresh_pipelines.orchestration.internals import newest_checks
from refresh_pipelines_tests.catalogues import MINI

X = dg.AssetKey(["benin", "x"])
DAILY = MINI.replace("{frequency: daily}", '{frequency: daily, time: "06:00"}')
DAYS = DAILY + "partitions: {time: day, start: 2026-01-01, column: day}\nfreshness: {checked: 36h, changed: 30d}\n"
WHOLE = DAILY + "freshness: {checked: 36h}\n"


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


class Watch:
    """The sensor over `benin/x` and what else the bench's catalogue holds; the two built-in ones are taken out."""

    def __init__(self, bench, text=DAYS):
        self.bench = bench
        for path in (bench.folder / "catalog").rglob("*.yaml"):
            path.unlink()
        bench.add("benin/x", text)
        self.repository = None

    def restart(self):
        """Forget what the process has remembered, and read the catalogue anew."""
        self.repository = None

    def tick(self, now):
        """Let the sensor look at an instant; return what it says."""
        self.bench.now = at(now)
        self.repository = self.repository or self.bench.definitions().get_repository_def()
        with freeze_time(self.bench.now):
            context = dg.build_sensor_context(self.bench.instance, repository_def=self.repository)
            data = self.repository.get_sensor_def("overdue").evaluate_tick(context)
        assert data.run_requests == []
        return data.skip_message

    def loaded(self, when, *keys, changed_at=None, asset=X):
        """Have a good refresh of each of the partitions be logged at an instant; None without partitions."""
        with freeze_time(at(when)):
            for key in keys or (None,):
                metadata = {"refresh/outcome": "loaded", "refresh/changed_at": at(changed_at or when).isoformat()}
                self.bench.instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset, partition=key, metadata=metadata)
                )

    def checks(self, asset=X):
        """Return the evaluations of the check, oldest first, as (passed, text)."""
        history = self.bench.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(asset, "fresh"), limit=100
        )
        events = [record.event.dagster_event for record in reversed(history) if record.event]
        data = [event.asset_check_evaluation_data for event in events if event.event_type_value.endswith("EVALUATION")]
        return [(one.passed, one.description) for one in data]

    def newest(self):
        return newest_checks(self.bench.instance, [X], "fresh", "refresh/verdict")
