"""`refresh check`: every problem of every source file, without Dagster, network or warehouse."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from refresh_pipelines.catalogue import Catalogue, Problem
from refresh_pipelines.cli.common import json_option, load_settings, print_json, read_files, short_path


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Check every source file and print all problems.

    Each line is file:line:column: what is wrong (what to do). Lines marked "note:" stop nothing.
    Nothing is fetched or loaded. The exit code is 0 if there are only notes, 1 otherwise.
    """
    catalogue = read_files(load_settings())
    ok = not any(problem.severity == "error" for problem in catalogue.problems)
    if as_json:
        names = _names(catalogue)
        print_json((_item(problem, names) for problem in catalogue.problems), ok)
    else:
        for problem in catalogue.problems:
            click.echo(problem_line(problem))
        click.echo(summary(catalogue))
    sys.exit(0 if ok else 1)


def problem_line(problem: Problem) -> str:
    """Return one problem as it is printed, its file as terminals and editors link it."""
    mark = "note: " if problem.severity == "note" else ""
    return str(replace(problem, file=short_path(problem.file), message=mark + problem.message))


def summary(catalogue: Catalogue) -> str:
    """Return the last line: how many problems in how many files, and how many notes."""
    errors = [problem for problem in catalogue.problems if problem.severity == "error"]
    notes = len(catalogue.problems) - len(errors)
    if errors:
        wrong = {problem.file for problem in errors}
        total = len(wrong | set(catalogue.files))
        text = f"{_count(len(errors), 'problem')} in {len(wrong)} of {_count(total, 'file')}"
    else:
        text = f"{_count(len(catalogue.sources), 'source')}, no problems"
    return f"{text} ({_count(notes, 'note')})" if notes else text


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _names(catalogue: Catalogue) -> Mapping[Path, str]:
    names = {Path(spec.file): spec.name for spec in catalogue.sources.values()}
    return names | {broken.file: broken.name for broken in catalogue.broken.values()}


def _item(problem: Problem, names: Mapping[Path, str]) -> dict[str, Any]:
    return {
        "file": str(problem.file),
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
        "severity": problem.severity,
        # None for defaults.yaml, group.yaml, folders and variables: they concern several sources.
        "source": names.get(problem.file),
    }
