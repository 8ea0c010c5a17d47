"""Which declared credential is missing. Values are read where a request is made and nowhere else."""

from __future__ import annotations

from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec


def missing_key(spec: SourceSpec, settings: Settings) -> str | None:
    """Return the name of the variable a source needs and has not; the sandbox needs none."""
    auth = spec.request.auth
    return auth.env if auth and not settings.sandbox and not settings.environ.get(auth.env) else None
