"""An upstream whose word about its own changes is good or bad, over real HTTP on loopback."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import format_datetime

from refresh_pipelines_tests.upstream import Upstream, answer


def http(at: datetime) -> str:
    return format_datetime(at.astimezone(timezone.utc), usegmt=True)


class Moody:
    """One file. Its headers are what a test makes of them; `obeys` says how a conditional request is answered.

    `honest`: 304 where a validator that was sent is still the right one; `deaf`: never 304; `always`: 304 to
    whatever is conditional.
    """

    def __init__(self, obeys: str = "honest") -> None:
        self.obeys, self.body = obeys, b"k,n,t\na,1,x\n"
        self.etag: str | None = None
        self.modified: str | None = None
        self.more: dict[str, str] = {}
        self.bare = False  # 304 without a word about the version
        self.asked: list[dict[str, str]] = []

    def serve(self) -> Upstream:
        return Upstream(self._answer)

    def rows(self, *rows: tuple[str, int]) -> None:
        self.body = b"k,n,t\n" + b"".join(b"%s,%d,x\n" % (key.encode(), n) for key, n in rows)

    @property
    def statuses(self) -> list[tuple[bool, int]]:
        """Whether each request was conditional, and the status of its answer."""
        return [(one["conditional"] == "yes", int(one["status"])) for one in self.asked]

    def _answer(self, handler) -> None:
        sent = {
            name: handler.headers[name] for name in ("If-None-Match", "If-Modified-Since") if name in handler.headers
        }
        status = 304 if sent and self._same(sent) else 200
        self.asked.append({**sent, "conditional": "yes" if sent else "no", "status": str(status)})
        headers = {**({"ETag": self.etag} if self.etag else {}), **self.more}
        headers |= {"Last-Modified": self.modified} if self.modified else {}
        headers = {} if self.bare and status == 304 else headers
        handler.wfile.write(answer(b"" if status == 304 else self.body, status, headers))

    def _same(self, sent: dict[str, str]) -> bool:
        if self.obeys != "honest":
            return self.obeys == "always"
        if "If-None-Match" in sent:
            return self.etag is not None and self.etag in [tag.strip() for tag in sent["If-None-Match"].split(",")]
        return sent["If-Modified-Since"] == self.modified
