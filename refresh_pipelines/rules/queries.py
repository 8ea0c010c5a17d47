"""Rules for the queries of derived sources: what a SELECT may be and which tables it may read.

A query is read here as text alone, so that the check stays quick; DuckDB has the last word when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem, did_you_mean
from refresh_pipelines.yamlpos import Document, Loc

_NO_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_STAR = re.compile(r"(?:\bselect|\bdistinct|,)\s*(?:\w+\s*\.\s*)?\*", re.IGNORECASE)
_RESTLESS = re.compile(
    r"\b(?:(?:now|random|uuid|gen_random_uuid|today|get_current_timestamp)\s*\(|current_(?:date|time|timestamp)\b)",
    re.IGNORECASE,
)
_RAW_TABLE = re.compile(r"\braw\s*\.\s*\"?([a-z_]\w*)", re.IGNORECASE)


def check_query(draft: Draft, loc: Loc, query: str) -> Iterator[Problem]:
    """Say what is wrong with the query at `loc`, as far as its text tells."""
    code = code_of(query)
    if not re.match(r"\s*(select|with)\b", code, re.IGNORECASE):
        yield draft.problem(loc, "the query is one SELECT", "it begins with SELECT or WITH")
    if ";" in code.rstrip().removesuffix(";"):
        yield draft.problem(loc, f"the query is one statement{_line(code, code.index(';'))}", "take the rest out")
    if star := _STAR.search(code):
        hint = "a column that is new upstream then changes nothing here"
        yield draft.problem(loc, f"the query names its columns, without *{_line(code, star.start())}", hint)
    if restless := _RESTLESS.search(code):
        name = restless[0].rstrip("( ")
        hint = "it is built when inputs change, and not when the clock does"
        yield draft.problem(loc, f"{name} gives each build other rows{_line(code, restless.start())}", hint)


def code_of(query: str) -> str:
    """Return a query with blanks in place of comments and texts, so that places in it stay what they are."""
    return _NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), query)


def _line(code: str, place: int) -> str:
    return f", line {code[:place].count(chr(10)) + 1} of it"


def check_tables(document: Document, loc: Loc, query: str, allowed: Collection[str]) -> Iterator[Problem]:
    """Say which raw tables the query at `loc` reads that are not among the `allowed` ones."""
    mark = document.value_mark(loc)
    code = code_of(query)
    found = {match[1].lower(): match.start() for match in _RAW_TABLE.finditer(code)}
    if not found:
        tables = ", ".join(f"raw.{table}" for table in sorted(allowed))
        yield Problem(*mark, "the query reads no raw table", f"the required sources load {tables}" if tables else "")
    for table, place in found.items():
        if allowed and table not in allowed:
            message = f"no required source loads raw.{table}{_line(code, place)}"
            yield Problem(*mark, message, did_you_mean(table, allowed) or "add its source to requires")
