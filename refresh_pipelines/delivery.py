"""Everything one refresh asks for: each value, each address until one answers, each page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refresh_pipelines.absent import nowhere
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.errors import Interrupted, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Fetcher, NotHere, NotModified, Payload, Turn, Validators
from refresh_pipelines.paging import Pager
from refresh_pipelines.received import Received
from refresh_pipelines.signal import Said, ask
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, naming
from refresh_pipelines.window import Window


@dataclass(frozen=True)
class Delivery:
    """What came.

    Attributes:
        parts: the payloads, page by page.
        url: logical address of the first, redacted.
        sha256: hash of the bytes; of all parts' hashes and values where there are several.
        validators: of a payload that came alone; several cannot be asked for conditionally.
        last_modified: what the upstream said of the first part.
        missing: values of `each` that failed under `on_error: keep_rest`, and why.
        passed_over: addresses that did not have it.
        files: of a drop, what became of each file; `parts` are those that are to be read.
        remarks: what a person should know of the delivery.
        received: of each part, what its answer said of itself; empty where nobody answered.
    """

    parts: tuple[Part, ...]
    url: str
    sha256: str
    bytes: int
    validators: Validators | None
    last_modified: str | None
    missing: tuple[tuple[str, RefreshError], ...] = ()
    passed_over: tuple[NotHere, ...] = ()
    files: tuple[FileEntry, ...] = ()
    remarks: tuple[str, ...] = ()
    received: tuple[Received | None, ...] = ()


def deliver(
    spec: SourceSpec, window: Window, fetcher: Fetcher, folder: Path, known: Validators | None
) -> Delivery | NotModified:
    """Ask for everything a refresh needs.

    Args:
        known: sent back only where the refresh is one request.

    Raises:
        RefreshError: as `Fetcher.fetch`, `Pager.after` and `signal.ask`; under keep_rest only if every value failed.
    """
    each = spec.request.each
    if each is None:
        return _Collection(spec, window, fetcher, folder).single(known)
    return _Collection(spec, window, fetcher, folder).each(each.name, each.values, each.on_error == "keep_rest")


class _Collection:
    def __init__(self, spec: SourceSpec, window: Window, fetcher: Fetcher, folder: Path) -> None:
        self.spec, self.window, self.fetcher, self.folder = spec, window, fetcher, folder
        self.passed_over: list[NotHere] = []
        self.size = 0
        self.said: Said | None = None

    def single(self, known: Validators | None) -> Delivery | NotModified:
        """Return the one answer of a refresh, with all its pages; asks what the catalogue says before anything else."""
        if self.spec.request.signal:
            self.said = ask(self.spec, self.window, self.fetcher, self.folder)
            if known and known.signal == self.said.text:
                return NotModified(known.url, signal=True)
            known = known and known.without("signal")
        answers = self._first_that_has_it(self.window, known if self.spec.request.paging is None else None)
        if isinstance(answers, NotModified):
            return answers
        return self._delivery([(Part(answer.path), answer) for answer in answers])

    def each(self, name: str, values: Sequence[str], keep_rest: bool) -> Delivery:
        """Return the answers for all values; without those that failed if the rest is to be kept."""
        found: list[tuple[Part, Payload]] = []
        missing: list[tuple[str, RefreshError]] = []
        for value in values:
            window = replace(self.window, names={**self.window.names, name: value})
            before = self.size
            try:
                with naming({name: value}):
                    answers = self._unconditional(window)
            except RefreshError as error:
                if not keep_rest or isinstance(error, Interrupted):
                    raise
                missing.append((value, error))
                self.size = before  # one value that is too large leaves room for the others
                continue
            found += [(Part(answer.path, {name: value}), answer) for answer in answers]
        if not found:
            raise missing[0][1]
        return self._delivery(found, tuple(missing))

    def _unconditional(self, window: Window) -> list[Payload]:
        answers = self._first_that_has_it(window, None)
        return [] if isinstance(answers, NotModified) else answers  # which nobody asked for

    def _first_that_has_it(self, window: Window, known: Validators | None) -> list[Payload] | NotModified:
        passed_over: list[NotHere] = []
        for url in self.spec.request.candidates:
            try:
                answers = self._pages(window, url, known)
            except NotHere as error:
                passed_over.append(error)
                continue
            self.passed_over += passed_over
            return answers
        raise nowhere(passed_over)

    def _pages(self, window: Window, url: str, known: Validators | None) -> list[Payload] | NotModified:
        pager = Pager(self.spec, self.fetcher.settings.upstream) if self.spec.request.paging else None
        turn: Turn | None = pager.first() if pager else None
        if self.said and self.said.address:
            turn = Turn(address=self.said.address)
        answers: list[Payload] = []
        while True:
            answer = self._one(window, url, known, turn, len(answers))
            if isinstance(answer, NotModified):
                return answer
            answers.append(answer)
            self._require_room(answer)
            turn = pager.after(answer) if pager else None
            if turn is None:
                return answers

    def _one(
        self, window: Window, url: str, known: Validators | None, turn: Turn | None, before: int
    ) -> Payload | NotModified:
        try:
            return self.fetcher.fetch(self.spec, window, url, self.folder, known, turn)
        except NotHere as error:
            if not before:
                raise
            raise UpstreamUnavailable(
                f"page {before + 1} is gone",
                expected=f"a page after {before}",
                came=f"{error.problem}: {error.came}",
                todo="The upstream may have changed while it was read: a later try may pass.",
            ) from error

    def _require_room(self, answer: Payload) -> None:
        self.size += answer.bytes
        if self.size > self.spec.request.max_bytes:
            raise UpstreamRefused(
                "the answers are too large together",
                expected=f"at most {self.spec.request.max_bytes} bytes (request.max_bytes)",
                came="more",
                todo="Raise request.max_bytes if the source has really grown.",
            )

    def _delivery(
        self, found: list[tuple[Part, Payload]], missing: tuple[tuple[str, RefreshError], ...] = ()
    ) -> Delivery:
        first = found[0][1]
        alone = len(found) == 1 and not missing
        lines = [f"{dict(part.names)} {answer.sha256}" for part, answer in found]
        return Delivery(
            parts=tuple(part for part, _ in found),
            url=first.url,
            sha256=first.sha256 if alone else hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            bytes=sum(answer.bytes for _, answer in found),
            validators=self._validators(first) if alone and self.spec.request.paging is None else None,
            last_modified=first.last_modified,
            missing=missing,
            passed_over=tuple(self.passed_over),
            received=tuple(answer.received for _, answer in found),
        )

    def _validators(self, answer: Payload) -> Validators | None:
        if self.said is None:
            return answer.validators
        return replace(answer.validators or Validators(answer.url), signal=self.said.text)
