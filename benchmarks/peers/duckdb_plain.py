"""DuckDB by itself: the payload to a file, read_csv into staging, one MERGE. The limit of what a load could cost."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import duckdb
from timing import run_steps

COLUMNS = {
    "id": "BIGINT", "code": "VARCHAR", "name": "VARCHAR", "day": "DATE", "seen": "TIMESTAMP", "qty": "BIGINT",
    "price": "DOUBLE", "status": "VARCHAR",
}  # fmt: skip


def load(url: str, into: str, state: Path, _: str) -> None:
    """Download, stage and merge in one transaction; only rows that differ are updated."""
    body = state / "body.csv"
    with urllib.request.urlopen(url) as answer, body.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)
    values = [name for name in COLUMNS if name != "id"]
    with duckdb.connect(str(state / f"{into}.duckdb")) as connection:
        connection.execute("SET timezone = 'UTC'")
        declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE IF NOT EXISTS stations ({declared}, added_at TIMESTAMPTZ, run_id VARCHAR)")
        read = f"read_csv('{body}', header=true, auto_detect=false, columns={COLUMNS})"
        connection.execute(f"CREATE TEMP TABLE staging AS SELECT * FROM {read}")
        differs = " OR ".join(f"t.{name} IS DISTINCT FROM s.{name}" for name in values)
        connection.execute(
            "MERGE INTO stations t USING staging s ON t.id = s.id "
            f"WHEN MATCHED AND ({differs}) THEN UPDATE SET {', '.join(f'{name} = s.{name}' for name in values)} "
            f"WHEN NOT MATCHED THEN INSERT VALUES ({', '.join(f's.{name}' for name in COLUMNS)}, now(), 'run')"
        )
        connection.execute("COMMIT")


run_steps(load)
