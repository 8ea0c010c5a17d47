"""Small catalogues for tests: a source that is right, and a folder from a mapping of names to texts."""

from refresh_pipelines.catalogue import load_catalogue

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
