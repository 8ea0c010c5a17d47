"""Small catalogues for tests: a source that is right, and a folder from a mapping of names to texts."""

import shutil

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.settings import BUILTIN_CATALOG

MINI = """\
description: a test
request: {url: "https://example.org/data.csv"}
format: csv
columns:
  day: {type: date}
  value: {type: double}
merge_key: [day]
schedule: {frequency: daily}
"""


def copy_two_sources(folder):
    """Make a catalogue of two built-in sources, one of static and one of time partitions, that grows with no other."""
    for name in ("commodities/fred_fx.yaml", "worldenergy/bsee_ogora.yaml"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(BUILTIN_CATALOG / name, folder / name)


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def load(folder, files, environ=None):
    return load_catalogue([write(folder, files)], environ)


def errors(catalogue):
    return [problem for problem in catalogue.problems if problem.severity == "error"]
