"""Which sources are made from which: their order, and circles among them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from refresh_pipelines.spec import SourceSpec


def required_of(spec: SourceSpec, sources: Mapping[str, SourceSpec]) -> list[SourceSpec]:
    """Return the sources that a source requires, as far as `sources` (by stem) has them, each once."""
    return [sources[stem] for stem in dict.fromkeys(need.stem for need in spec.requires) if stem in sources]


def in_order(specs: Iterable[SourceSpec]) -> list[SourceSpec]:
    """Return the same sources, each behind those it requires, and otherwise in the order given."""
    given = {spec.source: spec for spec in specs}
    done: dict[str, SourceSpec] = {}

    def visit(spec: SourceSpec, above: frozenset[str]) -> None:
        for required in required_of(spec, given):
            if required.source not in done and required.source not in above:
                visit(required, above | {spec.source})
        done.setdefault(spec.source, spec)

    for spec in given.values():
        visit(spec, frozenset())
    return list(done.values())


def circle_through(spec: SourceSpec, sources: Mapping[str, SourceSpec]) -> list[str] | None:
    """Return the shortest way from a source over its requirements back to itself, as stems; None if there is none."""
    ways = [[spec.source]]
    seen: set[str] = set()
    for way in ways:
        for required in required_of(sources[way[-1]], sources):
            if required.source == spec.source:
                return [*way, spec.source]
            if required.source not in seen:
                seen.add(required.source)
                ways.append([*way, required.source])
    return None
