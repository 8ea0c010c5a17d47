"""What `refresh status SOURCE` says of the three clocks, of what was saved, and of how far validators are believed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from refresh_pipelines.clocks import Savings, is_ahead
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.trust import state_in_words
from refresh_pipelines.trust_store import recall

_CLOCKS = (
    ("checked", "last_success_at", "the table was known to hold what the upstream serves"),
    ("changed", "last_changed_at", "rows changed"),
    ("published", "last_published_at", "the upstream says it published"),
)


def print_clocks(spec: SourceSpec, item: Mapping[str, Any], settings: Settings, now: datetime) -> None:
    """Print three clocks and what they mean, then what validators did."""
    click.echo("")
    for name, field, meaning in _CLOCKS:
        at = item[field]
        ahead = name == "published" and at and is_ahead(datetime.fromisoformat(at), now)
        shown = at[:16].replace("T", " ") if at else "not said" if name == "published" else "never"
        click.echo(f"{name:<10} {shown:<17} {meaning}{', which is in the future' if ahead else ''}")
    transferred, saved = item["bytes_transferred"] or 0, item["bytes_saved"] or 0
    said = Savings(100, transferred, saved).sentence()
    if said:
        click.echo(f"bytes      {said.partition(' by ')[0]}, by its last 100 refreshes")
    words = validators_in_words(spec, settings)
    if words:
        click.echo(f"validators {words}; see docs/validators.md")


def validators_in_words(spec: SourceSpec, settings: Settings) -> str:
    """Return which validators are not believed or not sent, empty where none is known to be bad."""
    try:
        return state_in_words(recall(settings.data_dir, spec.source, ""))
    except (OSError, sqlite3.Error):
        return ""
