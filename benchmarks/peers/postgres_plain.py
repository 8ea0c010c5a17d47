"""PostgreSQL by itself: COPY the payload into unlogged staging, one MERGE. The limit of what a load could cost."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import psycopg
from timing import run_steps

COLUMNS = {
    "id": "bigint", "code": "text", "name": "text", "day": "date", "seen": "timestamp", "qty": "bigint",
    "price": "double precision", "status": "text",
}  # fmt: skip


def load(url: str, _into: str, _state: Path, database: str) -> None:
    """Stage and merge in one transaction, straight from the socket; only rows that differ are updated."""
    values = [name for name in COLUMNS if name != "id"]
    declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    differs = " OR ".join(f"t.{name} IS DISTINCT FROM s.{name}" for name in values)
    with psycopg.connect(database) as connection, urllib.request.urlopen(url) as answer:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS stations ({declared}, added_at timestamptz, run_id text, PRIMARY KEY (id))"
        )
        connection.execute(f"CREATE UNLOGGED TABLE staging ({declared})")
        with connection.cursor().copy("COPY staging FROM STDIN (FORMAT csv, HEADER true)") as copy:
            while chunk := answer.read(1 << 20):
                copy.write(chunk)
        connection.execute("ANALYZE staging")
        connection.execute(
            f"MERGE INTO stations t USING staging s ON t.id = s.id "
            f"WHEN MATCHED AND ({differs}) THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in values)} "
            f"WHEN NOT MATCHED THEN INSERT VALUES ({', '.join(f's.{name}' for name in COLUMNS)}, now(), 'run')"
        )
        connection.execute("DROP TABLE staging")


run_steps(load)
