"""Params of a source: set from outside by `REFRESH_PARAM_<GROUP>_<NAME>`, and lists that stand for keys. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.yamlpos import Document, YamlError, read_value

PREFIX = "REFRESH_PARAM_"


def override_params(
    document: Document, group: str, environ: Mapping[str, str]
) -> tuple[Document, list[Problem], set[str]]:
    """Return the document with params from the environment, what was wrong, and the names looked up.

    Only a param that is declared can be set. Problems stand where it is declared and never quote
    the value.
    """
    params = document.value.get("params")
    if not isinstance(params, dict):
        return document, [], set()
    problems: list[Problem] = []
    given, names = dict(params), set()
    for name in params:
        variable = f"{PREFIX}{group}_{name}".upper()
        names.add(variable)
        if not environ.get(variable):
            continue
        try:
            value = read_value(environ[variable])
        except YamlError:
            value = None
        if value is None or not _is_plain(value):
            mark = document.value_mark(("params", name))
            hint = "for instance 7 or [a, b]"
            problems.append(Problem(*mark, f"{variable} holds neither a plain value nor a list of them", hint))
        else:
            given[name] = value
    value = {**document.value, "params": given}
    return Document(value, document.keys, document.values), problems, names


def expand_lists(document: Document) -> tuple[Document, list[Problem]]:
    """Put a list param in the place of `"{name}"` where keys are listed: partitions.static and request.each.

    So a group names its sites once, in group.yaml. What names no list is a problem.
    """
    params = document.value.get("params")
    params = params if isinstance(params, dict) else {}
    lists = {name: listed for name, listed in params.items() if isinstance(listed, list)}
    value: dict[str, Any] = dict(document.value)
    problems: list[Problem] = []
    for section, key in (("partitions", "static"), ("request", "each")):
        outer = value.get(section)
        inner = outer.get(key) if isinstance(outer, dict) else None
        if not isinstance(outer, dict) or not isinstance(inner, dict):
            continue
        named = {name: found[1] for name, text in inner.items() if (found := _whole_field(text))}
        for name in (name for name, wanted in named.items() if wanted not in lists):
            message = f"{{{named[name]}}} is no list of the params"
            hint = did_you_mean(named[name], lists) or "write the keys as a list, or the list under params"
            problems.append(Problem(*document.value_mark((section, key, name)), message, hint))
        filled = {name: lists[wanted] for name, wanted in named.items() if wanted in lists}
        value[section] = {**outer, key: {**inner, **filled}}
    return Document(value, document.keys, document.values), problems


def _whole_field(text: Any) -> re.Match[str] | None:
    return re.fullmatch(r"\{(\w+)\}", text) if isinstance(text, str) else None


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return not any(isinstance(item, list | dict) for item in value)
    return not isinstance(value, dict)


def unused_overrides(environ: Mapping[str, str], known: Iterable[str]) -> Iterator[Problem]:
    """Yield a note for each variable that looks like a param's and sets none."""
    names = set(known)
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in names:
            message = f"{variable} sets no param of the catalogue"
            yield Problem(Path("environment"), 1, 1, message, did_you_mean(variable, names), "note")
