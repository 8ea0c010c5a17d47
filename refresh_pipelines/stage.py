"""Accepted rows on disk, outside any lock: checked, counted, unique by merge key, and hashed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.contract import Contract, staged_schema
from refresh_pipelines.errors import ContractViolation, RefreshError
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import Window


@dataclass(frozen=True)
class Part:
    """One payload of a refresh, or one page of it.

    Attributes:
        names: values that only its request had, for instance {"series_id": "DGS10"}.
    """

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Put the values only one request had before what a RefreshError says, once, so that it tells which went wrong."""
    try:
        yield
    except RefreshError as error:
        label = "".join(f"{name}={value}: " for name, value in names.items())
        if not error.problem.startswith(label):
            error.problem = label + error.problem
        raise


@dataclass(frozen=True)
class Staged:
    """Rows waiting to be merged.

    Attributes:
        path: Arrow IPC file with the declared columns, unique by merge key.
        rows: rows in the file.
        fetched: rows of the payload after the declared filter, `rows` + `duplicates`.
        content_hash: hash of the rows whatever their order, without volatile columns.
    """

    path: Path
    rows: int
    fetched: int
    filtered: int
    duplicates: int
    content_hash: str

    def table(self) -> pa.Table:
        """Return the rows, mapped from disk."""
        with pa.memory_map(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()


def stage(spec: SourceSpec, payloads: Iterable[Path | Part], window: Window, path: Path, notes: Notes) -> Staged:
    """Parse, check and write one refresh's payloads to `path`.

    Raises:
        RefreshError: whatever `parse` and `Contract` raise; ContractViolation when rows with one
            merge key differ (or are repeated at all under `duplicates: refuse`).
    """
    contract = accept(spec, payloads, window, path, notes)
    with calculator(path.with_suffix(".spill")) as connection:
        unique = measure(connection, spec, contract.key, path)
    return Staged(path, unique.rows, contract.tally.fetched, contract.tally.filtered, unique.duplicates, unique.hash)


def accept(spec: SourceSpec, payloads: Iterable[Path | Part], window: Window, path: Path, notes: Notes) -> Contract:
    """Parse, check and write rows that need not be unique yet; return the contract. Raises as `stage`."""
    parts = [payload if isinstance(payload, Part) else Part(payload) for payload in payloads]
    contract = Contract(spec, window, notes, frozenset.intersection(*(frozenset(part.names) for part in parts)))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, staged_schema(spec)) as writer:
        for part in parts:
            here = replace(window, names={**window.names, **part.names})
            with naming(part.names):
                for batch in contract.take(parse(spec, part.path, here, notes), part.names):
                    writer.write_batch(batch)
    contract.conclude()
    return contract


def require_rows(spec: SourceSpec, staged: Staged) -> None:
    """Raise ContractViolation when a payload has fewer rows than `expect.min_rows`, or lacks `expect.present`."""
    require_number(spec, staged.fetched, staged.filtered)
    _require_values(spec, staged)


def require_number(spec: SourceSpec, fetched: int, filtered: int) -> None:
    """Raise ContractViolation when a payload has fewer rows than `expect.min_rows`."""
    least = spec.expect.min_rows
    if fetched >= least:
        return
    few = ContractViolation(
        "the payload holds too few rows",
        expected=f"at least {least} (expect.min_rows)",
        came=f"{fetched}" + (f", and {filtered} that count as no rows" if filtered else ""),
        todo="Nothing was loaded. Look at the payload; set expect.min_rows: 0 if an empty answer is in order.",
    )
    few.fetched = fetched
    raise few


def _require_values(spec: SourceSpec, staged: Staged) -> None:
    for name, values in spec.expect.present.items() if staged.rows else ():
        found = pc.unique(staged.table()[name]).cast(pa.string())
        absent = [value for value in values if not pc.is_in(pa.scalar(value), value_set=found).as_py()]
        if absent:
            ends = pc.min_max(found).as_py()
            lacking = ContractViolation(
                "the payload is not whole",
                expected=f"{name} to be also {', '.join(absent)} (expect.present)",
                came=f"{len(found)} different values from {ends['min']} to {ends['max']}",
                todo="Nothing was loaded. The export may have stopped half-way: look at the payload, and correct "
                "expect.present if these are gone for good.",
            )
            lacking.fetched = staged.fetched
            raise lacking
