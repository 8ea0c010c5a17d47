"""The code location: what `dagster dev` and every run load."""

import gc

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.settings import Settings

defs = build_definitions(Settings.load())
# All of it stays for as long as the process: garbage is not looked for in it again.
gc.freeze()
