"""Everything that knows Dagster: assets, schedules, sensors, runs and the event log."""

import warnings

from dagster import BetaWarning

# Code references and backfill policies are beta in the pinned Dagster; the pin is our answer, and a
# warning on each command is none.
warnings.filterwarnings("ignore", category=BetaWarning)
