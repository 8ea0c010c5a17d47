"""Which rows count by `format.where`, decided on whole columns before anything else is done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.spec import Format, SourceSpec
from refresh_pipelines.window import Window, fill

# Field: the texts a row may have in it.
Chosen = Mapping[str, Sequence[str]]


def chosen_rows(spec: SourceSpec, form: Format, window: Window) -> Chosen:
    """Return `format.where` with the window's values filled in."""
    where = f"{spec.name}: format.where"
    return {name: [fill(text, window, where) for text in texts] for name, texts in form.where.items()}


def only(batch: pa.RecordBatch, chosen: Chosen, notes: Notes) -> pa.RecordBatch:
    """Return the rows of a batch of text that are chosen, and count the others. Raises as `mask`."""
    kept = batch.filter(mask(batch.columns, batch.schema.names, chosen)) if chosen else batch
    notes.passed_over += batch.num_rows - kept.num_rows
    return kept


def mask(
    columns: Sequence[pa.Array], names: Sequence[str], chosen: Chosen, encodings: Sequence[str] = ("utf-8",)
) -> pa.Array:
    """Return which rows have, in each field, one of the chosen texts; white space around a text does not count.

    Args:
        columns: texts, or their bytes in one of `encodings`.

    Raises:
        ContractViolation: there is no such field.
    """
    keep = None
    for name, texts in chosen.items():
        if name not in names:
            raise ContractViolation(
                f"column {name!r}, by which rows are chosen, is missing from the payload",
                expected="fields " + ", ".join(chosen),
                came="fields " + ", ".join(names),
                todo="The layout may have changed: compare with the sample and adjust format.where.",
            )
        # Bytes need not be text of any encoding: they are compared and trimmed as they are.
        values = pc.ascii_trim_whitespace(columns[names.index(name)].view(pa.string())).view(pa.binary())
        wanted = pa.array(sorted({_encoded(text, one) for text in texts for one in encodings}), pa.binary())
        found = pc.is_in(values, value_set=wanted)
        keep = found if keep is None else pc.and_(keep, found)
    if keep is None:
        raise ValueError("nothing is chosen")
    return keep


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode()
