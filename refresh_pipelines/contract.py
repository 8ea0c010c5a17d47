"""Cast text to the declared columns and say exactly which rows will not do.

Works on whole columns; single values are looked at only where a column holds a bad one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timezone

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.cast import arrow_type, cast_text
from refresh_pipelines.errors import ContractViolation, WrongPeriod
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.spec import Column, SourceSpec
from refresh_pipelines.window import Window, fill

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_EXAMPLES = 3


@dataclass
class Tally:
    """What became of the rows so far.

    Attributes:
        fetched: rows after the declared filter.
        filtered: rows the filter dropped, with those of other periods under `outside: drop` and rows
            of nothing but empty fields.
        rejected: rows with at least one bad value.
        reasons: example texts for rejected rows, a few.
        outside: rows of other periods, with their earliest and latest value.
    """

    fetched: int = 0
    filtered: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    outside: int = 0
    earliest: object = None
    latest: object = None


class Contract:
    """One pass over the batches of a refresh under one spec and window.

    `bound` names what each payload brings values for, beside the window.
    """

    def __init__(self, spec: SourceSpec, window: Window, notes: Notes, bound: Collection[str] = ()) -> None:
        self.spec, self.window, self.notes = spec, window, notes
        self.tally = Tally()
        self.schema = staged_schema(spec)
        self._rows_seen = 0
        self._names: list[str] = []
        # `refresh parse` may be asked without a partition; its column then stays empty.
        self.unbound = {
            name
            for name, column in spec.columns.items()
            if (p := placeholder(column)) and p not in window.fields and p not in bound
        }
        self._here, self._label = window, ""

    @property
    def key(self) -> list[str]:
        """The merge key as far as its columns can be filled."""
        return [name for name in self.spec.merge_key if name not in self.unbound]

    def apply(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield typed batches of good rows; at the end raise ContractViolation if the whole will not do."""
        yield from self.take(batches)
        self.conclude()

    def take(
        self, batches: Iterable[pa.RecordBatch], names: Mapping[str, str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield typed batches of one payload's good rows; `names` are values only this payload has."""
        self._here = replace(self.window, names={**self.window.names, **(names or {})})
        self._label = "".join(f"{name}={value} " for name, value in (names or {}).items())
        self._rows_seen = 0
        for batch in batches:
            self._require_fields(batch.schema.names)
            typed = self._rows(batch)
            self._rows_seen += batch.num_rows
            if typed.num_rows:
                yield typed

    def _require_fields(self, names: list[str]) -> None:
        if names == self._names:
            return
        self._names = names
        wanted = {
            source: name
            for name, column in self.spec.columns.items()
            if placeholder(column) is None
            for source in column.fields(name)
        }
        missing = [
            f"{name!r} (read from {source!r})"
            for source, name in wanted.items()
            if source not in names and not self.spec.columns[name].optional
        ]
        if missing:
            raise ContractViolation(
                f"column {', '.join(missing)} is missing from the payload",
                expected="fields " + ", ".join(wanted),
                came="fields " + ", ".join(names),
                todo=f"The layout may have changed: compare with samples/{self.spec.source}/ and adjust `columns`.",
            )
        dotted = {source.split(".")[0] for source in wanted}
        ignored = [name for name in names if name not in wanted and name not in dotted]
        self.notes.ignored = list(dict.fromkeys([*self.notes.ignored, *ignored]))

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, pa.Array] = {}
        bad = pa.repeat(pa.scalar(False), batch.num_rows)
        # Upstreams write an empty table as one row of commas. In JSON a null has been said.
        is_csv = self.spec.format is not None and self.spec.format.kind == "csv"
        blank = pa.repeat(pa.scalar(is_csv), batch.num_rows)
        suspects: list[tuple[str, Column, pa.Array, pa.Array]] = []
        for name, column in self.spec.columns.items():
            text = self._text(batch, name, column)
            values, wrong = cast_text(text, column)
            if placeholder(column) is None:
                blank = pc.and_(blank, pc.and_(pc.is_null(values), pc.invert(wrong)))
            wrong = pc.or_(wrong, self._null_in_required(name, column, values, wrong))
            if column.equals is not None:
                wrong = pc.or_(wrong, self._other_value(column.equals, text, name))
            if pc.any(wrong).as_py():
                suspects.append((name, column, text, wrong))
                bad = pc.or_(bad, wrong)
            columns[name] = values
        keep = pc.and_(self._kept(columns, bad), pc.invert(blank))
        bad = pc.and_(bad, keep)
        kept, wrong_rows = pc.sum(keep).as_py() or 0, pc.sum(bad).as_py() or 0
        self.tally.fetched += kept
        self.tally.filtered += batch.num_rows - kept
        self.tally.rejected += wrong_rows
        if wrong_rows:
            reasons = [
                r
                for name, column, text, wrong in suspects
                for r in self._examples(name, column, text, pc.and_(wrong, bad))
            ]
            room = _EXAMPLES - len(self.tally.reasons)
            self.tally.reasons += [text for _, text in sorted(reasons)][: max(room, 0)]
        good = pc.and_(keep, pc.invert(bad))
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=self.schema).filter(good)

    def _text(self, batch: pa.RecordBatch, name: str, column: Column) -> pa.Array:
        field_name = placeholder(column)
        if field_name is None:
            nothing = pa.nulls(batch.num_rows, pa.string())
            present = set(batch.schema.names)
            parts = [batch.column(source) if source in present else nothing for source in column.fields(name)]
            return parts[0] if len(parts) == 1 else _joined(parts)
        value = None if name in self.unbound else fill("{" + field_name + "}", self._here, f"column {name}")
        return pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)

    def _null_in_required(self, name: str, column: Column, values: pa.Array, wrong: pa.Array) -> pa.Array:
        required = (not column.nullable or name in self.spec.merge_key) and name not in self.unbound
        if not required or name in self.spec.load.skip_missing:
            return pa.repeat(pa.scalar(False), len(values))
        return pc.and_(pc.is_null(values), pc.invert(wrong))

    def _other_value(self, wanted: str, text: pa.Array, name: str) -> pa.Array:
        """Mark texts that are not the one that was asked for; none where nobody said which that is."""
        field_name = _PLACEHOLDER.fullmatch(wanted)
        if field_name and field_name[1] not in self._here.fields:
            return pa.repeat(pa.scalar(False), len(text))
        value = fill(wanted, self._here, f"column {name}")
        return pc.not_equal(pc.utf8_trim_whitespace(text), value).fill_null(True)

    def _examples(self, name: str, column: Column, text: pa.Array, wrong: pa.Array) -> list[tuple[int, str]]:
        rows = pc.indices_nonzero(wrong).to_pylist()[:_EXAMPLES]
        where, demand = " ".join(column.fields(name)), _demand(name, column, self.spec)
        if column.equals is not None:
            demand += f", equal to {fill(column.equals, self._here, name)}"
        return [
            (
                row,
                f"{self._label}row {self._rows_seen + row + 1}: {where}={text[row].as_py()!r} is no {demand}",
            )
            for row in rows
        ]

    def _kept(self, columns: dict[str, pa.Array], bad: pa.Array) -> pa.Array:
        """Rows that count: with a value where one is needed, and of the period asked for."""
        keep = pa.repeat(pa.scalar(True), len(bad))
        for name in self.spec.load.skip_missing:
            # A value that could not be read is a bad row, not a missing one.
            keep = pc.and_(keep, pc.or_(pc.is_valid(columns[name]), bad))
        partitions = self.spec.partitions
        if partitions and partitions.time and partitions.column and self.window.start:
            inside = self._inside(columns[partitions.column])
            outside = pc.and_(pc.invert(inside), keep)
            self._remember_outside(columns[partitions.column].filter(outside))
            keep = pc.and_(keep, inside)
        return keep

    def _inside(self, values: pa.Array) -> pa.Array:
        start, end = (self._bound(at, values.type) for at in (self.window.start, self.window.end))
        inside = pc.and_(pc.greater_equal(values, start), pc.less(values, end))
        return inside.fill_null(True)  # a null was refused already, or is allowed

    @staticmethod
    def _bound(at: object, kind: pa.DataType) -> pa.Scalar:
        moment = pa.scalar(at, pa.timestamp("us", tz=str(timezone.utc)))
        return pc.cast(moment, pa.timestamp("us")).cast(kind) if kind == pa.date32() else moment.cast(kind)

    def _remember_outside(self, values: pa.Array) -> None:
        if not len(values):
            return
        self.tally.outside += len(values)
        ends = pc.min_max(values).as_py()
        low, high = self.tally.earliest, self.tally.latest
        self.tally.earliest = ends["min"] if low is None else min(low, ends["min"])
        self.tally.latest = ends["max"] if high is None else max(high, ends["max"])

    def conclude(self) -> None:
        """Raise ContractViolation if what was taken will not do as a whole."""
        tally, partitions = self.tally, self.spec.partitions
        if tally.outside and partitions and (partitions.outside == "refuse" or not tally.fetched):
            raise self._wrong_period(partitions.column or "")
        if tally.rejected:
            error = ContractViolation(
                f"{tally.rejected} of {tally.fetched} rows do not fit the declared columns",
                expected="values of the declared types",
                came="; ".join(tally.reasons),
                todo="Nothing was loaded. Look at the payload with `refresh parse`; adjust `columns` (missing, format, "
                "nullable, min, max) if the rows are right.",
            )
            error.fetched, error.rejected = tally.fetched, tally.rejected
            raise error

    def _wrong_period(self, column: str) -> WrongPeriod:
        tally, window = self.tally, self.window
        assert window.start is not None and window.end is not None  # noqa: S101 - a time window has both ends
        first, last = fill("{start}|{end}", window, column).split("|")
        latest = pa.scalar(tally.latest, self.schema.field(column).type)
        earlier = not tally.fetched and pc.less(latest, self._bound(window.start, latest.type)).as_py()
        return WrongPeriod(
            f"the payload holds {'only' if not tally.fetched else 'also'} rows of another period",
            earlier=bool(earlier),
            expected=f"{column} from {first} to before {last}",
            came=f"{tally.outside} rows from {tally.earliest} to {tally.latest}",
            todo="The upstream may have moved its files: check which address serves this period now.",
        )


def placeholder(column: Column) -> str | None:
    """Return the window field a column is filled from, for `from: "{station}"`, or None."""
    found = _PLACEHOLDER.fullmatch(column.source) if isinstance(column.source, str) else None
    return found[1] if found else None


def _joined(parts: list[pa.Array]) -> pa.Array:
    """Join fields by a space, row by row; null where one of them is empty."""
    trimmed = [pc.utf8_trim_whitespace(part) for part in parts]
    texts = [pc.if_else(pc.equal(part, ""), pa.scalar(None, pa.string()), part) for part in trimmed]
    return pc.binary_join_element_wise(*texts, pa.scalar(" "), null_handling="emit_null")


def staged_schema(spec: SourceSpec) -> pa.Schema:
    """Return the Arrow schema of the declared columns."""
    return pa.schema([(name, arrow_type(column.type)) for name, column in spec.columns.items()])


def _demand(name: str, column: Column, spec: SourceSpec) -> str:
    parts = [column.type + (f" of format {column.format}" if column.format else "")]
    if not column.nullable or name in spec.merge_key:
        parts.append("not empty")
    if column.min is not None or column.max is not None:
        parts.append(f"between {column.min} and {column.max}")
    return ", ".join(parts)
