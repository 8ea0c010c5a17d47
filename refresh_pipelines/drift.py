"""Fields of a payload that no column reads, by the source's rule: name them, stop the load, or make them columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.spec import Column, SourceSpec

# A document whose keys are data (days, stations) would make columns without end.
MOST_COLUMNS = 60
LONGEST_NAME = 40
_SHOWN = 12


def widened(spec: SourceSpec, fields: Mapping[str, str]) -> SourceSpec:
    """Return the source with a text column, empty where a payload lacks it, for each undeclared field.

    Args:
        fields: the field each of these columns is read from, by the column's name.
    """
    new = {name: _column(field) for name, field in fields.items() if name not in spec.columns}
    return spec.model_copy(update={"columns": {**spec.columns, **new}}) if new else spec


def _column(field: str) -> Column:
    # A field that is named like a placeholder is a field all the same.
    return Column.model_construct(
        **{
            **{name: info.default for name, info in Column.model_fields.items()},
            "type": "text",
            "source": (field,),
            "optional": True,
            "description": f"field {field!r}, which the YAML does not declare",
        }
    )


class Drift:
    """What becomes of undeclared fields while the payloads of a refresh stream by.

    Attributes:
        fields: under `evolve` the field of each column that is made, by its name.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self.fields: dict[str, str] = {}
        self._known = {*spec.load.ignore, *(spec.format.fields if spec.format else ())}

    def meet(self, fields: Sequence[str]) -> list[str]:
        """Take note of undeclared fields; return those that a person should hear of.

        Raises:
            ContractViolation: under `freeze` that there are any, under `evolve` that there are too many.
        """
        news = [field for field in fields if field not in self.spec.load.ignore]
        grown = [field for field in news if field not in self._known]
        if self.spec.load.drift == "freeze" and grown:
            raise ContractViolation(
                "the payload has fields that are not declared",
                expected="the declared columns and no others (load.drift: freeze)",
                came=_listed(grown),
                todo="Nothing was loaded. Declare them under `columns`, or name them in load.ignore; load.drift: "
                "evolve makes them text columns, ignore passes them over.",
            )
        if self.spec.load.drift == "evolve":
            for field in grown:
                self._grow(field)
        return news

    def _grow(self, field: str) -> None:
        if field in self.fields.values():
            return
        if len(self.fields) == MOST_COLUMNS:
            raise too_many([*self.fields.values(), field])
        self.fields[column_name(field, {*self.spec.columns, *self.fields})] = field


def too_many(fields: Sequence[str]) -> ContractViolation:
    """Return the error of a source whose undeclared fields do not end."""
    return ContractViolation(
        "the payload has too many fields that are not declared",
        expected=f"at most {MOST_COLUMNS} (load.drift: evolve)",
        came=_listed(fields),
        todo="Nothing was loaded. Names of fields may be data here, such as days: a parser can make rows of them. "
        "Otherwise declare what is needed and set load.drift: ignore.",
    )


def _listed(fields: Sequence[str]) -> str:
    rest = len(fields) - _SHOWN
    return ", ".join(fields[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def column_name(field: str, taken: Collection[str]) -> str:
    """Return a plain column name for a field: at most 40 of a to z, digits and _, and none that is taken."""
    folded = unicodedata.normalize("NFKD", field.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", folded).strip("_")
    plain = (plain if plain[:1].isalpha() else f"field_{plain}".rstrip("_"))[:LONGEST_NAME].rstrip("_")
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain[: LONGEST_NAME - 1 - len(str(number))]}_{number}"
    return name
