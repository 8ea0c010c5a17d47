"""Where accepted rows live: staging in, exact counts out, load state in the same transaction."""

from __future__ import annotations

from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse.base import Commit, Holding, LoadState, Merged, Remains, Warehouse
from refresh_pipelines.warehouse.duckdb import DuckDBWarehouse

__all__ = ["Commit", "DuckDBWarehouse", "Holding", "LoadState", "Merged", "Remains", "Warehouse", "open_warehouse"]


def open_warehouse(settings: Settings) -> Warehouse:
    """Return the warehouse the settings name. Nothing is opened or created yet."""
    return DuckDBWarehouse(settings.warehouse_file, settings.lock_timeout.total_seconds())
