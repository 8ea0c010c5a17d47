"""Files of a catalogue: finding them, reading them, and what defaults.yaml and group.yaml fill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refresh_pipelines.problems import Problem
from refresh_pipelines.yamlpos import Document, Excludes, YamlError, read_document

# A default must not join what the source chose: of these only one can be meant, and the details of
# a default's frequency are nonsense under another one.
_EXCLUDES: Excludes = {
    (): {
        "format": ("parser",),
        "parser": ("format",),
        "derive": ("request", "format", "parser", "schedule", "partitions"),
    },
    ("request",): {"url": ("urls",), "urls": ("url",)},
    ("request", "auth"): {"query": ("header", "prefix"), "header": ("query",)},
    ("schedule",): {"cron": ("frequency", "day", "month", "time"), "frequency": ("cron", "day", "month")},
}


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name; hidden names are an editor's or a mount's."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_yaml(path: Path) -> bool:
    """Whether somebody meant the file to be YAML, also by a suffix we then refuse."""
    return path.suffix.lower() in {".yaml", ".yml"}


@dataclass(frozen=True)
class Shared:
    """What defaults.yaml and group.yaml give; with an error none of their sources can be trusted."""

    document: Document | None = None
    errors: tuple[Problem, ...] = ()

    def under(self, base: Shared) -> Shared:
        """Return this with what it leaves out taken from `base`, and the errors of both."""
        if self.document is None or base.document is None:
            return Shared(self.document or base.document, base.errors + self.errors)
        return Shared(base.fill(self.document), base.errors + self.errors)

    def with_error(self, error: Problem) -> Shared:
        """Return the same with one more error."""
        return Shared(self.document, (*self.errors, error))

    def fill(self, own: Document) -> Document:
        """Return a source's document with what it leaves out."""
        return own.under(self.document, _EXCLUDES) if self.document else own


def read_shared(path: Path) -> Shared:
    """Read defaults.yaml or group.yaml; without the file nothing is given."""
    if not path.exists():
        return Shared()
    document = read_file(path)
    if isinstance(document, Document):
        return Shared(document)
    return Shared(errors=tuple(document))


def read_file(path: Path) -> Document | list[Problem]:
    """Return the document, or why it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return read_document(text, path)
    except YamlError as error:
        return [Problem(path, *found) for found in error.found]
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8-sig", errors="replace").split("\n")
        hint = "save the file as UTF-8"
        return [Problem(path, len(before), len(before[-1]) + 1, "the file is not UTF-8", hint)]
    except OSError as error:
        return [Problem(path, 1, 1, f"the file cannot be read: {error.strerror}")]
