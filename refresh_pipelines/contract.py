"""Cast text to the declared columns and say exactly which rows will not do.

Works on whole columns; single values are looked at only where a column holds a bad one. Up to
`load.reject_share` such rows are put aside, see `rejects`; one more, and nothing is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timezone
from fractions import Fraction

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.cast import arrow_type, cast_text, extracted, time_trouble
from refresh_pipelines.drift import Drift, widened
from refresh_pipelines.errors import ContractViolation, WrongPeriod
from refresh_pipelines.limits import demand
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.rejects import Rejects
from refresh_pipelines.spec import Column, SourceSpec
from refresh_pipelines.window import Window, fill

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_EXAMPLES = 3
_LONGEST_SHOWN = 200
# A column of a batch with a bad value in it: its name, itself, the texts, and which of them are bad.
_Suspect = tuple[str, Column, pa.Array, pa.Array]


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

    Args:
        bound: what each payload brings values for, beside the window.
        rejects: where bad rows are put; without it a few are told and the others only counted.
        drift: what is known of undeclared fields, where several contracts share it.

    Attributes:
        spec: the source with the columns that `load.drift: evolve` has made so far; `schema` is theirs.
    """

    def __init__(
        self,
        spec: SourceSpec,
        window: Window,
        notes: Notes,
        bound: Collection[str] = (),
        rejects: Rejects | None = None,
        drift: Drift | None = None,
    ) -> None:
        self.window, self.notes = window, notes
        self.declared, self.drift = spec, drift or Drift(spec)
        self.spec = widened(spec, self.drift.fields)
        self.tally, self.rejects = Tally(), rejects
        self.schema = staged_schema(self.spec)
        self._rows_seen = 0
        self._names: list[str] = []
        # `refresh parse` may be asked without a partition; its column then stays empty.
        self.unbound = {
            name
            for name, column in spec.columns.items()
            if (p := placeholder(column)) and p not in window.fields and p not in bound
        }
        self._here, self._label = window, ""
        self._met: set[str] = set()

    @property
    def fields(self) -> dict[str, str]:
        """The field of each column that fields of these payloads have made, by its name; others may share `drift`."""
        return {name: field for name, field in self.drift.fields.items() if field in self._met}

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
        self._rows_seen, before = 0, self.notes.passed_over
        for batch in batches:
            self._require_fields(batch.schema.names)
            typed = self._rows(batch)
            self._rows_seen += batch.num_rows
            if typed.num_rows:
                yield typed
        self.tally.filtered += self.notes.passed_over - before

    def _require_fields(self, names: list[str]) -> None:
        if names == self._names:
            return
        self._names = names
        wanted = {
            source: name
            for name, column in self.declared.columns.items()
            if placeholder(column) is None
            for source in column.fields(name)
        }
        missing = [
            f"{name!r} (read from {source!r})"
            for source, name in wanted.items()
            if source not in names and not self.declared.columns[name].optional
        ]
        if missing:
            raise ContractViolation(
                f"column {', '.join(missing)} is missing from the payload",
                expected="fields " + ", ".join(wanted),
                came="fields " + ", ".join(names),
                todo=f"The layout may have changed: compare with samples/{self.spec.source}/ and adjust `columns`.",
            )
        dotted = {source.split(".")[0] for source in wanted}
        undeclared = self.drift.meet([name for name in names if name not in wanted and name not in dotted])
        self._met.update(names)
        self.notes.ignored = list(dict.fromkeys([*self.notes.ignored, *undeclared]))
        self.spec = widened(self.declared, self.drift.fields)
        self.schema = staged_schema(self.spec)

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, pa.Array] = {}
        bad = pa.repeat(pa.scalar(False), batch.num_rows)
        # Upstreams write an empty table as one row of commas. In JSON a null has been said.
        is_csv = self.spec.format is not None and self.spec.format.kind == "csv"
        blank = pa.repeat(pa.scalar(is_csv), batch.num_rows)
        suspects: list[_Suspect] = []
        for name, column in self.spec.columns.items():
            text = self._text(batch, name, column)
            values, wrong = cast_text(text, column)
            if name in self.declared.columns and placeholder(column) is None:
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
            self._reject(batch, columns, suspects, bad)
        typed = pa.RecordBatch.from_arrays(list(columns.values()), schema=self.schema)
        if kept == batch.num_rows and not wrong_rows:
            return typed
        return typed.filter(pc.and_(keep, pc.invert(bad)))

    def _reject(
        self, batch: pa.RecordBatch, columns: Mapping[str, pa.Array], suspects: list[_Suspect], bad: pa.Array
    ) -> None:
        """Put bad rows aside with what is wrong with each, and remember a few as examples."""
        room = _EXAMPLES if self.rejects is None else self.rejects.room
        places = pc.indices_nonzero(bad)
        last = places[room - 1].as_py() if room is not None and 0 < room < len(places) else batch.num_rows
        why: dict[int, list[tuple[str, str]]] = {}
        for name, column, text, wrong in suspects if room != 0 else ():
            rows = pc.indices_nonzero(pc.and_(wrong, bad))
            rows = rows.filter(pc.less_equal(rows, last))
            for row, value in zip(rows.to_pylist(), text.take(rows).to_pylist(), strict=True):
                why.setdefault(row, []).append((name, self._what_is_wrong(name, column, value)))
        if self.rejects is not None:
            self.rejects.add(batch, columns, bad, why, self._label.strip(), self._rows_seen)
        examples = [
            f"{self._label}row {self._rows_seen + row + 1}: {text}" for row in sorted(why) for _, text in why[row]
        ]
        self.tally.reasons += examples[: max(_EXAMPLES - len(self.tally.reasons), 0)]

    def _text(self, batch: pa.RecordBatch, name: str, column: Column) -> pa.Array:
        field_name = placeholder(column)
        if field_name is None:
            nothing = pa.nulls(batch.num_rows, pa.string())
            present = set(batch.schema.names)
            parts = [batch.column(source) if source in present else nothing for source in column.fields(name)]
            text = parts[0] if len(parts) == 1 else _joined(parts)
            return text if column.extract is None else extracted(text, column.extract)
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

    def _what_is_wrong(self, name: str, column: Column, value: str | None) -> str:
        required = not column.nullable or name in self.spec.merge_key
        text = demand(column, required=required)
        if column.equals is not None:
            text += f", equal to {fill(column.equals, self._here, name)}"
        trouble = time_trouble(value, column) if value else ""
        shown = repr(value if value is None or len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…")
        return f"{' '.join(column.fields(name))}={shown} is no {text}" + (f" ({trouble})" if trouble else "")

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
        require_share(self.declared, tally.fetched, tally.rejected, tally.reasons)
        if tally.rejected:
            where = f"quarantine.{self.declared.raw_table}"
            self.notes.remark(
                f"{tally.rejected} of {tally.fetched} rows were rejected into {where}: {', '.join(tally.reasons)}"
            )

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


def require_share(spec: SourceSpec, fetched: int, rejected: int, examples: Sequence[str]) -> None:
    """Raise ContractViolation when more rows break the contract than `load.reject_share` allows."""
    share = Fraction(str(spec.load.reject_share))
    if rejected <= share * fetched:
        return
    allowed = f", in all but {float(share):.3g} of the rows (load.reject_share)" if share else ""
    error = ContractViolation(
        f"{rejected} of {fetched} rows do not fit the declared columns",
        expected=f"values of the declared types{allowed}",
        came="; ".join(examples),
        todo=f"Nothing was loaded. `refresh parse {spec.source} FILE --rejects` shows all of them; adjust `columns` "
        "(missing, format, nullable, min, max, enum) if the rows are right, or raise load.reject_share.",
    )
    error.fetched, error.rejected = fetched, rejected
    raise error
