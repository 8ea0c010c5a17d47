"""The files of a new source, made and proven in memory before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refresh_pipelines.draft import read_draft
from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.parse import Notes
from refresh_pipelines.rules import check_draft
from refresh_pipelines.scaffold.address import Address
from refresh_pipelines.scaffold.reading import Reading, read_payload
from refresh_pipelines.scaffold.recognise import Hints
from refresh_pipelines.scaffold.samples import cut, readme_text, sample_name, sandbox_text
from refresh_pipelines.scaffold.text import source_text
from refresh_pipelines.spec import Auth, Column, Format, Request, SourceSpec
from refresh_pipelines.stage import stage
from refresh_pipelines.window import Window
from refresh_pipelines.yamlpos import read_document


@dataclass(frozen=True)
class Place:
    """Where a new source goes: `<catalog>/<group>/<source>.yaml`, its samples beside the catalogue folder."""

    catalog: Path
    group: str
    source: str

    @property
    def file(self) -> Path:
        """The YAML."""
        return self.catalog / self.group / f"{self.source}.yaml"

    @property
    def samples(self) -> Path:
        """The folder of the samples."""
        return self.catalog.parent / "samples" / self.source


@dataclass(frozen=True)
class Plan:
    """What will be written.

    Attributes:
        files: contents by path; the YAML is the first.
        sample: the payload among them, for `refresh parse`.
    """

    place: Place
    address: Address
    reading: Reading
    files: Mapping[Path, bytes]
    sample: Path


def probe_of(place: Place, address: Address) -> SourceSpec:
    """Return a source that knows only where its payload is, to fetch it with."""
    auth = Auth(env=address.env, query=address.query, prefix="") if address.env else None
    return SourceSpec(
        group=place.group,
        source=place.source,
        file=str(place.file),
        description="being looked at",
        enabled=False,
        request=Request(url=address.url, auth=auth, allow_private=address.private),
        format=Format(kind="csv"),
        columns={"c0": Column(type="text")},
        merge_key=("c0",),
    )


def make_plan(
    place: Place,
    address: Address,
    payload: Path,
    scratch: Path,
    *,
    hints: Hints,
    key: Sequence[str],
    frequency: str,
    now: datetime,
    name: str = "",
) -> Plan:
    """Look at a payload and return the files of its source.

    Args:
        scratch: an existing folder for the proof.
        name: what the sample is called after; default: the address.

    Raises:
        UpstreamRefused: the payload is none we read; as `read_payload`.
        InternalError: the source does not read its own payload, which is a defect of ours.
    """
    probe = probe_of(place, address)
    reading = read_payload(payload, probe, hints, key)
    text = source_text(place.group, place.source, address, reading, frequency)
    sample = place.samples / sample_name(name or address.path, reading.form)
    cut_down = cut(payload, reading.form, probe.request.max_unpacked, address.secret)
    prove(place, text, payload, scratch)
    if cut_down != payload.read_bytes():
        (scratch / sample.name).write_bytes(cut_down)
        prove(place, text, scratch / sample.name, scratch)
    readme = readme_text(
        place.source, address, sample.name, reading, now, whole=len(cut_down) >= payload.stat().st_size
    )
    files = {
        place.file: text.encode(),
        sample: cut_down,
        place.samples / "sandbox.yaml": sandbox_text(address, sample.name, now).encode(),
        place.samples / "README.md": readme.encode(),
    }
    return Plan(place, address, reading, files, sample)


def prove(place: Place, text: str, payload: Path, scratch: Path) -> None:
    """Check a source's YAML and read a payload with it. Raises InternalError if either complains."""
    draft, problems = read_draft(read_document(text, place.file), place.group, place.source, str(place.file))
    problems = [problem for problem in [*problems, *check_draft(draft)] if problem.severity == "error"]
    if draft.spec is None or problems:
        raise _defect("\n".join(map(str, problems)))
    try:
        stage(draft.spec, [payload], Window(), scratch / "proof.arrow", Notes())
    except RefreshError as error:
        raise _defect(str(error)) from error


def _defect(said: str) -> InternalError:
    return InternalError(
        "the source that was made does not read its own payload",
        came=said,
        todo="Nothing was written. Please report it with the payload; meanwhile write the YAML by hand.",
    )
