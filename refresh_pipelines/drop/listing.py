"""A folder of dropped files, wherever fsspec can reach: listed, and copied from one file at a time.

Credentials come from the environment (AWS_ACCESS_KEY_ID and the like), never from the YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refresh_pipelines.drop.stability import Seen, Sighting
from refresh_pipelines.errors import InternalError, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Drop, SourceSpec
from refresh_pipelines.window import fill, window_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

S3 = frozenset({"s3", "s3a"})
LOCAL = frozenset({"", "file", "local"})
PROTOCOLS = LOCAL | S3 | {"gs", "gcs", "az", "abfs", "abfss"}
# What browsers, copying programs and office suites call a file they have not finished, or hold open.
_UNFINISHED = (".tmp", ".part", ".crdownload")
_LOCKED = "~$"
_VERSIONS = ("ETag", "etag", "VersionId", "generation", "md5Hash", "content_md5")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class MissingCredential(UpstreamRefused):
    """Nobody said with which credential the folder may be read."""


class Moved(Exception):
    """The file was changed or taken away between the listing and the copy."""


def folder_url(spec: SourceSpec) -> str:
    """Return the folder of a source's drop with its params filled in. Raises UpstreamRefused."""
    return fill(drop_of(spec).url, window_of(spec, None), "request.drop.url").rstrip("/")


def drop_of(spec: SourceSpec) -> Drop:
    """Return a source's drop. Raises InternalError where there is none: the caller has asked the wrong source."""
    if spec.request.drop is None:
        raise InternalError(f"{spec.name} has no drop")
    return spec.request.drop


def protocol_of(url: str) -> str:
    """Return the storage a folder lies in: `s3` for s3://bucket, "" for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return found[1].lower() if found else ""


class Folder:
    """The folder of a source's drop. Opening it connects to nothing yet."""

    def __init__(self, spec: SourceSpec, settings: Settings) -> None:
        self.spec, self.settings = spec, settings
        self.url = folder_url(spec)
        self.sandboxed = _sandboxed(spec, settings)
        self.local = self.sandboxed is not None or protocol_of(self.url) in LOCAL
        environ = settings.environ
        self._secrets = [environ[name] for name in _SECRET_NAMES if environ.get(name)]
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def files(self) -> list[Seen]:
        """Return every file that the pattern names, the marker included, sorted by key.

        Symbolic links are passed over: one that stays inside is another name of a file that is
        listed anyway, and one that leaves leads to what nobody has dropped.

        A relative folder that does not exist is made: it is ours, and nobody has dropped anything yet. An
        absolute one may be a disk that is not mounted, and a run would take it for empty.

        Raises:
            MissingCredential: see there.
            UpstreamRefused: the folder does not exist or may not be read.
            UpstreamUnavailable: the storage could not be reached.
        """
        with self._told(f"the folder {self.url}"):
            fs, root = self._open()
            if self.local and _is_below(root, self.settings.root, self.url):
                fs.makedirs(root, exist_ok=True)
            if self.local and not fs.isdir(root):
                raise FileNotFoundError(root)
            found = fs.find(root, detail=True)
        drop = drop_of(self.spec)
        wanted = pattern_of(drop.pattern)
        keys = {name[len(root) :].lstrip("/"): info for name, info in found.items()}
        return [
            _seen(key, info)
            for key, info in sorted(keys.items())
            if _is_file(info) and _is_whole_name(key) and (wanted.fullmatch(key) or _is_marker(drop, key))
        ]

    def copy(self, seen: Sighting, to: Path) -> None:
        """Copy one file, and make sure that it is the one that was listed.

        Raises:
            Moved: it is another one by now, or gone.
            UpstreamRefused: it may not be read.
            UpstreamUnavailable: the storage could not be reached.
        """
        with self._told(f"file {seen.key!r} in {self.url}"):
            fs, root = self._open()
            try:
                fs.get_file(f"{root}/{seen.key}", str(to))
                info = fs.info(f"{root}/{seen.key}")
            except FileNotFoundError as error:
                raise Moved(seen.key) from error
        if not _is_file(info) or _seen(seen.key, info).version != seen.version or to.stat().st_size != seen.size:
            raise Moved(seen.key)

    def _open(self) -> tuple[AbstractFileSystem, str]:
        if self._opened is None:
            # Only where files are really looked at: s3fs and botocore take half a second to import.
            import fsspec  # noqa: PLC0415

            if self.local:
                path = self.sandboxed or self.settings.root / re.sub(r"^(file|local)://", "", self.url)
                self._opened = fsspec.filesystem("file"), str(path).rstrip("/")
            else:
                options = storage_options(self.spec, self.settings)
                fs, root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, **options)
                self._opened = fs, root.rstrip("/")
        return self._opened

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn whatever a storage raises into an error of ours without its secrets."""
        try:
            yield
        except (RefreshError, Moved):
            raise
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own; raised below
            problem = _problem(error, what, redact(str(error), self._secrets))
        else:
            return
        # Outside the handler, so that no cause with a secret in it is chained.
        raise problem


def _is_below(path: str, root: Path, url: str) -> bool:
    """Whether a folder was given relative to the root, and lies there."""
    given = Path(re.sub(r"^(file|local)://", "", url))
    return not given.is_absolute() and Path(path).resolve().is_relative_to(root.resolve())


def _sandboxed(spec: SourceSpec, settings: Settings) -> Path | None:
    """Return the folder of files that the sandbox has dropped for this source, if it has one."""
    folders = [folder / spec.source / "drop" for folder in settings.samples if settings.sandbox]
    return next((folder for folder in folders if folder.is_dir()), None)


_SECRET_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def storage_options(spec: SourceSpec, settings: Settings) -> dict[str, Any]:
    """Return what fsspec opens a remote folder with: the YAML's options, and credentials of the environment."""
    environ = settings.environ
    options: dict[str, Any] = dict(drop_of(spec).options)
    if protocol_of(folder_url(spec)) not in S3:
        return options
    seconds = spec.request.timeout.total_seconds()
    waits = {"connect_timeout": seconds, "read_timeout": seconds, "retries": {"max_attempts": 3}}
    options.update(use_listings_cache=False, config_kwargs=waits)
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY") and not options.get("anon"):
        # `.env` is not in the process's own environment, where botocore would look.
        options.update(key=environ["AWS_ACCESS_KEY_ID"], secret=environ["AWS_SECRET_ACCESS_KEY"])
        if environ.get("AWS_SESSION_TOKEN"):
            options["token"] = environ["AWS_SESSION_TOKEN"]
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if region:
        options["client_kwargs"] = {"region_name": region}
    return options


