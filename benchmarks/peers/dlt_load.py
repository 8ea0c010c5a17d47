"""dlt on its fastest path, into DuckDB or PostgreSQL: Arrow tables of pyarrow, merged with the strategy `upsert`."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import dlt
import pyarrow as pa
import pyarrow.csv as pacsv
from timing import run_steps


def load(url: str, into: str, state: Path, database: str) -> None:
    """Download, read as Arrow, and let dlt normalise, load and merge."""
    body = state / "body.csv"
    with urllib.request.urlopen(url) as answer, body.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)

    @dlt.resource(name="stations", primary_key="id", write_disposition={"disposition": "merge", "strategy": "upsert"})
    def rows() -> object:
        types = pacsv.ConvertOptions(column_types={"day": pa.date32(), "seen": pa.timestamp("us")})
        with pacsv.open_csv(body, read_options=pacsv.ReadOptions(block_size=1 << 24), convert_options=types) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    target = dlt.destinations.postgres(database) if database else dlt.destinations.duckdb(str(state / f"{into}.duckdb"))
    pipeline = dlt.pipeline(
        pipeline_name=f"bench_{into}", pipelines_dir=str(state / "dlt"), destination=target, dataset_name="bench"
    )
    pipeline.run(rows())


run_steps(load)
