"""Sources by the day, and an upstream that serves whichever days and stations are asked for."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import parse_qs, urlsplit

from refresh_pipelines_tests.upstream import Handler, Upstream, answer

DAYS = """\
description: by the day
request: {url: "https://example.org/days.csv", params: {start: "{start}", end: "{end}"}, span: 400}
format: csv
columns:
  day: {type: date}
  site: {type: text}
  value: {type: int}
merge_key: [day, site]
load: {mode: replace_partition}
schedule: {frequency: daily}
partitions: {time: day, start: 2024-01-01, column: day}
retry: {attempts: 1}
"""
# The stations are not in the order of the alphabet, and stay as they are written.
GRID = """\
description: by day and station
request: {url: "https://example.org/grid.csv", params: {station: "{station}", start: "{start}", end: "{end}"}}
format: csv
columns:
  day: {type: date}
  station: {type: text, from: "{station}"}
  value: {type: int}
merge_key: [day, station]
schedule: {frequency: daily}
partitions: {time: day, start: 2024-01-01, column: day, static: {station: [north, east, west]}}
retry: {attempts: 1}
"""


def days(first, count):
    """Return that many days as ISO text."""
    start = date.fromisoformat(first)
    return [str(start + timedelta(days=number)) for number in range(count)]


class Days(Upstream):
    """Answers `?start=…&end=…` with the rows of the days between.

    Attributes:
        rows: lines of CSV after the day, by day; a day without any is empty.
        more: whole lines that stand in every answer.
        trouble: a status in place of rows, by the value of a parameter; "" stands for every request.
        asked: the parameters of each request.
    """

    def __init__(self, filled=()):
        super().__init__(self._serve)
        self.rows = {day: [f"a,{number}", f"b,{number}"] for number, day in enumerate(filled)}
        self.more: list[str] = []
        self.trouble: dict[str, int] = {}
        self.asked: list[dict[str, str]] = []

    def _serve(self, handler: Handler) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
        self.asked.append(query)
        status = next((self.trouble[value] for value in ("", *query.values()) if value in self.trouble), 200)
        lines = [
            f"{day},{row}" for day, rows in self.rows.items() if query["start"] <= day < query["end"] for row in rows
        ]
        body = "\n".join(["day,site,value", *lines, *self.more, ""]).encode()
        handler.wfile.write(answer(body if status == 200 else b"no", status))

    @property
    def spans(self):
        """First day and end of each request."""
        return [(query["start"], query["end"]) for query in self.asked]
