"""Rule against credentials written as values. Its messages never quote the value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem
from refresh_pipelines.yamlpos import Loc

_SECRET_NAME = re.compile(
    r"(.*_)?(api_?key|apikey|token|password|passwd|pwd|secret|authorization|access_key|private_key"
    r"|subscription_key|app_key|appid|client_secret|credentials?|cookie)|key|auth|pass"
)


def is_secret_name(name: str) -> bool:
    """Tell whether a parameter or header of this name usually carries a credential."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return _SECRET_NAME.fullmatch(re.sub(r"[^a-z0-9]+", "_", words)) is not None


def check_secrets(draft: Draft) -> Iterator[Problem]:
    """No param, header or part of an address holds a credential in plain sight."""
    yield from _check_mapping(draft, ("params",), draft.params, "query")
    request = draft.raw.get("request")
    if not isinstance(request, dict):
        return
    for section, place in (("params", "query"), ("headers", "header"), ("body", "query")):
        yield from _check_mapping(draft, ("request", section), request.get(section), place)
    yield from _check_url(draft, ("request", "url"), request.get("url"))
    urls = request.get("urls")
    for index, url in enumerate(urls if isinstance(urls, list) else ()):
        yield from _check_url(draft, ("request", "urls", index), url)


def _check_mapping(draft: Draft, loc: Loc, values: Any, place: str) -> Iterator[Problem]:
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if is_secret_name(name) and _literal(value):
            yield _secret(draft, (*loc, name), name, place)


def _check_url(draft: Draft, loc: Loc, url: Any) -> Iterator[Problem]:
    if not isinstance(url, str):
        return
    try:
        pairs = parse_qsl(urlsplit(url).query)
    except ValueError:
        return  # `check_addresses` says what is wrong with it.
    for name, value in pairs:
        if is_secret_name(name) and _literal(value):
            yield _secret(draft, loc, name, "query")


def _literal(value: Any) -> bool:
    """Whether the value says anything by itself, beside the {fields} it names."""
    return isinstance(value, str | int | float) and re.sub(r"\{[^{}]*\}", "", str(value)).strip() not in {"", "Bearer"}


def _secret(draft: Draft, loc: Loc, name: str, place: str) -> Problem:
    hint = f"a credential belongs in the environment: use auth: {{env: NAME, {place}: {name}}}"
    return draft.problem(loc, f"{name} is written as a value", hint)
