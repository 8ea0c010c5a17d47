"""The catalogue watcher: sees that source files have changed, says what is wrong with them, and asks for a reload.

It looks at names, sizes and times, reads files only when those have changed, and waits until they stand still, since an
editor or a checkout writes in pieces. Reloading is safe whatever the files say: what cannot be loaded runs on
(`lastgood`), and shows its problems only once the definitions are read anew. Knows neither Dagster nor a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import scandir, stat_result
from pathlib import Path

from refresh_pipelines import log
from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.settings import Settings, SettingsError

# Seconds between two looks, and between two looks at what has changed or waits for a reload.
IDLE, BUSY = 2.0, 1.0
# Folder, group, and what lies too deep to be a source, which is a problem to be shown.
_DEPTH = 3

_SUFFIXES = (".yaml", ".yml")
# Seconds between two looks at definitions that are live, and the longest between two tries to load broken ones.
HEALTHY, HEAL_MOST = 30.0, 600.0

Look = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class NotReloaded:
    """A reload that did not happen.

    Attributes:
        again: whether asking once more may help: the server is not there yet, or is busy.
    """

    reason: str
    again: bool


class Watcher:
    """Looks at the catalogue step by step.

    Args:
        read_settings: reads the settings anew, since `.env` is watched too. May raise SettingsError.
        reload: loads the definitions anew; returns None when they are live.
        say: prints a line for people.

    Raises:
        SettingsError: at construction, when there is nothing to watch yet.
    """

    def __init__(
        self,
        read_settings: Callable[[], Settings],
        reload: Callable[[], NotReloaded | None],
        say: Callable[[str], None],
    ) -> None:
        self._read_settings, self._reload, self._say = read_settings, reload, say
        self._settings = read_settings()
        self._look = look(self._settings)
        self._digest = _digest(self._look)
        self._moving = self._waiting = False
        self._said: str | None = None
        self._problems = 0

    def step(self) -> float:
        """Look once, do what is due, and return the seconds to wait before the next step."""
        now = look(self._settings)
        if now != self._look:
            self._look, self._moving = now, True
            return BUSY
        if self._moving:
            self._moving = False
            self._take_up(_digest(now))
        if self._waiting:
            self._ask()
        return BUSY if self._waiting else IDLE

    def _take_up(self, digest: str) -> None:
        """Decide what a change that stands still means."""
        if digest == self._digest:
            return
        self._digest = digest
        try:
            self._settings = self._read_settings()
        except SettingsError as error:
            # Definitions that cannot be loaded at all would take the place of those that run.
            self._say(f"catalogue: not reloaded, {error}")
            log.event("catalogue.not_reloaded", str(error), again=False)
            return
        problems = load_catalogue(self._settings.catalog, self._settings.environ).problems
        self._problems = sum(problem.severity == "error" for problem in problems)
        for problem in problems:
            if problem.severity == "error":
                self._say(f"catalogue: {problem}")
                log.event("catalogue.broken", problem.message, file=str(problem.file), line=problem.line)
        self._waiting, self._said = True, None

    def _ask(self) -> None:
        refused = self._reload()
        if refused is None:
            self._say("catalogue: the change is live")
            log.event("catalogue.reloaded", problems=self._problems)
        elif refused.reason != self._said:
            more = "; trying again" if refused.again else ""
            self._say(f"catalogue: not reloaded, {refused.reason}{more}")
            log.event("catalogue.not_reloaded", refused.reason, again=refused.again)
        self._said = refused.reason if refused else None
        self._waiting = refused is not None and refused.again


class Healer:
    """Has definitions loaded anew that could not be loaded: Dagster itself keeps the error until somebody asks.

    No source file makes them so. What does passes: Dagster's history, a disk or memory that was away just then.

    Args:
        broken: says why the definitions are not live, "" if they are or nobody can tell.
        reload: as the watcher's.
        say: prints a line for people.
    """

    def __init__(
        self, broken: Callable[[], str], reload: Callable[[], NotReloaded | None], say: Callable[[str], None]
    ) -> None:
        self._broken, self._reload, self._say = broken, reload, say
        self._pause, self._next = HEALTHY, float("-inf")

    def step(self, now: float) -> None:
        """Look if it is time to, by a clock that counts seconds; a try takes as long as loading does."""
        if now < self._next:
            return
        why, pause = self._broken(), HEALTHY
        if why and self._reload() is not None:
            pause = self._pause
            self._tell(f"the definitions cannot be loaded, next try in {pause:g} s: {why}")
        elif why:
            self._tell(f"the definitions could not be loaded and were loaded anew: {why}")
        self._pause = min(HEAL_MOST, 2 * pause)
        self._next = now + pause

    def _tell(self, text: str) -> None:
        self._say(text)
        log.event("log", text, level="warning", logger=__name__)


def look(settings: Settings) -> Look:
    """Return size, time and identity of every file that decides what the sources are; what is not there is left out."""
    found: dict[str, tuple[int, int, int]] = {}
    for folder in settings.catalog:
        _look_into(str(folder), _DEPTH, found)
    with suppress(OSError):
        found[str(settings.root / ".env")] = _mark((settings.root / ".env").stat())
    return found


def _look_into(folder: str, depth: int, found: dict[str, tuple[int, int, int]]) -> None:
    # Texts, not paths: with a thousand sources these are looked at every two seconds for ever.
    try:
        with scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        with suppress(OSError):  # gone since, or a link that leads nowhere
            if entry.name.lower().endswith(_SUFFIXES):
                found[entry.path] = _mark(entry.stat())
            elif depth > 1 and entry.is_dir():
                _look_into(entry.path, depth - 1, found)


def _mark(found: stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _digest(files: Look) -> str:
    """Return a hash of what the files say. One that cannot be read counts by its name."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path}\0".encode(errors="surrogateescape"))
        try:
            content = Path(path).read_bytes()
        except OSError:
            content = b""
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()
