"""Where accepted rows live: staging in, exact counts out, load state in the same transaction."""

from __future__ import annotations

from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse.base import AsOf, Commit, Holding, LoadState, Merged, Remains, Warehouse
from refresh_pipelines.warehouse.duckdb import DuckDBWarehouse
from refresh_pipelines.warehouse.store import SqlWarehouse

__all__ = [
    "AsOf",
    "Commit",
    "DuckDBWarehouse",
    "Holding",
    "LoadState",
    "Merged",
    "Remains",
    "Warehouse",
    "open_warehouse",
]


def open_warehouse(settings: Settings) -> SqlWarehouse:
    """Return the warehouse the settings name. Nothing is opened or created yet.

    Raises:
        InternalError: REFRESH_WAREHOUSE names PostgreSQL in a way nobody can read.
    """
    patience = settings.lock_timeout.total_seconds()
    if settings.warehouse.startswith("duckdb://"):
        return DuckDBWarehouse(settings.warehouse_file, patience)
    # Loaded only where it is used: a warehouse in a file needs no driver.
    from refresh_pipelines.warehouse.postgres import PostgresWarehouse  # noqa: PLC0415

    return PostgresWarehouse(settings.warehouse, patience)
