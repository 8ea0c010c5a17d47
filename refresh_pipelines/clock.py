"""The machine's clock, handed to whatever needs the time unless a test hands in another."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> datetime:
    """Return the time, UTC-aware."""
    return datetime.now(timezone.utc)
