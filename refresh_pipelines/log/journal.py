"""Where events go: to nobody until a process says so with `configure`, so that a library's user is not surprised.

One journal for a process, as with Python's own logging: events happen in places that know no settings, such as locks.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback as tracebacks
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from refresh_pipelines.clock import utc_now
from refresh_pipelines.log.events import BASE, EVENTS, LEVELS, Kind
from refresh_pipelines.log.file import LogFile
from refresh_pipelines.log.lines import Value, json_line, text_line
from refresh_pipelines.log.secrets import secrets_of
from refresh_pipelines.redact import MASK, redact, written
from refresh_pipelines.settings import LogLevel as Level
from refresh_pipelines.settings import Settings

Given = Value | Iterable[str] | datetime | None
_PACKAGE = "refresh_pipelines"
_ANY = Kind(("info",))
# A traceback through a deep recursion, or an answer that an error quotes.
_LONGEST = 20_000
_BOUND: ContextVar[Mapping[str, Given]] = ContextVar("bound", default=MappingProxyType({}))


class Journal:
    """Writes records, without secrets, where the settings say. What cannot be written is said once and then lost."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        self.least = LEVELS[settings.log_level]
        self.line = json_line if settings.log_format == "json" else text_line
        self.file = LogFile(Path(settings.log_file)) if settings.log_file not in ("", "-") else None
        self.told = False
        self._secrets: set[str] = set()
        self._forms: tuple[str, ...] | None = None

    def guard(self, secrets: Iterable[str]) -> None:
        """Have further values masked from now on."""
        self._secrets.update(secret for secret in secrets if secret)
        self._forms = None

    def write(self, name: str, message: str, level: Level, fields: Mapping[str, Given]) -> None:
        """Write one record."""
        if LEVELS[level] < self.least or not self.settings.log_file:
            return
        at = self.clock().replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
        known = {"time": at, "level": level, "event": name, **_BOUND.get(), "message": message, **fields}
        known["pid"] = os.getpid()
        ordered = [*BASE[:-1], *(field for field in known if field not in BASE), BASE[-1]]
        record = {field: value for field in ordered if (value := self._value(known.get(field))) not in (None, "", [])}
        self._put(self.line(record))

    def _value(self, value: Given) -> Value | None:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return round(value, 3)
        if isinstance(value, datetime):
            return value.isoformat(timespec="seconds")
        return self._clean(value) if isinstance(value, str) else [self._clean(one) for one in value]

    def _clean(self, text: str) -> str:
        if self._forms is None:
            self._forms = written([*secrets_of(self.settings), *self._secrets])
        for form in self._forms:
            text = text.replace(form, MASK)
        # Cut after what is known is masked, since half a key is too much of it, and before the search for the rest.
        return redact(text if len(text) <= _LONGEST else text[:_LONGEST] + " …")

    def _put(self, line: str) -> None:
        try:
            if self.file:
                self.file.append(line)
            else:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
        except (OSError, ValueError) as error:  # ValueError: stderr was closed
            self._say(str(error))

    def _say(self, reason: str) -> None:
        if not self.told:
            self.told = True
            with suppress(OSError, ValueError):
                sys.stderr.write(
                    f"The log (REFRESH_LOG_FILE) cannot be written, refreshes go on without it: {reason}\n"
                )


class _Handler(logging.Handler):
    """Takes what the package's modules log by Python's own means; warnings are still seen where nobody else listens."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        number = max((n for n in LEVELS.values() if n <= record.levelno), default=LEVELS["debug"])
        level = next(name for name, n in LEVELS.items() if n == number)
        trace = "".join(tracebacks.format_exception(*record.exc_info)) if record.exc_info else None
        self.journal.write("log", record.getMessage(), level, {"logger": record.name, "traceback": trace})
        unheard = not logging.getLogger().handlers and self.journal.settings.log_file != "-"
        if logging.lastResort and unheard and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)


_journal: Journal | None = None
_handler: _Handler | None = None
_said: set[str] = set()


def configure(settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
    """Have this process log as the settings say. Opens nothing: the file is made with the first line."""
    global _journal, _handler  # noqa: PLW0603 - as Python's logging, one for a process
    switch_off()
    _journal = Journal(settings, clock)
    _handler = _Handler(_journal)
    logger = logging.getLogger(_PACKAGE)
    logger.addHandler(_handler)
    logger.setLevel(_journal.least)


def switch_off() -> None:
    """Have this process log nothing, as before `configure`."""
    global _journal, _handler  # noqa: PLW0603
    if _handler:
        logging.getLogger(_PACKAGE).removeHandler(_handler)
        logging.getLogger(_PACKAGE).setLevel(logging.NOTSET)
    _journal = _handler = None
    _said.clear()


def guard(secrets: Iterable[str]) -> None:
    """Have the values masked in every line of this process from now on."""
    if _journal:
        _journal.guard(secrets)


def event(name: str, message: str = "", *, level: Level | None = None, **fields: Given) -> None:
    """Log one of `EVENTS`; never raises for what it is given or for the file.

    Args:
        name: of the event.
        message: a sentence for people.
        level: where the event has more than one; its first one otherwise.
        fields: its own, and any of the base that `bound` does not say. None and "" are left out.
    """
    _write(name, message, level, fields)


def once(name: str, message: str = "", **fields: Given) -> None:
    """Log an event that this process has not logged yet with the same fields."""
    key = f"{name} {sorted(fields.items())}"
    if key not in _said:
        _said.add(key)
        _write(name, message, None, fields)


def _write(name: str, message: str, level: Level | None, fields: Mapping[str, Given]) -> None:
    if _journal:
        _journal.write(name, message, level or EVENTS.get(name, _ANY).levels[0], fields)


@contextmanager
def bound(**fields: Given) -> Iterator[None]:
    """Have every event inside say these fields, also those of parts that know nothing of sources or runs."""
    before = _BOUND.get()
    _BOUND.set({**before, **fields})
    try:
        yield
    finally:
        # Not by the token: a generator may be closed in another context than the one it began in.
        _BOUND.set(before)
