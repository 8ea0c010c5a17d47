"""Which rows of a payload or of a catalogue are meant, by the texts in their fields (`where`)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SCHEMA = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    },
}


def as_where(value: Any) -> Any:
    """Read `{Area Code: "53", Element: [a, b]}`; raise ValueError unless each field has one text or several."""
    if not isinstance(value, dict):
        return value
    out = {}
    for name, wanted in value.items():
        texts = wanted if isinstance(wanted, list | tuple) else [wanted]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"where: {name} must be a text or a list of texts (put numbers in quotes)")
        out[name] = tuple(texts)
    return out


Where = Annotated[dict[str, tuple[str, ...]], BeforeValidator(as_where), WithJsonSchema(_SCHEMA)]
