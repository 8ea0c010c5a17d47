"""Settings, read once at start from the environment and `.env`; the only reader of either."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values

from refresh_pipelines.units import parse_duration

BUILTIN_CATALOG = Path(__file__).parent / "catalog"
SAMPLES = Path(__file__).parent / "samples"


DEFAULT_ROUTE = "default"
_WEBHOOK = "REFRESH_WEBHOOK_"
# What follows REFRESH_WEBHOOK_ and names no route.
_NO_ROUTES = ("URL", "SECRET", "FORMAT")
_FORMAT = "_FORMAT"
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
_LOG_FORMATS: Mapping[str, LogFormat] = {"text": "text", "json": "json"}
_LOG_LEVELS: Mapping[str, LogLevel] = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"}
Choice = TypeVar("Choice", bound=str)


class SettingsError(ValueError):
    """A setting cannot be used; the message names the variable, its value and what it should be."""


@dataclass(frozen=True)
class Webhook:
    """Where the notices of a route go, and whether as our JSON or as a Slack message."""

    url: str = field(repr=False)
    form: Literal["json", "slack"] = "json"

    @property
    def host(self) -> str:
        """The receiver's host, all of the address that is no secret."""
        return urlsplit(self.url).hostname or "?"


@dataclass(frozen=True)
class Settings:
    """What a person may set from outside.

    Attributes:
        root: folder that holds `dagster.yaml`; relative settings start there.
        catalog: catalogue folders, in order.
        upstream: None for the real hosts, otherwise the base URL that stands in for them.
        sandbox: whether `upstream` is the bundled sandbox, where a missing key is filled in.
        schedules_enabled: whether schedules and sensors may request runs; what a person starts runs in any case.
        webhooks: where alerts go, by route; `default` is REFRESH_WEBHOOK_URL, `desk` is REFRESH_WEBHOOK_DESK.
        webhook_secret: signs what is posted there.
        log_file: path of the log; "-" is stderr, "" is none.
        environ: the merged environment, from which declared credentials are read.
    """

    root: Path
    data_dir: Path
    catalog: tuple[Path, ...]
    warehouse: str
    upstream: str | None = None
    sandbox: bool = False
    sandbox_port: int = 8088
    lock_timeout: timedelta = timedelta(minutes=5)
    schedules_enabled: bool = True
    webhooks: Mapping[str, Webhook] = field(default_factory=dict, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    log_file: str = ""
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, root: Path | None = None) -> Settings:
        """Read settings; the environment wins over `.env`. Raises SettingsError."""
        root = (root or find_root()).resolve()
        given = os.environ if environ is None else environ
        from_file = {k: v for k, v in dotenv_values(root / ".env").items() if v is not None}
        env = {**from_file, **given}
        data_dir = (root / Path(env.get("REFRESH_DATA_DIR") or "data").expanduser()).resolve()
        upstream = env.get("REFRESH_UPSTREAM", "live") or "live"
        port = _port(env, "REFRESH_SANDBOX_PORT", 8088)
        return cls(
            root=root,
            data_dir=data_dir,
            catalog=_catalog(env.get("REFRESH_CATALOG", ""), root),
            warehouse=_warehouse(env.get("REFRESH_WAREHOUSE"), root, data_dir),
            upstream=_upstream(upstream, port),
            sandbox=upstream == "sandbox",
            sandbox_port=port,
            lock_timeout=_duration(env, "REFRESH_LOCK_TIMEOUT", timedelta(minutes=5)),
            schedules_enabled=_yes(env, "REFRESH_SCHEDULES_ENABLED", True),
            webhooks=_webhooks(env),
            webhook_secret=env.get("REFRESH_WEBHOOK_SECRET") or None,
            log_file=_log_file(env.get("REFRESH_LOG_FILE"), root, data_dir),
            log_format=_one_of(env, "REFRESH_LOG_FORMAT", _LOG_FORMATS, "text"),
            log_level=_one_of(env, "REFRESH_LOG_LEVEL", _LOG_LEVELS, "info"),
            environ=env,
        )

    @property
    def webhook_url(self) -> str | None:
        """Where alerts go that no route takes elsewhere."""
        hook = self.webhooks.get(DEFAULT_ROUTE)
        return hook.url if hook else None

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes that have a webhook, by name."""
        return tuple(sorted(self.webhooks))

    def webhook(self, route: str) -> Webhook | None:
        """Return where a route leads: its own webhook, or the one for all that have none; None: nobody is told."""
        return self.webhooks.get(route) or self.webhooks.get(DEFAULT_ROUTE)

    @property
    def warehouse_file(self) -> Path:
        """Path of the DuckDB file."""
        return Path(self.warehouse.removeprefix("duckdb://"))

    @property
    def samples(self) -> tuple[Path, ...]:
        """What the sandbox serves: `samples` beside each own catalogue folder, there or not, then the bundled ones."""
        own = [folder.parent / "samples" for folder in self.catalog if folder != BUILTIN_CATALOG]
        return (*dict.fromkeys(own), SAMPLES)


def find_root() -> Path:
    """Return the folder that holds dagster.yaml: the current one, or the checkout this package lies in."""
    checkout = Path(__file__).resolve().parent.parent
    for folder in (Path.cwd(), checkout):
        if (folder / "dagster.yaml").exists():
            return folder
    return Path.cwd()


def _catalog(text: str, root: Path) -> tuple[Path, ...]:
    names = [part for part in text.split(":") if part] or ["builtin"]
    return tuple(BUILTIN_CATALOG if name == "builtin" else (root / Path(name).expanduser()).resolve() for name in names)


def _warehouse(text: str | None, root: Path, data_dir: Path) -> str:
    if not text:
        return f"duckdb://{data_dir / 'warehouse.duckdb'}"
    if text.startswith("duckdb:///"):
        # As in SQLAlchemy: three slashes start a relative path, four an absolute one.
        return f"duckdb://{(root / text.removeprefix('duckdb:///')).resolve()}"
    raise SettingsError(f"REFRESH_WAREHOUSE={text!r}: expected duckdb:///path (relative) or duckdb:////path (absolute)")


def _upstream(text: str, port: int) -> str | None:
    if text == "live":
        return None
    if text == "sandbox":
        return f"http://127.0.0.1:{port}"
    if re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", text):
        return text.rstrip("/")
    raise SettingsError(
        f"REFRESH_UPSTREAM={text!r}: expected live, sandbox or a base URL such as http://127.0.0.1:8000"
    )


def _duration(env: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    text = env.get(name)
    if not text:
        return default
    try:
        return timedelta(seconds=float(text)) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{name}={text!r}: {error}") from error


def _yes(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = env.get(name) or ""
    meant = {"": default, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in meant:
        raise SettingsError(f"{name}={text!r}: expected true or false")
    return meant[text.strip().lower()]


def _webhooks(env: Mapping[str, str]) -> dict[str, Webhook]:
    found = {DEFAULT_ROUTE: _webhook(env, f"{_WEBHOOK}URL", "REFRESH_WEBHOOK_FORMAT")}
    for name in env:
        route = name.removeprefix(_WEBHOOK)
        if name.startswith(_WEBHOOK) and route not in _NO_ROUTES and not route.endswith(_FORMAT):
            found[route.lower()] = _webhook(env, name, name + _FORMAT) or found.get(route.lower())
    return {route: hook for route, hook in found.items() if hook}


def _webhook(env: Mapping[str, str], name: str, form: str) -> Webhook | None:
    url = env.get(name)
    said = env.get(form) or ("slack" if url and urlsplit(url).hostname == "hooks.slack.com" else "json")
    if said == "slack" and url:
        return Webhook(url, "slack")
    if said not in ("slack", "json"):
        raise SettingsError(f"{form}={said!r}: expected json or slack")
    return Webhook(url) if url else None


def _log_file(text: str | None, root: Path, data_dir: Path) -> str:
    if text is None:
        # Not `logs`: where the data folder is Dagster's home, Dagster's daemon posts what lies there to its maker and
        # takes it away, whatever dagster.yaml says of telemetry.
        return str(data_dir / "log" / "refresh.log")
    return text if text in ("", "-") else str((root / Path(text).expanduser()).resolve())


def _one_of(env: Mapping[str, str], name: str, choices: Mapping[str, Choice], default: Choice) -> Choice:
    said = env.get(name)
    if not said:
        return default
    if said.lower() not in choices:
        raise SettingsError(f"{name}={said!r}: expected {' or '.join(choices)}")
    return choices[said.lower()]


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingsError(f"{name}={text!r}: expected a port number")
    return int(text)
