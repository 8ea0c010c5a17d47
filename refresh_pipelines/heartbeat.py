"""The daemon's life sign in `data/status.json`, and what can be said of it when the daemon is dead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

# The sensor `failures` leaves one every half minute, and may take long over a receiver that does not answer.
_QUIET = timedelta(minutes=2)
_WAITS = "schedules, probes and alerts wait; `refresh start` or `make up` starts one."


@dataclass(frozen=True)
class Life:
    """What `status.json` says of the daemon.

    Attributes:
        at: when it looked last; None: never, or nobody can tell.
        problem: what is wrong with the file, "" for nothing.
    """

    at: datetime | None = None
    problem: str = ""

    @property
    def text(self) -> str | None:
        """The instant as JSON has it."""
        return self.at.astimezone(timezone.utc).isoformat(timespec="seconds") if self.at else None

    def sentence(self, now: datetime) -> str:
        """Return what a person should know of a daemon that does not look, "" while it does."""
        if self.at is None:
            return "" if self.problem else f"No daemon has ever looked here: {_WAITS}"
        age = now - self.at
        if age <= _QUIET:
            return ""
        return f"No daemon has looked for {_words(age)} (since {self.at:%Y-%m-%d %H:%M} UTC): {_WAITS}"


def status_file(data_dir: Path) -> Path:
    """Return the path of `status.json`."""
    return data_dir / "status.json"


def life_of(data_dir: Path) -> Life:
    """Return the daemon's newest life sign. A file that cannot be read is a problem to tell, and no error."""
    path = status_file(data_dir)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Life()
    except (OSError, UnicodeDecodeError) as error:
        return Life(problem=_damaged(path, getattr(error, "strerror", None) or "it is no text"))
    try:
        document = json.loads(text)
    except ValueError:
        return Life(problem=_damaged(path, "it is empty" if not text.strip() else "it is no JSON, or cut off"))
    said = document.get("heartbeat") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(said, str | None):
        return Life(problem=_damaged(path, "it holds something else"))
    return _life(path, said)


def _life(path: Path, said: str | None) -> Life:
    if said is None:
        return Life()
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return Life(problem=_damaged(path, f"its heartbeat is {said[:40]!r}"))
    return Life(at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc))


def _damaged(path: Path, why: str) -> str:
    return f"{path} cannot be read ({why}): the next refresh or the daemon writes a new one."


def _words(age: timedelta) -> str:
    minutes = int(age / timedelta(minutes=1))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"
