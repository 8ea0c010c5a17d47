"""What one source declares: the YAML's grammar as frozen models. No reading of files, no behaviour.

Rules that need only one value live here as validators; rules over more than that are in `rules`.
"""

from refresh_pipelines.spec.archive import Archive
from refresh_pipelines.spec.base import LONGEST, TABLE_NAME, Model
from refresh_pipelines.spec.derived import Derive, Requires
from refresh_pipelines.spec.drop import Drop
from refresh_pipelines.spec.layout import Layout, Measure, Taken
from refresh_pipelines.spec.reconcile import RESULT, Reconcile
from refresh_pipelines.spec.request import Auth, Each, Format, Paging, Request
from refresh_pipelines.spec.signal import Signal
from refresh_pipelines.spec.source import DEFAULT_TIME_LIMIT, PARSE_REVISION, Alerts, Expect, SourceSpec, SourceYaml
from refresh_pipelines.spec.table import DIRECTIVES, Column, Load
from refresh_pipelines.spec.timing import Breaker, Freshness, Partitions, Retry, Schedule

__all__ = [
    "DEFAULT_TIME_LIMIT", "DIRECTIVES", "LONGEST", "PARSE_REVISION", "RESULT", "TABLE_NAME",
    "Alerts", "Archive", "Auth", "Breaker", "Column", "Derive", "Drop", "Each", "Expect", "Format", "Freshness",
    "Layout", "Load", "Measure", "Model", "Paging", "Partitions", "Reconcile", "Request", "Requires", "Retry",
    "Schedule", "Signal", "SourceSpec", "SourceYaml", "Taken",
]  # fmt: skip
