"""The default IO manager: one that refuses, so that nothing is ever pickled to disk by accident."""

from __future__ import annotations

from typing import Any, NoReturn

import dagster as dg


class RefusingIOManager(dg.IOManager):
    """Assets write their table themselves; a returned value has no home."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> NoReturn:
        """Refuse a returned value."""
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} returned a {type(obj).__name__}; assets here return "
            "MaterializeResult and write their rows to the warehouse themselves.",
            allow_retries=False,
        )

    def load_input(self, context: dg.InputContext) -> NoReturn:
        """Refuse to load: downstream assets name their upstream in `deps` and read its table."""
        raise dg.Failure(
            f"{context.asset_key.to_user_string()} cannot be loaded as a value; name it in `deps` and read its table.",
            allow_retries=False,
        )
