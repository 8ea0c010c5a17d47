"""One software-defined asset per source; what it is comes from the YAML, what it does from `execute`."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands.

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

from refresh_pipelines.catalogue import Catalogue, Stale
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.lineage import required_of
from refresh_pipelines.orchestration.checks import AGREE, PLAUSIBLE, own_checks
from refresh_pipelines.orchestration.looks import batch_of
from refresh_pipelines.orchestration.partitions import partitions_of
from refresh_pipelines.orchestration.report import COMPLETE, Result, key_of
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.problems import Broken
from refresh_pipelines.reconcile import query_of
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.spec import Column, SourceSpec
from refresh_pipelines.units import format_duration

_NO_OTHERS: Mapping[str, SourceSpec] = {}
_SIGNATURE = inspect.Signature(
    [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.AssetExecutionContext)],
    return_annotation=Iterator[Result],
)


def source_asset(
    spec: SourceSpec, workshop: Workshop, stale: Stale | None = None, sources: Mapping[str, SourceSpec] = _NO_OTHERS
) -> dg.AssetsDefinition:
    """Return the asset of a source.

    Args:
        stale: shows what is wrong with its file.
        sources: the catalogue's sources, by stem: those it requires stand before it in the lineage.
    """

    def refresh_source(context: dg.AssetExecutionContext) -> Iterator[Result]:
        # Here and not above: who only loads definitions (daemon, webserver) needs no Arrow and no DuckDB, half a second
        # and a hundred megabytes.
        from refresh_pipelines.orchestration.execute import execute  # noqa: PLC0415

        yield from execute(context, spec, workshop, sources)

    # The same for all; Dagster works it out seventeen times for each asset, a quarter of the time they take.
    refresh_source.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return dg.asset(
        key=key_of(spec),
        group_name=spec.group,
        description=_description(spec, missing_key(spec, workshop.settings), stale),
        deps=[_dependency(required) for required in required_of(spec, sources)],
        partitions_def=partitions_of(spec),
        backfill_policy=dg.BackfillPolicy.single_run() if spec.partitions else None,
        retry_policy=_retry_policy(spec),
        freshness_policy=_freshness_policy(spec),
        pool=None if spec.derived or batch_of(spec) else host_of(spec),
        output_required=False,
        check_specs=_checks(spec),
        metadata=_metadata(spec, stale),
        tags=_tags(spec, stale),
        owners=[spec.owner] if spec.owner else None,
        kinds=_kinds(spec),
        code_version=spec.spec_hash,
    )(refresh_source)


def broken_assets(catalogue: Catalogue) -> list[dg.AssetSpec]:
    """Return the visible stand-ins of sources whose YAML cannot be used: they show why and cannot run.

    A name may be the very thing that is wrong. One that Dagster refuses is made plain, and one that
    another asset bears gets a number: otherwise one bad file would take the code location with it.
    """
    taken = {key_of(spec) for spec in catalogue.sources.values()}
    out = []
    for broken in catalogue.broken.values():
        group, stem = _plain(broken.group), _plain(broken.source)
        names = (stem if count == 1 else f"{stem}_{count}" for count in itertools.count(1))
        key = next(key for name in names if (key := dg.AssetKey([group, name])) not in taken)
        taken.add(key)
        out.append(_broken_asset(broken, key))
    return out


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"


def _broken_asset(broken: Broken, key: dg.AssetKey) -> dg.AssetSpec:
    problems = _listed(broken)
    return dg.AssetSpec(
        key,
        group_name=key.path[0],
        description=f"**Disabled: the YAML of this source has problems.**\n\n{problems}\n\nMend the file, then reload.",
        metadata={
            "refresh/problems": dg.MetadataValue.md(problems),
            **_code_reference(str(broken.file), broken.problems[0].line if broken.problems else 1),
        },
        tags={"refresh/disabled": "broken_yaml"},
        kinds={"yaml"},
    )


def _listed(broken: Broken) -> str:
    return "\n".join(f"- `{problem}`" for problem in broken.problems)


def host_of(spec: SourceSpec) -> str:
    """Return the host a source asks, without port and in small letters: the name of its pool."""
    if spec.request.drop:
        return f"{spec.source}_files"  # a folder of its own
    return urlsplit(spec.request.candidates[0]).hostname or "unknown"


def _dependency(required: SourceSpec) -> dg.AssetDep:
    """Name an input as a whole; Dagster would otherwise match periods that the two need not share."""
    mapping = dg.AllPartitionMapping() if required.partitions else None
    return dg.AssetDep(key_of(required), partition_mapping=mapping)


def _checks(spec: SourceSpec) -> list[dg.AssetCheckSpec] | None:
    texts = {
        COMPLETE: "Every request of the refresh was answered; what failed is missing from the table or older.",
        AGREE: "What the sources say of one key lies no further apart than the declared tolerance. It warns only.",
        PLAUSIBLE: "The payload is like those that were accepted before; one that is not waits for a person.",
    }
    own = [check.name for check in own_checks(spec)]
    return [dg.AssetCheckSpec(name, asset=key_of(spec), description=texts[name]) for name in own] or None


def _retry_policy(spec: SourceSpec) -> dg.RetryPolicy:
    """Dagster counts retries, not attempts; nth wait is (2^n - 1) times the delay and has no cap of its own."""
    return dg.RetryPolicy(
        max_retries=spec.retry.attempts - 1,
        delay=spec.retry.delay.total_seconds(),
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


def _freshness_policy(spec: SourceSpec) -> dg.FreshnessPolicy | None:
    limit = spec.freshness.checked
    # Dagster takes no window under a minute.
    return dg.FreshnessPolicy.time_window(fail_window=max(limit, timedelta(minutes=1))) if limit else None


def _kinds(spec: SourceSpec) -> set[str]:
    if spec.derived:
        return {"duckdb", "sql"}
    return {"duckdb", spec.format.kind if spec.format else "python"}


def _tags(spec: SourceSpec, stale: Stale | None) -> dict[str, str]:
    tags = {**spec.tags, **({"refresh/tenant": spec.tenant} if spec.tenant else {})}
    tags |= {"refresh/stale_yaml": "last_good"} if stale else {}
    return tags if spec.enabled else {**tags, "refresh/disabled": "enabled-false"}


def _description(spec: SourceSpec, missing: str | None, stale: Stale | None) -> str:
    """Return the text of the asset's page; `missing` is the variable without which nothing is asked."""
    lines = [spec.description.strip()]
    if missing and spec.enabled:
        lines.insert(0, f"**Blocked**: set {missing} in the environment or in .env, then reload the code location.")
    if not spec.enabled:
        lines.insert(0, "**Disabled** (`enabled: false`).")
    if stale:
        text = (
            f"**The YAML of this source has problems**; it runs on its last good version, of {stale.good_at:%F %R} UTC."
        )
        lines.insert(0, f"{text}\n\n{_listed(stale.broken)}")
    mode = "derived" if spec.derived else spec.load.mode
    facts = {
        "Table": f"`raw.{spec.raw_table}`, merge key ({', '.join(spec.merge_key)}), {mode}",
        "Requires": ", ".join(need.source for need in spec.requires) or None,
        "Schedule": _rhythm(spec) or ("when its inputs have changed" if spec.derived else None),
        "Checked at least every": format_duration(spec.freshness.checked) if spec.freshness.checked else None,
        "Licence": spec.licence,
        "Homepage": spec.homepage,
    }
    return "\n\n".join([*lines, "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)])


def _rhythm(spec: SourceSpec) -> str | None:
    if spec.schedule is None:
        return None
    if spec.request.drop:
        return f"when files arrive in `{spec.request.drop.url}`"
    return f"`{cron_of(spec.schedule, spec.source)}` {spec.schedule.timezone}"


def _metadata(spec: SourceSpec, stale: Stale | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/column_schema": dg.TableSchema(
            columns=[_column(name, column, spec) for name, column in spec.columns.items()],
            constraints=dg.TableConstraints(other=[f"unique: {', '.join(spec.merge_key)}"]),
        ),
        "dagster/table_name": f"raw.{spec.raw_table}",
        **_origin(spec),
        **_code_reference(spec.file, 1),
    }
    if stale:
        metadata["refresh/problems"] = dg.MetadataValue.md(_listed(stale.broken))
    if rhythm := _rhythm(spec):
        metadata["refresh/schedule"] = dg.MetadataValue.md(rhythm)
    return metadata


def _origin(spec: SourceSpec) -> dict[str, Any]:
    if spec.derive is None:
        return {"refresh/url": spec.request.candidates[0]}
    return {"refresh/query": dg.MetadataValue.md(f"```sql\n{query_of(spec).rstrip()}\n```")}


def _column(name: str, column: Column, spec: SourceSpec) -> dg.TableColumn:
    other = [f"unit: {column.unit}"] if column.unit else []
    if column.min is not None or column.max is not None:
        other.append(f"between {column.min} and {column.max}")
    description = column.description + (f" [{column.unit}]" if column.unit else "")
    nullable = column.nullable and name not in spec.merge_key
    return dg.TableColumn(
        name, column.type, description or None, dg.TableColumnConstraints(nullable=nullable, other=other)
    )


def _code_reference(file: str, line: int) -> dict[str, Any]:
    reference = dg.LocalFileCodeReference(file_path=str(Path(file).absolute()), line_number=line, label="YAML")
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
