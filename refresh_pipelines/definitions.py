"""The code location: what `dagster dev` and every run load."""

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.settings import Settings

defs = build_definitions(Settings.load())
