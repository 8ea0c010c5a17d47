"""`refresh schema`: what editors need to complete and check a source file while it is written."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import click
from pydantic.json_schema import GenerateJsonSchema

from refresh_pipelines.spec import SourceYaml
from refresh_pipelines.units import format_duration


class _AsWritten(GenerateJsonSchema):
    """Shows defaults the way a person writes them: 24h, not P1D."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def source_schema() -> dict[str, Any]:
    """Return the JSON Schema of a source file. Rules across keys are beyond it; `refresh check` has them."""
    schema = SourceYaml.model_json_schema(by_alias=True, schema_generator=_AsWritten)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


@click.command()
def schema() -> None:
    r"""Print the JSON Schema of a source file, for editors.

    Save it and name it in the first line of a source, and an editor with YAML support completes
    keys and marks mistakes:

    \b
        refresh schema > source.schema.json
        # yaml-language-server: $schema=source.schema.json
    """
    click.echo(json.dumps(source_schema(), indent=2, ensure_ascii=False))
