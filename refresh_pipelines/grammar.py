"""What pydantic finds wrong, in words and places of the YAML. Knows the models, judges nothing itself."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.spec import SourceYaml
from refresh_pipelines.yamlpos import Document, Loc

_WORDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "date_type": "a date",
    "date_parsing": "a date",
    "date_from_datetime_parsing": "a date such as 2024-01-01",
    "datetime_type": "a time",
    "datetime_parsing": "a time",
    "datetime_from_date_parsing": "an instant such as 2024-01-01T00:00:00Z",
}


def explain(document: Document, details: Iterable[ErrorDetails]) -> Iterator[tuple[Loc, bool, str, str]]:
    """Yield path, whether the key is meant rather than the value, message and hint of each problem.

    Several errors at one place are the branches of one choice and become one problem. No message
    quotes what was written where a credential may have been written by mistake.
    """
    by_place: dict[tuple[Loc, bool], list[ErrorDetails]] = {}
    for item in details:
        loc = _written(document, item["loc"])
        about_key = item["type"] in {"extra_forbidden", "missing"} or isinstance(item["input"], dict)
        by_place.setdefault((loc, about_key and loc != ()), []).append(item)
    for (loc, at_key), items in by_place.items():
        choice = len({item["loc"] for item in items}) > 1 and items[0]["type"] != "missing"
        for message, hint in [_choice(items, loc)] if choice else [_text(item, loc) for item in items]:
            yield loc, at_key, message, hint


def _written(document: Document, loc: tuple[int | str, ...]) -> Loc:
    """Return the part of a pydantic location that is a path in the file (it also names union branches)."""
    found: Loc = ()
    for part in loc:
        # A column's `from` is called `source` in the model, and pydantic may name either.
        names = (part, "from") if part == "source" else (part,)
        found = next(((*found, name) for name in names if (*found, name) in document.values), found)
    return found


def _text(item: ErrorDetails, loc: Loc) -> tuple[str, str]:
    """Return message and hint of one pydantic error."""
    kind, where = item["type"], ".".join(map(str, loc)) or "source"
    if kind in {"extra_forbidden", "missing"}:
        return _key_text(item, loc)
    if kind in _WORDS:
        return f"{where} must be {_WORDS[kind]}", _type_hint(item)
    if kind == "value_error":
        return _with_hint(item["msg"].removeprefix("Value error, "))
    if kind == "string_pattern_mismatch":
        pattern = str(item["ctx"]["pattern"]).strip("^$")
        return f"{where} must match {pattern}", _pattern_hint(item, pattern)
    if kind == "literal_error":
        expected = item["ctx"]["expected"].replace("'", "")
        return f"{where} must be {expected}", did_you_mean(item["input"], expected.replace(" or ", ", ").split(", "))
    return f"{where}: {item['msg'][:1].lower()}{item['msg'][1:]}", ""


def _key_text(item: ErrorDetails, loc: Loc) -> tuple[str, str]:
    name = str(item["loc"][-1])
    if item["type"] == "extra_forbidden":
        return f"unknown key {name}", _key_hint(item["loc"])
    return f"{name} is missing" + (f" in {'.'.join(map(str, loc))}" if loc else ""), ""


def _with_hint(message: str) -> tuple[str, str]:
    """Split the advice our own validators put in brackets from what they say."""
    text, bracket, hint = message.rpartition(" (")
    return (text, hint[:-1]) if bracket and hint.endswith(")") else (message, "")


def _choice(items: list[ErrorDetails], loc: Loc) -> tuple[str, str]:
    """Return one message for a value that fits no branch of a choice."""
    words = list(dict.fromkeys(_WORDS[item["type"]] for item in items if item["type"] in _WORDS))
    own = [_text(item, loc) for item in items if item["type"] not in _WORDS]
    if own:
        return own[-1]
    if len(words) == 1:
        return _text(items[0], loc)  # several keys of a list param, which stand in one place
    return f"{'.'.join(map(str, loc))} must be {', '.join(words[:-1])} or {words[-1]}", ""


def _type_hint(item: ErrorDetails) -> str:
    if item["type"] == "string_type" and not isinstance(item["input"], dict | list | types.NoneType):
        return "put it in quotes"
    return "write [a, b] or lines that begin with -" if item["type"] == "tuple_type" else ""


def _pattern_hint(item: ErrorDetails, pattern: str) -> str:
    if item["loc"][-1] == "env":
        return "the name of a variable, never its value"
    words = [word for word in pattern.strip("()").split("|") if word.isalpha()]
    return did_you_mean(item["input"], words) if words else ""


def _key_hint(loc: tuple[int | str, ...]) -> str:
    known, key = _known_keys(loc[:-1]), str(loc[-1])
    homes = [name for name in SourceYaml.model_fields if name not in loc and key in _known_keys((name,))]
    if homes:
        return f"{key} belongs under {homes[0]}"
    if len(loc) > 1 and key in SourceYaml.model_fields:
        return f"{key} belongs outside {loc[0]}"
    return did_you_mean(key, known)


def _known_keys(loc: Iterable[int | str]) -> set[str]:
    """Return the keys the grammar has for the mapping at `loc`."""
    annotation: Any = SourceYaml
    for part in loc:
        model = _model_in(annotation)
        if _is_dict(annotation):
            annotation = get_args(annotation)[1]
        elif model and part in _keys_of(model):
            annotation = model.model_fields["source" if part == "from" else str(part)].annotation
    model = _model_in(annotation)
    return _keys_of(model) if model and not _is_dict(annotation) else set()


def _is_dict(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def _keys_of(model: type[BaseModel]) -> set[str]:
    return {field.serialization_alias or name for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
