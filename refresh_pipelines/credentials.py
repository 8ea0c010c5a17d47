"""The declared credential of a source: which one is missing, and its value where a request is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refresh_pipelines.errors import RefreshError, UpstreamRefused
from refresh_pipelines.redact import holding, mask
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

PLACEHOLDER = "sandbox-placeholder"


def missing_key(spec: SourceSpec, settings: Settings) -> str | None:
    """Return the name of the variable a source needs and has not; the sandbox needs none."""
    auth = spec.request.auth
    return auth.env if auth and not settings.sandbox and not settings.environ.get(auth.env, "").strip() else None


def credential(spec: SourceSpec, settings: Settings) -> str:
    """Return the value to send: empty without `auth`, a placeholder for the sandbox; without white space around it.

    Raises:
        UpstreamRefused: the variable is not set, or holds what no request can carry.
    """
    auth, missing = spec.request.auth, missing_key(spec, settings)
    if missing:
        raise UpstreamRefused(f"{missing} is not set", todo=f"Set {missing} in the environment or in .env.")
    if auth is None:
        return ""
    value = settings.environ.get(auth.env, "").strip() or PLACEHOLDER
    if not (value.isascii() and value.isprintable()):
        raise UpstreamRefused(
            f"the value of {auth.env} cannot be sent",
            expected="printable ASCII on one line",
            came=f"{len(value)} characters with others among them",
            todo="Copy the key again.",
        )
    return value


@contextmanager
def unspoken(spec: SourceSpec, settings: Settings) -> Iterator[None]:
    """Keep a source's credential out of all errors made inside, whoever quotes an answer that repeats it.

    An error that leaves is chained to nothing that holds the credential.
    """
    auth = spec.request.auth
    with holding([settings.environ.get(auth.env, "").strip()] if auth else []):
        try:
            yield
        except RefreshError as error:
            _unchain(error)
            raise


def _unchain(error: BaseException) -> None:
    behind = error.__cause__ or error.__context__
    if behind is None or behind is error:  # an error may have been raised from itself
        return
    said = f"{behind} {behind!r}"
    if mask(said) != said:
        error.__cause__ = error.__context__ = None
    else:
        _unchain(behind)
