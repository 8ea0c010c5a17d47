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

from refresh_pipelines import postgres_url
from refresh_pipelines.redact import redact
from refresh_pipelines.units import parse_duration

BUILTIN_CATALOG = Path(__file__).parent / "catalog"
SAMPLES = Path(__file__).parent / "samples"


DEFAULT_ROUTE = "default"
KEEP_RUNS, _LEAST_KEPT = timedelta(days=90), timedelta(days=1)
INSTANCE = "REFRESH_INSTANCE"
_WEBHOOK = "REFRESH_WEBHOOK_"
# What follows REFRESH_WEBHOOK_ and names no route.
_NO_ROUTES = ("URL", "SECRET", "FORMAT")
_FORMAT = "_FORMAT"
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
_LOG_FORMATS: Mapping[str, LogFormat] = {"text": "text", "json": "json"}
_LOG_LEVELS: Mapping[str, LogLevel] = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"}
Launcher = Literal["default", "prefork"]
_LAUNCHERS: Mapping[str, Launcher] = {"default": "default", "prefork": "prefork"}
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
        warehouse: URL of the warehouse, with its password; `warehouse_name` is for people.
        instance: address of the PostgreSQL database that holds Dagster's history, with its password; None for SQLite
            below `data_dir`. `instance_name` is for people.
        upstream: None for the real hosts, otherwise the base URL that stands in for them.
        sandbox: whether `upstream` is the bundled sandbox, where a missing key is filled in.
        stop_timeout: how long `refresh stop` waits for runs before it ends them.
        keep_runs: how long runs that have ended are kept; None for ever.
        launcher: whether runs that Dagster's daemon starts are forked from a process that has loaded everything.
        schedules_enabled: whether schedules and sensors may request runs; what a person starts runs in any case.
        webhooks: where alerts go, by route; `default` is REFRESH_WEBHOOK_URL, `desk` is REFRESH_WEBHOOK_DESK.
        webhook_secret: signs what is posted there.
        api_bind: the address the API listens at; any but one of loopback needs a token.
        api_token: what a caller of the API must show; None: nothing, which only loopback may have.
        api_hosts: names, beside those of loopback, that requests to the API may be addressed to.
        log_file: path of the log; "-" is stderr, "" is none.
        environ: the merged environment, from which declared credentials are read.
    """

    root: Path
    data_dir: Path
    catalog: tuple[Path, ...]
    warehouse: str = field(repr=False)
    instance: str | None = field(default=None, repr=False)
    upstream: str | None = None
    sandbox: bool = False
    sandbox_port: int = 8088
    lock_timeout: timedelta = timedelta(minutes=5)
    stop_timeout: timedelta = timedelta(minutes=5)
    keep_runs: timedelta | None = KEEP_RUNS
    launcher: Launcher = "default"
    schedules_enabled: bool = True
    webhooks: Mapping[str, Webhook] = field(default_factory=dict, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    api_bind: str = "127.0.0.1"
    api_port: int = 8087
    api_token: str | None = field(default=None, repr=False)
    api_hosts: tuple[str, ...] = ()
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
            warehouse=read_warehouse(env.get("REFRESH_WAREHOUSE"), root, data_dir),
            instance=_instance(env.get(INSTANCE)),
            upstream=_upstream(upstream, port),
            sandbox=upstream == "sandbox",
            sandbox_port=port,
            lock_timeout=_duration(env, "REFRESH_LOCK_TIMEOUT", timedelta(minutes=5)),
            stop_timeout=_duration(env, "REFRESH_STOP_TIMEOUT", timedelta(minutes=5)),
            keep_runs=_keep_runs(env, "REFRESH_KEEP_RUNS"),
            launcher=_one_of(env, "REFRESH_LAUNCHER", _LAUNCHERS, "default"),
            schedules_enabled=_yes(env, "REFRESH_SCHEDULES_ENABLED", True),
            webhooks=_webhooks(env),
            webhook_secret=env.get("REFRESH_WEBHOOK_SECRET") or None,
            api_bind=env.get("REFRESH_API_BIND") or "127.0.0.1",
            api_port=_port(env, "REFRESH_API_PORT", 8087),
            api_token=_token(env, "REFRESH_API_TOKEN"),
            api_hosts=_hosts(env, "REFRESH_API_HOSTS"),
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
    def warehouse_name(self) -> str:
        """The warehouse as it may be shown: the path of the file, or the address without its password and options."""
        if self.warehouse.startswith("duckdb://"):
            return str(self.warehouse_file)
        return postgres_url.shown(self.warehouse)

    @property
    def instance_name(self) -> str:
        """Where Dagster's history is, as it may be shown."""
        return postgres_url.shown(self.instance) if self.instance else str(self.data_dir / "dagster")

    @property
    def warehouse_file(self) -> Path:
        """Path of the DuckDB file; not for a warehouse in PostgreSQL."""
        if not self.warehouse.startswith("duckdb://"):
            raise ValueError("the warehouse is no file")
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


def read_warehouse(text: str | None, root: Path, data_dir: Path) -> str:
    """Return the URL of a warehouse, with the path of a file made absolute. Raises SettingsError."""
    if not text:
        return f"duckdb://{data_dir / 'warehouse.duckdb'}"
    if text.startswith("duckdb:///"):
        # As in SQLAlchemy: three slashes start a relative path, four an absolute one.
        return f"duckdb://{(root / text.removeprefix('duckdb:///')).resolve()}"
    if text.startswith(("postgresql://", "postgres://")):
        return text
    raise SettingsError(
        f"REFRESH_WAREHOUSE={redact(text)!r}: expected duckdb:///path (relative), duckdb:////path (absolute) or "
        "postgresql://user:password@host/database"
    )


def _instance(text: str | None) -> str | None:
    if not text:
        return None
    try:
        return postgres_url.read_address(text)
    except ValueError as error:
        raise SettingsError(f"{INSTANCE}: expected {postgres_url.EXPECTED}; {error}") from None


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


def _keep_runs(env: Mapping[str, str], name: str) -> timedelta | None:
    if (env.get(name) or "").strip().lower() == "forever":
        return None
    kept = _duration(env, name, KEEP_RUNS)
    if kept < _LEAST_KEPT:
        raise SettingsError(f"{name}={env[name]!r}: expected at least 1d, or forever")
    return kept


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


def _token(env: Mapping[str, str], name: str) -> str | None:
    text = (env.get(name) or "").strip()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise SettingsError(f"{name}: expected printable ASCII without spaces, as a header can carry it")
    return text or None


def _hosts(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in (env.get(name) or "").split(",") if part.strip())
    wrong = next((host for host in hosts if not re.fullmatch(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]", host)), None)
    if wrong is not None:
        raise SettingsError(f"{name}: {wrong!r} is no host name; expected names without port, such as api.example.org")
    return hosts


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingsError(f"{name}={text!r}: expected a port number")
    return int(text)
