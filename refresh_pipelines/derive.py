"""What a derived source has in place of an upstream: the result of its query, delivered like a payload."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.disagree import disagreements
from refresh_pipelines.reconcile import query_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part
from refresh_pipelines.warehouse import Warehouse

_RESULT = "result.arrow"


def derive(spec: SourceSpec, tables: Collection[str], warehouse: Warehouse, folder: Path) -> tuple[Delivery, float]:
    """Run the source's query over the raw tables named; return its result, and the seconds waited for the warehouse.

    The result is a file of text that goes the same way as any payload: contract, stage, commit.

    Raises:
        ContractViolation: the query cannot be run, or reads other tables.
        WarehouseBusy: somebody held the warehouse for too long.
    """
    path = folder / _RESULT
    wait = warehouse.select(query_of(spec), tables, path)
    delivery = Delivery(
        parts=(Part(path),),
        url="",
        sha256=_digest(path),
        bytes=path.stat().st_size,
        validators=None,
        last_modified=None,
        remarks=disagreements(spec, path),
    )
    return delivery, wait


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
