"""Accepted rows on disk, outside any lock: checked, counted, unique by merge key, and hashed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.contract import Contract, require_share
from refresh_pipelines.errors import ContractViolation, RefreshError
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.rejects import Rejects, each_reject, with_rejects
from refresh_pipelines.rowfile import RowFile
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
        path: Arrow IPC file with the declared columns and those of `evolved`, unique by merge key.
        rows: rows in the file.
        fetched: rows of the payload after the declared filter, `rows` + `duplicates` + `rejected`.
        content_hash: hash of the rows whatever their order, without volatile columns; of rejected ones as well.
        rejected: rows that broke the contract and may, by `load.reject_share`.
        rejects: the file they lie in, see `rejects.rejects_schema`; None where there are none.
        unreadable: how many of them have no merge key that can be read, so that nobody knows which rows they are.
        evolved: the field that each column is read from which `load.drift: evolve` has made, by its name.
    """

    path: Path
    rows: int
    fetched: int
    filtered: int
    duplicates: int
    content_hash: str
    rejected: int = 0
    rejects: Path | None = None
    unreadable: int = 0
    evolved: Mapping[str, str] = field(default_factory=dict)

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
    contract, rejects = accept(spec, payloads, window, path, notes)
    # What reading has needed goes back to the system before anything else asks for as much.
    pa.default_memory_pool().release_unused()
    with calculator(path.with_suffix(".spill")) as connection:
        unique = measure(connection, contract.spec, contract.key, path)
    return Staged(
        path,
        unique.rows,
        contract.tally.fetched,
        contract.tally.filtered,
        unique.duplicates,
        with_rejects(unique.hash, rejects.digest),
        rejected=rejects.rows,
        rejects=rejects.path if rejects.rows else None,
        unreadable=rejects.unreadable,
        evolved=contract.drift.fields,
    )


def rejects_path(rows: Path) -> Path:
    """Return where the rejected rows lie beside the accepted ones."""
    return rows.with_suffix(".rejects")


def accept(
    spec: SourceSpec, payloads: Iterable[Path | Part], window: Window, path: Path, notes: Notes
) -> tuple[Contract, Rejects]:
    """Parse, check and write rows that need not be unique yet; return the contract and what it rejected.

    The rejects are on disk also when this raises, as `stage` does.
    """
    parts = [payload if isinstance(payload, Part) else Part(payload) for payload in payloads]
    bound = frozenset.intersection(*(frozenset(part.names) for part in parts))
    with Rejects(rejects_path(path), spec) as rejects:
        contract = Contract(spec, window, notes, bound, rejects)
        with RowFile(path, contract.schema).writing() as rows:
            for part in parts:
                here = replace(window, names={**window.names, **part.names})
                with naming(part.names):
                    for batch in contract.take(parse(spec, part.path, here, notes), part.names):
                        rows.write(batch)
            rows.require(contract.schema)
    contract.conclude()
    return contract, rejects


def require_rows(spec: SourceSpec, staged: Staged) -> None:
    """Raise ContractViolation when a payload has too few rows, too many rejected ones, or lacks `expect.present`."""
    if staged.rejected:
        examples = [f"row {one.row}: {one.reason}" for one in each_reject(staged.rejects, 3)]
        require_share(spec, staged.fetched, staged.rejected, examples)
    require_number(spec, staged.fetched - staged.rejected, staged.filtered)
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
