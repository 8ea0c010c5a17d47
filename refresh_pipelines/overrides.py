"""`REFRESH_PARAM_<GROUP>_<NAME>`: a param of a group's sources set from outside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

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
