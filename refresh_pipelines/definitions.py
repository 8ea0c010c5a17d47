"""The code location: what `dagster dev` and every run load."""

from refresh_pipelines import log
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.internals_servers import outlive_outages
from refresh_pipelines.settings import Settings

_settings = Settings.load()
log.configure(_settings)
outlive_outages()
defs = build_definitions(_settings)
