"""Rules that the grammar cannot say: each looks at a draft and yields problems. Pure, no files.

`check_draft` runs them all. A rule reports what is wrong with the sections it can read and is
silent about those the grammar already refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem
from refresh_pipelines.rules.addresses import check_addresses
from refresh_pipelines.rules.archive import check_redact
from refresh_pipelines.rules.batches import check_batch
from refresh_pipelines.rules.columns import check_column_names, check_columns_named, check_demands, check_fields
from refresh_pipelines.rules.drops import check_drop
from refresh_pipelines.rules.gates import check_derived, check_requires
from refresh_pipelines.rules.identity import check_identity, check_whole
from refresh_pipelines.rules.loading import check_snapshot
from refresh_pipelines.rules.placeholders import check_placeholders
from refresh_pipelines.rules.requests import check_document, check_each, check_paging, check_span
from refresh_pipelines.rules.secrets import check_secrets
from refresh_pipelines.rules.signals import check_signal, check_where
from refresh_pipelines.rules.timing import check_breaker, check_retry, check_rhythm, check_time_limit, check_zone

RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    check_whole,
    check_identity,
    check_addresses,
    check_secrets,
    check_placeholders,
    check_column_names,
    check_columns_named,
    check_demands,
    check_fields,
    check_document,
    check_each,
    check_paging,
    check_span,
    check_signal,
    check_where,
    check_drop,
    check_snapshot,
    check_redact,
    check_rhythm,
    check_zone,
    check_batch,
    check_retry,
    check_time_limit,
    check_breaker,
    check_requires,
    check_derived,
)


def check_draft(draft: Draft) -> list[Problem]:
    """Return every problem the rules see in one source, in the order of the rules."""
    return [problem for rule in RULES for problem in rule(draft)]


__all__ = ["RULES", "check_draft"]
