"""Work that does not end by itself: time limits, killed and suspended processes, and what the next run finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import dagster as dg
import duckdb
import pytest

from refresh_pipelines.limit import STAGES, Limit, too_long
from refresh_pipelines.orchestration.stuck import end_stuck, settle
from refresh_pipelines_tests.dagster_bench import at, partitions, values, wait_until
from refresh_pipelines_tests.workbench import say  # noqa: F401

KEYS = ("DEXUSEU", "DEXMXUS")


def short(bench, seconds=0.2):
    """Give refreshes of the source less time than `refresh check` would allow."""
    definitions = bench.catalogue().sources

    def find(name):
        return definitions[name].model_copy(update={"time_limit": timedelta(seconds=seconds)})

    return find