def _problem(error: Exception, what: str, said: str) -> RefreshError:
    name, came = type(error).__name__, said[:300] or type(error).__name__
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        todo = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment or in .env, or say anon: true."
        return MissingCredential(f"{what} needs a credential", came=came, todo=todo)
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        todo = "Make the folder, or correct request.drop.url. A folder that is not there is no empty one."
        return UpstreamRefused(f"{what} does not exist", came=came, todo=todo)
    if isinstance(error, PermissionError):
        todo = "Give this user the right to list and read it; for object storage, check the credential."
        return UpstreamRefused(f"{what} may not be read", came=came, todo=todo)
    if isinstance(error, ImportError | ValueError | TypeError):
        todo = "Correct request.drop.url and request.drop.options, or install the package that is named."
        return UpstreamRefused(f"{what} cannot be opened", came=came, todo=todo)
    return UpstreamUnavailable(
        f"{what} could not be read", came=f"{name}: {came}", todo="It will be tried again by the next look."
    )


@lru_cache(maxsize=512)
def pattern_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Return globs as one pattern: `*` and `?` stay within a name, `**/` is any number of folders, none included.

    Raises:
        ValueError: a glob that nothing can match: empty, absolute, or with `..`.
    """
    return re.compile("|".join(f"(?:{_translated(glob)})" for glob in globs))


def _translated(glob: str) -> str:
    if not glob or glob.startswith("/") or ".." in glob.split("/"):
        raise ValueError(f"the pattern {glob!r} lies outside the folder (write it relative, for instance **/*.csv)")
    out, parts = [], glob.split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            out.append(".+" if last else "(?:[^/]+/)*")
        else:
            out.append(re.sub(r"\\\*", "[^/]*", re.escape(part)).replace(r"\?", "[^/]") + ("" if last else "/"))
    return "".join(out)


def _is_whole_name(key: str) -> bool:
    parts = key.split("/")
    name = parts[-1]
    if any(part.startswith(".") for part in parts) or name.startswith(_LOCKED):
        return False
    return bool(name) and not name.lower().endswith(_UNFINISHED)


def _is_marker(drop: Drop, key: str) -> bool:
    return drop.marker is not None and key.rpartition("/")[2] == drop.marker


def _is_file(info: Mapping[str, Any]) -> bool:
    return info.get("type") == "file" and not info.get("islink")


def _seen(key: str, info: Mapping[str, Any]) -> Seen:
    size = int(info.get("size") or 0)
    touched = _touched(info)
    version = next((str(info[name]).strip('"') for name in _VERSIONS if info.get(name)), None)
    if version is None:
        version = f"{info.get('mtime') or touched}-{size}"
    return Seen(key, size, version, touched)


def _touched(info: Mapping[str, Any]) -> datetime | None:
    """Return when a file was last touched. Programs that keep an old time set it when they have written the rest."""
    return next((at for name in _TIMES if (at := _instant(info.get(name)))), None)


def _instant(value: Any) -> datetime | None:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, timezone.utc)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    # Libraries hand in UTC as a zone of their own, which the standard library does not take for UTC.
    return value.replace(tzinfo=value.tzinfo or timezone.utc).astimezone(timezone.utc)
