"""YAML as plain data that remembers where every key and value stands. Reads text, never runs it.

A subset on purpose: one mapping per file, text keys, no duplicate keys, no anchors, merges or tags.
A catalogue file is a record, and whoever reads it should not have to evaluate it first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# The C parser is ten times faster; builds of PyYAML without libyaml have only the other one.
try:
    from yaml import CSafeLoader as _Base
except ImportError:
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

_HAS_C = hasattr(yaml, "CSafeLoader")
_RESOLVER = yaml.resolver.Resolver()
_SCALARS = yaml.constructor.SafeConstructor()
_TEXT = "tag:yaml.org,2002:str"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}

Loc = tuple[str | int, ...]
Excludes = Mapping[Loc, Mapping[str, tuple[str, ...]]]


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: Path
    line: int
    column: int


class YamlError(ValueError):
    """The text cannot be read; `found` is every (line, column, message, hint)."""

    def __init__(self, found: list[tuple[int, int, str, str]]) -> None:
        self.found = found
        super().__init__("; ".join(message for _, _, message, _ in found))


@dataclass(frozen=True)
class Document:
    """One value with the places of its parts.

    Attributes:
        keys: for each mapping entry, by its path, where its key stands.
        values: for each value, by its path, where it stands; `()` is the whole document.
    """

    value: dict[str, Any]
    keys: dict[Loc, Mark] = field(default_factory=dict)
    values: dict[Loc, Mark] = field(default_factory=dict)

    def key_mark(self, loc: Loc) -> Mark:
        """Return where the key at `loc` stands, or the nearest thing around it that is written."""
        for end in range(len(loc), 0, -1):
            mark = self.keys.get(loc[:end])
            if mark is not None:
                return mark
        return self.values[()]

    def value_mark(self, loc: Loc) -> Mark:
        """Return where the value at `loc` stands, or the nearest key around it that is written."""
        return self.values.get(loc) or self.key_mark(loc)

    def under(self, base: Document, excludes: Excludes) -> Document:
        """Return this document with what it leaves out filled from `base`, mapping by mapping.

        Args:
            excludes: by the path of a mapping and a key written there, the keys it rules out; those
                are not filled.
        """
        keys, values = dict(self.keys), dict(self.values)

        def fill(own: dict[str, Any], other: dict[str, Any], loc: Loc) -> dict[str, Any]:
            ruled_out = {out for key in own for out in excludes.get(loc, {}).get(key, ())}
            merged = dict(own)
            for key, value in other.items():
                here = (*loc, key)
                if key not in own and key not in ruled_out:
                    merged[key] = value
                    keys.update((at, mark) for at, mark in base.keys.items() if at[: len(here)] == here)
                    values.update((at, mark) for at, mark in base.values.items() if at[: len(here)] == here)
                elif isinstance(value, dict) and isinstance(own.get(key), dict):
                    merged[key] = fill(own[key], value, here)
            return merged

        return Document(fill(self.value, base.value, ()), keys, values)


class _Loader(_Base):
    """Remembers what kind of value a text is: a catalogue says `type: text` ten thousand times."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        """Return the tag of a node."""
        if kind is not yaml.ScalarNode:
            return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        return _plain_tag(value) if implicit[0] else _TEXT


@lru_cache(maxsize=16_384)
def _plain_tag(value: str) -> str:
    """Return the tag of a text without quotes."""
    return str(_RESOLVER.resolve(yaml.ScalarNode, value, (True, False)))  # type: ignore[no-untyped-call]


def read_document(text: str, file: Path) -> Document:
    """Read one YAML mapping with its marks. Raises YamlError with all that is wrong in it."""
    root = _compose(text)
    if root is None:
        raise YamlError([(1, 1, "the file is empty", "write at least description, request, columns, merge_key")])
    if not isinstance(root, yaml.MappingNode):
        raise YamlError([(*_at(root), "the file holds no mapping", "write `key: value` lines")])
    builder = _Builder(file)
    value = builder.build(root, ())
    if builder.found:
        raise YamlError(sorted(builder.found))
    return Document(value, builder.keys, builder.values)


def read_value(text: str) -> Any:
    """Read one YAML value, for instance from a variable. Raises YamlError."""
    root = _compose(text)
    if root is None:
        return None
    builder = _Builder(Path())
    value = builder.build(root, ())
    if builder.found:
        raise YamlError(builder.found)
    return value


class _Builder:
    """Turns nodes into values and collects marks and problems on the way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.keys: dict[Loc, Mark] = {}
        self.values: dict[Loc, Mark] = {}
        self.found: list[tuple[int, int, str, str]] = []
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, loc: Loc) -> Any:
        start = node.start_mark
        self.values[loc] = Mark(self.file, start.line + 1, start.column + 1)
        # An alias is the same node met again: refused, because nested ones grow without bound.
        if id(node) in self._seen:
            return self._refuse(
                node, "this value is used again by an alias (*name), which is not read here", "write it out twice"
            )
        self._seen.add(id(node))
        if node.tag == _TEXT and isinstance(node, yaml.ScalarNode):
            return node.value
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return {key: self.build(value, (*loc, key)) for key, value in self._entries(node, loc)}
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*loc, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _entries(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, yaml.Node]]:
        first: dict[str, int] = {}
        for key_node, value in node.value:
            line, column = _at(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._refuse(key_node, "a merge (<<) is not read here", "use defaults.yaml or group.yaml")
            elif not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, "a key must be text", "")
            elif key_node.tag != _TEXT:
                kind = key_node.tag.rpartition(":")[2]
                hint = f'put it in quotes: "{key_node.value}"'
                self._refuse(key_node, f"YAML reads the key {key_node.value} as {kind}, not as text", hint)
            elif key_node.value in first:
                again = f"the key {key_node.value} stands twice, first in line {first[key_node.value]}"
                self._refuse(key_node, again, "remove one of them")
            else:
                first[key_node.value] = line
                self.keys[(*loc, key_node.value)] = Mark(self.file, line, column)
                yield key_node.value, value

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag not in _PLAIN_TAGS or not isinstance(node, yaml.ScalarNode):
            return self._refuse(node, f"the tag {node.tag} is not read here", "write a plain value")
        try:
            return _SCALARS.construct_object(node)
        except (ValueError, OverflowError) as error:
            return self._refuse(node, f"{node.value} cannot be read: {error}", "put it in quotes if it is text")

    def _refuse(self, node: yaml.Node, message: str, hint: str) -> None:
        self.found.append((*_at(node), message, hint))


def _at(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        # The C reader counts bytes, the other one characters.
        before = text.encode()[: error.position].decode(errors="ignore") if _HAS_C else ""
        lines = (before or text[: error.position]).split("\n")
        raise YamlError([(len(lines), len(lines[-1]) + 1, f"not readable as YAML: {error.reason}", "")]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        tabs = "indent with spaces, not tabs" if "tab" in (error.problem or "") else ""
        context = f"{error.context}, " if error.context else ""
        raise YamlError([(line, column, f"not readable as YAML: {context}{error.problem}", tabs)]) from error
    except RecursionError as error:
        raise YamlError([(1, 1, "nested too deeply to be read", "")]) from error
