"""One value from several sources by priority: the query of a derived source that says `reconcile`. Pure text.

Of the sources that have a value for a key, the one with the highest priority is chosen; the others stay beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from refresh_pipelines.spec import Derive, Reconcile, SourceSpec


def query_of(spec: SourceSpec) -> str:
    """Return the one SELECT that a derived source is made by.

    Raises:
        ValueError: the source is not derived.
    """
    if spec.derive is None:
        raise ValueError(f"{spec.name} is not derived")
    return spec.derive.query or reconciled(_reconcile(spec), spec.priorities)


def reconciles(spec: SourceSpec) -> bool:
    """Whether a source chooses between others."""
    return spec.derive is not None and spec.derive.reconcile is not None


def selects_of(derive: Derive) -> Mapping[tuple[str, ...], str]:
    """Return the SELECTs that a derived source's YAML holds, by their place in it."""
    if derive.reconcile is None:
        return {("derive", "query"): derive.query or ""}
    return {("derive", "reconcile", "sources", name): text for name, text in derive.reconcile.sources.items()}


def with_priorities(sources: Mapping[str, SourceSpec]) -> dict[str, SourceSpec]:
    """Return the catalogue's sources with the inputs' priorities filled in where a source chooses by them."""
    out = dict(sources)
    for stem, spec in sources.items():
        if spec.derive is None or spec.derive.reconcile is None:
            continue
        asked = {name: sources[name].priority for name in spec.derive.reconcile.sources if name in sources}
        priorities = {name: float(one) for name, one in asked.items() if one is not None}
        if priorities != spec.priorities:
            out[stem] = SourceSpec(**{**dict(spec), "priorities": priorities})
    return out


def reconciled(wanted: Reconcile, priorities: Mapping[str, float]) -> str:
    """Return the SELECT that gives, for each key, the chosen value and what the others say.

    A source without a priority among `priorities` is not asked for anything. DuckDB ends the query with a sentence
    of ours where a source has two values for one key, or one in a unit without a factor.
    """
    key, names = ", ".join(map(_quoted, wanted.key)), [name for name in wanted.sources if name in priorities]
    inputs = [f"input_{name} AS (\n{wanted.sources[name].strip().removesuffix(';')}\n)" for name in names]
    unit = "CAST(i.unit AS VARCHAR)" if wanted.units else "NULL"
    named = ", ".join(f"i.{_quoted(name)}" for name in wanted.key)
    stacked = "\n  UNION ALL\n".join(
        f"  SELECT {named}, CAST(i.value AS DOUBLE) AS given, {unit} AS unit, '{name}' AS source,"  # noqa: S608
        f" {priorities[name]!r}::DOUBLE AS priority FROM input_{name} AS i WHERE i.value IS NOT NULL"
        for name in names
    )
    shown = " || ', ' || ".join(f"coalesce(CAST({_quoted(name)} AS VARCHAR), 'NULL')" for name in wanted.key)
    return f"""WITH {", ".join(inputs)},
stacked AS (
{stacked}
),
measured AS (
  SELECT {key}, source, priority,
    CASE WHEN count(*) OVER (PARTITION BY {key}, source) > 1
      THEN error(source || ' has more than one value for ' || {shown})
    {_in_unit(wanted)} END AS value,
    row_number() OVER (PARTITION BY {key} ORDER BY priority DESC) AS place
  FROM stacked
),
compared AS (
  SELECT {key},
    max(value) FILTER (place = 1) AS value,
    max(source) FILTER (place = 1) AS source,
    max(priority) AS priority,
    '{{' || coalesce(string_agg('"' || source || '": ' || CAST(value AS VARCHAR), ', ' ORDER BY priority DESC)
      FILTER (place > 1), '') || '}}' AS alternatives,
    CASE WHEN count(*) > 1 AND max(abs(value)) > 0 THEN (max(value) - min(value)) / max(abs(value))
      WHEN count(*) > 1 THEN 0 END AS spread
  FROM measured
  GROUP BY {key}
)
SELECT {key}, value, source, priority, alternatives, spread,
  coalesce(spread > {wanted.share!r}::DOUBLE, false) AS disagreement
FROM compared"""  # noqa: S608 - plain names, and the text of the YAML, which is a query


def _in_unit(wanted: Reconcile) -> str:
    if not wanted.units:
        return "ELSE given"
    cases = [f"WHEN unit = {_text(unit)} THEN {_times(factor)}" for unit, factor in wanted.units.items()]
    said = "source || ' gives a value in ' || coalesce(unit, 'no unit') || ', which derive.reconcile.units lacks'"
    return " ".join([*cases, f"ELSE error({said})"])


def _times(factor: float) -> str:
    """Write a factor so that the result is the nearest number there is: a tenth is a division by ten."""
    whole = Fraction(repr(factor))
    if whole.numerator == 1:
        return "given" if whole.denominator == 1 else f"given / {whole.denominator}.0::DOUBLE"
    return f"given * {factor!r}::DOUBLE"


def _quoted(name: str) -> str:
    # Names of keys are plain; some are words of SQL all the same.
    return f'"{name}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _reconcile(spec: SourceSpec) -> Reconcile:
    if spec.derive is None or spec.derive.reconcile is None:
        raise ValueError(f"{spec.name} does not reconcile")
    return spec.derive.reconcile
