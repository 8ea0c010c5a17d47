"""More of `internals`: the place in the log of the newest materialization of many assets, in one question.

Dagster's record of an asset holds that event whole, with all its metadata: a second of CPU for a thousand, nearly
all of it for objects that nobody looks at. The place is one field of what it keeps, and the database can find it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.schema import AssetKeyTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

# SQLite takes a limited number of values in one statement.
_AT_ONCE = 500


def newest_materializations(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, int | None]:
    """Return the storage id of the newest materialization of each asset of which anything was logged, None without one.

    It is `last_materialization_storage_id` of the assets' records, which are read for those of which somebody has
    wiped the history, or that Dagster has written in another way.
    """
    storage, wanted = instance.event_log_storage, list(dict.fromkeys(keys))
    if not isinstance(storage, SqlEventLogStorage):
        return _recorded(instance, wanted)
    found: dict[dg.AssetKey, int | None] = {}
    unsure: list[dg.AssetKey] = []
    for first in range(0, len(wanted), _AT_ONCE):
        some = {key.to_string(): key for key in wanted[first : first + _AT_ONCE]}
        with storage.index_connection() as connection:
            rows = connection.execute(_places(connection.dialect.name, list(some))).all()
        for name, details, place in rows:
            if details is None and place is not None:
                found[some[name]] = int(place)
            else:
                unsure.append(some[name])
    return {**found, **_recorded(instance, unsure)}


def _places(dialect: str, names: Sequence[str]) -> sqlalchemy.Select[str, str | None, str | None]:
    about = AssetKeyTable.c
    # PostgreSQL has a type for JSON, SQLite reads it from text.
    read = sqlalchemy.cast if dialect == "postgresql" else sqlalchemy.type_coerce
    place = read(about.last_materialization, sqlalchemy.JSON)["storage_id"].as_string()
    return sqlalchemy.select(about.asset_key, about.asset_details, place).where(about.asset_key.in_(names))


def _recorded(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, int | None]:
    records = instance.get_asset_records(keys) if keys else ()
    return {one.asset_entry.asset_key: one.asset_entry.last_materialization_storage_id for one in records}
