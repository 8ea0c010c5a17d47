"""Text encodings, for all formats: what counts as UTF-8, and the error for text that is not what was declared."""

from __future__ import annotations

import codecs

from refresh_pipelines.body import excerpt
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.spec import Format


def is_utf8(name: str) -> bool:
    """Whether an encoding is UTF-8 or the part of it that is ASCII; leading byte-order marks are gone by then."""
    return codecs.lookup(name).name in {"utf-8", "utf-8-sig", "ascii"}


def not_encoded(what: str, form: Format, error: UnicodeDecodeError) -> ContractViolation:
    """Return the error for bytes that `form` has no reading for."""
    names = " or ".join(filter(None, [form.encoding, form.fallback]))
    return ContractViolation(
        f"{what} is not {names}",
        expected=f"text in {names}",
        came=f"{error.object[error.start : error.end]!r} in {excerpt(error.object[max(0, error.start - 20) :], 40)}",
        todo="Declare format.encoding, or with utf-8 format.fallback: latin-1 to accept and count such values.",
    )
