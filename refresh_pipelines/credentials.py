"""The declared credential of a source: which one is missing, and its value where a request is made."""

from __future__ import annotations

from refresh_pipelines.errors import UpstreamRefused
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
