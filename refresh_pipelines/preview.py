"""A refresh that changes nothing: fetched, read and merged as ever, in a transaction that is rolled back.

It goes the way of `refresh`, with a warehouse that only looks and a data folder that is thrown away, so that no
archive, quarantine, trust or load state knows of it. What hosts allow (`request.rate`) is kept: the fetcher has the
real folder.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from refresh_pipelines.differences import Differences
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.effects import Effects
from refresh_pipelines.errors import InternalError, RefreshError, UpstreamRefused
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.outcome import Outcome, failed
from refresh_pipelines.payload import NotModified, Payload, Turn
from refresh_pipelines.plausible import Implausible
from refresh_pipelines.refresh import Tools, refresh
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.validators import Validators
from refresh_pipelines.warehouse import AsOf, Commit, LoadState, Merged, Remains, Warehouse
from refresh_pipelines.window import Window

RUN_ID = "preview"


@dataclass(frozen=True)
class Preview:
    """What a refresh would do. `effects` is None where it would not get as far as the table."""

    outcome: Outcome
    effects: Effects | None


def preview(spec: SourceSpec, window: Window, tools: Tools, *, examples: int, file: Path | None = None) -> Preview:
    """Go the way of a refresh and say what it would have done. Asks without conditions, whatever breaker or pause.

    Args:
        spec: the source.
        window: what to refresh.
        tools: as for a refresh; nothing of its data folder is changed but the turns at hosts.
        examples: how many rows of each kind are shown.
        file: a payload to read in place of asking the upstream.
    """
    looking = _Looking(tools.warehouse, examples)
    # Where what a killed one leaves is swept.
    home = tools.settings.data_dir / "staging"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="preview-") as folder:
        fetcher = _FromFile(tools.fetcher, file) if file else tools.fetcher
        settings = replace(tools.settings, data_dir=Path(folder))
        inside = replace(tools, settings=settings, warehouse=looking, fetcher=fetcher)
        try:
            outcome = refresh(spec, window, inside, run_id=RUN_ID, force=True)
        except RefreshError as error:
            outcome = failed(spec, window.partition, error)
    outcome.run_id = ""
    return Preview(_told(outcome, looking.effects), looking.effects)


def _told(outcome: Outcome, effects: Effects | None) -> Outcome:
    """Let a payload that would wait say why, and not name a record that there is not."""
    if effects and effects.reasons:
        reasons = "; ".join(reason.text for reason in effects.reasons)
        outcome.outcome, outcome.error_class = "quarantined", "quarantined"
        outcome.message = f"{outcome.group}/{outcome.source}: the payload would wait in quarantine, because {reasons}."
    return outcome


class _FromFile(Fetcher):
    """Answers each request with one file."""

    def __init__(self, inner: Fetcher, file: Path) -> None:
        super().__init__(inner.settings, inner.session, clock=inner.clock, sleep=inner.sleep, now=inner.now)
        self.file = file

    def fetch(
        self,
        spec: SourceSpec,
        window: Window,  # noqa: ARG002 - a file is the same for each
        url: str,
        folder: Path,
        known: Validators | None = None,  # noqa: ARG002
        turn: Turn | None = None,  # noqa: ARG002
    ) -> Payload | NotModified:
        """Return a copy of the file. Raises UpstreamRefused for one that is too large."""
        size, most = self.file.stat().st_size, spec.request.max_bytes
        if size > most:
            raise UpstreamRefused(
                "the file is too large", expected=f"at most {most} bytes (request.max_bytes)", came=f"{size}",
                todo="Raise request.max_bytes if it is in order.",
            )  # fmt: skip
        copy = folder / "payload"
        shutil.copyfile(self.file, copy)
        digest = hashlib.sha256()
        with copy.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
        return Payload(copy, url, digest.hexdigest(), size)


@dataclass
class _Looking:
    """A warehouse that answers questions, and of a commit only says what it would do."""

    inner: Warehouse
    examples: int
    effects: Effects | None = None

    def states(self, source: str, table: str = "") -> tuple[dict[str, LoadState], float]:
        return self.inner.states(source, table)

    def commit(self, commit: Commit) -> Merged:
        merged, self.effects = self.inner.preview(commit, self.examples)
        if self.effects.reasons:
            counts = merged.state.counts
            before = merged.partition_rows - counts.added + counts.deleted
            raise Implausible("the payload is a surprise", self.effects.reasons, vars(counts), before)
        return merged

    def commit_all(self, commits: Sequence[Commit]) -> list[Merged]:
        return [self.commit(commit) for commit in commits]

    def preview(self, commit: Commit, examples: int) -> tuple[Merged, Effects]:
        return self.inner.preview(commit, examples)

    def compare(self, commit: Commit) -> Differences:
        return self.inner.compare(commit)

    def touch(self, state: LoadState) -> float:  # noqa: ARG002 - it only looks
        return 0.0

    def files(
        self, source: str, table: str, keys: Sequence[str] = (), sha256: Sequence[str] = ()
    ) -> tuple[list[FileEntry], float]:
        return self.inner.files(source, table, keys, sha256)

    def record_files(self, entries: Sequence[FileEntry]) -> float:  # noqa: ARG002 - it only looks
        return 0.0

    def adopt(self, spec: SourceSpec) -> bool:  # noqa: ARG002 - `Warehouse.preview` does, where it is undone
        return False

    def sources(self) -> set[str]:
        return self.inner.sources()

    def remains(self, source: str) -> Remains:
        return self.inner.remains(source)

    def retire(self, source: str) -> Remains:
        raise InternalError(f"a preview of {source} would have removed it", todo="Please report it.")

    def select(self, query: str, tables: Collection[str], path: Path) -> float:
        return self.inner.select(query, tables, path)

    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        return self.inner.query(statement)

    def query_as_of(self, statement: str, at: datetime) -> AsOf:
        return self.inner.query_as_of(statement, at)
