"""`refresh new`: begin a source from an address or a file; writes its YAML and samples, loads nothing."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.check import problem_line
from refresh_pipelines.cli.common import load_settings, print_table, program, read_files, short_path
from refresh_pipelines.cli.upstream import sandbox_if_needed
from refresh_pipelines.errors import RefreshError, UpstreamRefused
from refresh_pipelines.fetch import Fetcher, NotModified
from refresh_pipelines.scaffold.address import Address, AddressError, read_address
from refresh_pipelines.scaffold.plan import Place, Plan, make_plan, probe_of
from refresh_pipelines.scaffold.recognise import Hints
from refresh_pipelines.scaffold.text import FRESHNESS
from refresh_pipelines.settings import BUILTIN_CATALOG, Settings
from refresh_pipelines.spec import TABLE_NAME
from refresh_pipelines.window import Window

_VARIABLE = "REFRESH_CATALOG"


@click.command()
@click.argument("name", metavar="GROUP/SOURCE")
@click.option("--url", help="The address it is refreshed from.")
@click.option(
    "--file", "sample", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Look at this file in place of what the address serves.",
)  # fmt: skip
@click.option("--catalog", type=click.Path(file_okay=False, path_type=Path), help="The catalogue folder to write to.")
@click.option("--key", help="Columns that name a row, for instance day,station; default: found from the rows.")
@click.option("--frequency", type=click.Choice(list(FRESHNESS)), default="daily", show_default=True)
@click.option("--header/--no-header", default=None, help="Whether a CSV's first row holds names; default: guessed.")
@click.option("--rows", help="Dotted path to the list of rows in a JSON document, if there are several lists.")
@click.option("--member", help="Glob for the file in a ZIP archive, if there are several.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
def new(
    name: str, url: str | None, sample: Path | None, catalog: Path | None, key: str | None, frequency: str,
    header: bool | None, rows: str | None, member: str | None, force: bool, yes: bool,
) -> None:  # fmt: skip
    """Begin a source: look at an address or a file and write its YAML.

    Recognises CSV and JSON, also packed; proposes column types and a merge key from all rows. What
    is written passes `refresh check` and loads; it is for you to read and correct. A key in the
    address is replaced by the name of a variable and written nowhere.
    """
    settings = load_settings()
    address = _address(url, sample, name)
    place = _place(settings, name, catalog)
    _refuse_taken(read_files(settings), place)
    hints = Hints(header, rows, member)
    columns = [part.strip() for part in (key or "").split(",") if part.strip()]
    try:
        plan = _plan(settings, place, address, sample, hints, columns, frequency)
    except RefreshError as error:
        raise click.ClickException(str(error)) from error
    _describe(plan)
    _ask_about(plan, force, yes)
    for path, body in plan.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        click.echo(f"Wrote {short_path(path)}")
    prefix = _make_known(settings, place)
    sys.exit(_conclude(plan, settings, prefix))


def _address(url: str | None, sample: Path | None, name: str) -> Address:
    if url is None and sample is None:
        raise click.UsageError("say where it is with --url; --file alone begins a source whose address you write later")
    try:
        # A host that cannot exist (RFC 2606) until somebody writes the real address.
        return read_address(url or f"https://example.invalid/{quote(sample.name if sample else name)}")
    except AddressError as error:
        raise click.UsageError(str(error)) from error


def _place(settings: Settings, name: str, catalog: Path | None) -> Place:
    group, slash, source = name.partition("/")
    for part in (group, source) if slash else (name, ""):
        if not TABLE_NAME.fullmatch(part):
            raise click.UsageError(
                f"{name!r} is no GROUP/SOURCE: two names of small letters, digits and _, for instance energy/oil_prices"
            )
    own = [folder for folder in settings.catalog if folder != BUILTIN_CATALOG]
    folder = catalog.absolute() if catalog else own[0] if own else settings.root / "catalog"
    return Place(folder.resolve(), group, source)


def _refuse_taken(catalogue: Catalogue, place: Place) -> None:
    spec = catalogue.sources.get(place.source)
    if spec and Path(spec.file) != place.file:
        raise click.UsageError(f"the name {place.source} is taken by {short_path(Path(spec.file))}; names are unique")


def _plan(
    settings: Settings, place: Place, address: Address, sample: Path | None, hints: Hints, key: list[str], often: str
) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        payload = sample or _fetch(settings, place, address, Path(folder))
        return make_plan(
            place, address, payload, Path(folder), hints=hints, key=key, frequency=often,
            now=datetime.now(timezone.utc), name=sample.name if sample else "",
        )  # fmt: skip


def _fetch(settings: Settings, place: Place, address: Address, folder: Path) -> Path:
    key = {address.env: address.secret} if address.env else {}
    with sandbox_if_needed(settings) as serving:
        known = replace(serving, environ={**serving.environ, **key})
        payload = Fetcher(known).fetch(probe_of(place, address), Window(), address.url, folder)
    if isinstance(payload, NotModified):
        raise UpstreamRefused("the upstream answered 304 to a request without conditions", todo="Try again later.")
    return payload.path


def _describe(plan: Plan) -> None:
    reading = plan.reading
    packed = f" in a {reading.form.archive} archive" if reading.form.archive else ""
    encoding = "" if reading.form.encoding == "utf-8" else f", {reading.form.encoding}"
    click.echo(f"{reading.form.kind.upper()}{packed}{encoding}: {reading.rows} rows, {len(reading.columns)} columns\n")
    table = [
        (g.name, g.column.type, g.field if g.field != g.name else "", g.column.format or "", g.remark)
        for g in reading.columns
    ]
    print_table(("COLUMN", "TYPE", "FROM", "FORMAT", "REMARK"), table)
    click.echo(f"\nmerge key ({', '.join(reading.key.columns)}): {reading.key.seen}\n")
    for remark in plan.address.remarks:
        click.echo(f"Note: {remark}.")


def _ask_about(plan: Plan, force: bool, yes: bool) -> None:
    there = [path for path in plan.files if path.exists()]
    if there and not force:
        names = ", ".join(str(short_path(path)) for path in there)
        raise click.ClickException(f"Nothing was written, because there is already {names}. --force overwrites.")
    if not yes and sys.stdin.isatty():
        click.confirm(
            f"Write {short_path(plan.place.file)} and {len(plan.files) - 1} files beside it?", True, abort=True
        )


def _make_known(settings: Settings, place: Place) -> str:
    """See to it that the folder is read, and return what must stand before the next commands until it is."""
    if place.catalog in settings.catalog:
        return ""
    root = settings.root
    shown = str(place.catalog.relative_to(root) if place.catalog.is_relative_to(root) else place.catalog)
    given = settings.environ.get(_VARIABLE)
    line = f"{_VARIABLE}={given or 'builtin'}:{shown}"
    if given:
        click.echo(f"Note: {place.catalog} is not among your catalogue folders. Set {line}")
        return f"{line} "
    path = root / ".env"
    before = path.read_text() if path.exists() else ""
    kept = [text for text in before.splitlines() if text.partition("=")[0].strip() != _VARIABLE]
    path.write_text("\n".join([*kept, line]) + "\n")
    click.echo(f"Added {line} to {short_path(path)}")
    return ""


def _conclude(plan: Plan, settings: Settings, prefix: str) -> int:
    """Say what is still wrong and what comes next; return the exit code."""
    folders = settings.catalog if plan.place.catalog in settings.catalog else (*settings.catalog, plan.place.catalog)
    catalogue = read_files(replace(settings, catalog=folders))
    problems = [problem for problem in catalogue.problems if problem.file == plan.place.file]
    for problem in problems:
        click.echo(problem_line(problem), err=True)
    for step in _steps(plan, settings, prefix):
        click.echo(step)
    return 1 if any(problem.severity == "error" for problem in problems) else 0


def _steps(plan: Plan, settings: Settings, prefix: str) -> Iterator[str]:
    address, source, call = plan.address, plan.place.source, prefix + program()
    yield "\nNext:"
    if address.host == "example.invalid":
        yield f"  write the address into request.url of {short_path(plan.place.file)}"
    if address.env and not settings.environ.get(address.env):
        yield f"  set {address.env}=<your key> in .env; what you typed stays in your shell's history"
    yield f"  {call} check"
    yield f"  {call} parse {source} {short_path(plan.sample)} --rows"
    yield f"  {call} run {source}"
