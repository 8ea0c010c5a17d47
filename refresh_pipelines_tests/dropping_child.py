"""A process of its own for tests: takes the files of one day from a folder, and dies on the way.

python -m refresh_pipelines_tests.dropping_child ROOT CATALOG SOURCE DAY NOW STAGE
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.refresh import Tools, refresh
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.refreshing_child import suffer


def main() -> None:
    root, catalog, source, day, now, stage = sys.argv[1:]
    settings = Settings.load({"REFRESH_CATALOG": catalog, "REFRESH_UPSTREAM": "live"}, root=Path(root))
    spec = load_catalogue(settings.catalog, settings.environ).find(source)
    tools = Tools(settings, open_warehouse(settings), Fetcher(settings), clock=lambda: datetime.fromisoformat(now))
    refresh(spec, window_of(spec, day), replace(tools, progress=lambda at: suffer(stage, at)), run_id="child-run")


if __name__ == "__main__":
    main()
