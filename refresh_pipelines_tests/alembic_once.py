"""Imported for its effect: Alembic reads Dagster's migration scripts once in a test process, and not for each database.

Dagster looks at every SQLite file it opens with them, a tenth of a second each time; with thousands of files in a
test run that is a fifth of all the time there is.
"""

from __future__ import annotations

from functools import lru_cache

from alembic.config import Config
from alembic.script import ScriptDirectory

_from_config = ScriptDirectory.from_config


@lru_cache
def _at(location: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", location)
    return _from_config(config)


def _read_once(config: Config) -> ScriptDirectory:
    return _at(config.get_main_option("script_location") or "")


ScriptDirectory.from_config = staticmethod(_read_once)  # type: ignore[method-assign]
