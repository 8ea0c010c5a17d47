"""One HTTP answer into one file: conditional, bounded in time and size, redirects checked.

Here belongs what is true of any source's bytes on the way in. What the bytes mean is for `parse`.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from refresh_pipelines import __version__
from refresh_pipelines.address import guard, rebase, unrebase
from refresh_pipelines.body import excerpt, expected_kind, looks_like_page, lookup
from refresh_pipelines.errors import RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Request, SourceSpec
from refresh_pipelines.window import Window, fill

USER_AGENT = f"refresh_pipelines/{__version__} (unattended refresh of public data)"
QUICK_WAITS = (1.0, 4.0)
SLOW_WAITS = (10.0, 20.0)
BUDGET = timedelta(seconds=60)
MAX_REDIRECTS = 5
CHUNK = 1 << 18
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
PLACEHOLDER = "sandbox-placeholder"


@dataclass(frozen=True)
class Validators:
    """What the upstream said about its last accepted answer; sent back only for the same address."""

    url: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class Payload:
    """Bytes on disk, and what came with them. `url` is the logical address, redacted."""

    path: Path
    url: str
    sha256: str
    bytes: int
    validators: Validators | None = None


@dataclass(frozen=True)
class NotModified:
    """The upstream said 304: what we hold is what it serves."""

    url: str


class NotHere(UpstreamRefused):
    """The address holds no data: 404 or 410 (`page` false), or a web page in its place (`page` true)."""

    def __init__(self, problem: str, *, page: bool, expected: str = "", came: str = "", todo: str = "") -> None:
        super().__init__(problem, expected=expected, came=came, todo=todo)
        self.page = page


class Fetcher:
    """Sends the requests of one process. Session, clock and sleep are injected for tests."""

    def __init__(
        self,
        settings: Settings,
        session: requests.Session | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.session = session or requests.Session()
        self.clock, self.sleep = clock, sleep
        self._last_sent: dict[str, float] = {}

    def fetch(
        self, spec: SourceSpec, window: Window, url: str, folder: Path, known: Validators | None = None
    ) -> Payload | NotModified:
        """Get one address of `spec.request.candidates` into `folder`.

        Raises:
            UpstreamUnavailable: transport errors, 408, 429 and 5xx, after quick tries within 60 s.
            NotHere: 404, 410, or a web page where data was expected.
            UpstreamRefused: other 4xx, a body over `max_bytes`, an address that is not allowed.
        """
        call = _Call(self, spec, window, url, folder, known)
        return call.run()

    def pace(self, host: str, rate: float | None) -> None:
        """Wait until the next request to `host` is within `rate` requests a second."""
        if rate:
            wait = self._last_sent.get(host, float("-inf")) + 1 / rate - self.clock()
            if wait > 0:
                self.sleep(wait)
        self._last_sent[host] = self.clock()


class _Call:
    """One logical request with its tries; exists so that the parts need no ten arguments."""

    def __init__(
        self,
        fetcher: Fetcher,
        spec: SourceSpec,
        window: Window,
        url: str,
        folder: Path,
        known: Validators | None,
    ) -> None:
        self.fetcher, self.spec, self.folder = fetcher, spec, folder
        self.request: Request = spec.request
        self.secret = self._secret()
        self.prepared = self._prepare(url, window)
        self.logical = str(self.prepared.url)
        self.shown = redact(self.logical, [self.secret])
        if known and known.url == self.shown:
            self._condition(known)
        self.started = fetcher.clock()

    def run(self) -> Payload | NotModified:
        """Try until it works, the error is final, or the waits pass the budget."""
        for attempt in range(len(QUICK_WAITS) + 1):
            try:
                return self._once()
            except _Again as again:
                wait = again.wait(attempt)
                spent = self.fetcher.clock() - self.started
                if wait is None or spent + wait > BUDGET.total_seconds():
                    raise again.error from again.error.__cause__
                self.fetcher.sleep(wait)
        raise AssertionError("the last try either returns or raises")

    def _secret(self) -> str:
        auth = self.request.auth
        if auth is None:
            return ""
        return self.fetcher.settings.environ.get(auth.env) or PLACEHOLDER

    def _prepare(self, url: str, window: Window) -> requests.PreparedRequest:
        where = f"{self.spec.name}: request"
        params = {k: fill(v, window, where) if isinstance(v, str) else v for k, v in self.request.params.items()}
        headers = {
            "User-Agent": USER_AGENT,
            **{k: fill(v, window, where) for k, v in self.request.headers.items()},
        }
        auth = self.request.auth
        if auth and auth.query:
            params[auth.query] = self.secret
        if auth and auth.header:
            headers[auth.header] = auth.prefix + self.secret
        body = self.request.body
        try:
            return self.fetcher.session.prepare_request(
                requests.Request(
                    self.request.method,
                    fill(url, window, where),
                    params=params,
                    headers=headers,
                    data=body if isinstance(body, str) else None,
                    json=body if isinstance(body, dict) else None,
                )
            )
        except (requests.RequestException, ValueError) as error:
            raise UpstreamRefused(
                f"{url!r} is no address that can be requested", came=str(error), todo="Correct request.url."
            ) from error

    def _condition(self, known: Validators) -> None:
        if known.etag:
            self.prepared.headers["If-None-Match"] = known.etag
        if known.last_modified:
            self.prepared.headers["If-Modified-Since"] = known.last_modified

    def _once(self) -> Payload | NotModified:
        try:
            with self._follow() as response:
                return self._answer(response)
        except requests.exceptions.SSLError as error:
            raise UpstreamRefused(
                f"the certificate of {urlsplit(self.logical).hostname} was not accepted",
                came=self._clean(error),
                todo="Wait until the host has mended it, or name your own CA in REQUESTS_CA_BUNDLE.",
            ) from error
        except (requests.RequestException, HTTPError, OSError) as error:
            problem = UpstreamUnavailable(
                f"{self.shown} could not be read", came=self._clean(error), todo="It will be tried again."
            )
            problem.__cause__ = error
            raise _Again(problem) from error

    def _follow(self) -> requests.Response:
        """Send, following redirects by hand so that each address is checked and rebased."""
        settings, sending, logical = self.fetcher.settings, self.prepared.copy(), self.logical
        for _ in range(MAX_REDIRECTS + 1):
            guard(logical, self.request.allow_private, settings.environ)
            sending.url = rebase(logical, settings.upstream)
            self.fetcher.pace(urlsplit(logical).netloc, self.request.rate)
            seconds = self.request.timeout.total_seconds()
            proxies = self.fetcher.session.merge_environment_settings(str(sending.url), {}, True, None, None)
            response = self.fetcher.session.send(
                sending, allow_redirects=False, timeout=(min(seconds, 15.0), seconds), **proxies
            )
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECT or not target:
                return response
            response.close()
            previous, logical = logical, urljoin(logical, unrebase(target, settings.upstream))
            self._forget_credentials(sending, previous, logical)
        raise UpstreamRefused(f"{self.shown} redirects more than {MAX_REDIRECTS} times", todo="Correct request.url.")

    def _forget_credentials(self, sending: requests.PreparedRequest, previous: str, target: str) -> None:
        auth = self.request.auth
        if auth and auth.header and urlsplit(previous).netloc != urlsplit(target).netloc:
            sending.headers.pop(auth.header, None)

    def _answer(self, response: requests.Response) -> Payload | NotModified:
        if response.status_code == 304:
            return NotModified(self.shown)
        if response.status_code == 200:
            return self._store(response)
        self._refuse(response)
        raise AssertionError("_refuse always raises")

    def _store(self, response: requests.Response) -> Payload:
        path = self.folder / f"payload-{hashlib.sha256(self.shown.encode()).hexdigest()[:8]}"
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            for chunk in self._chunks(response):
                digest.update(chunk)
                size += len(chunk)
                if size > self.request.max_bytes:
                    raise UpstreamRefused(
                        f"the body of {self.shown} is too large",
                        expected=f"at most {self.request.max_bytes} bytes (request.max_bytes)",
                        came="more",
                        todo="Raise request.max_bytes if the source has really grown.",
                    )
                file.write(chunk)
        self._refuse_page(path, response)
        headers = response.headers
        validators = Validators(self.shown, headers.get("ETag"), headers.get("Last-Modified"))
        known = validators if validators.etag or validators.last_modified else None
        return Payload(path, self.shown, digest.hexdigest(), size, known)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield decoded chunks; a body that only drips is given up after ten times the timeout."""
        limit = self.fetcher.clock() + 10 * self.request.timeout.total_seconds()
        for chunk in response.iter_content(CHUNK):
            if self.fetcher.clock() > limit:
                raise requests.Timeout(f"body not complete after {10 * self.request.timeout}")
            yield chunk

    def _refuse_page(self, path: Path, response: requests.Response) -> None:
        with path.open("rb") as file:
            head = file.read(512)
        if looks_like_page(head):
            raise NotHere(
                f"{self.shown} answered status 200 with a web page",
                page=True,
                expected=expected_kind(self.spec),
                came=f"{response.headers.get('Content-Type', 'no content type')}, beginning {excerpt(head)}",
                todo="Open the address in a browser: it may have moved; then correct request.url.",
            )

    def _refuse(self, response: requests.Response) -> None:
        status = response.status_code
        said = self._error_text(response)
        came = f"HTTP {status}" + (f", {said}" if said else "")
        if status in _TRANSIENT:
            later = retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
            problem = UpstreamUnavailable(
                f"{self.shown} is not available now",
                expected="HTTP 200",
                came=came,
                todo="It will be tried again.",
            )
            raise _Again(problem, after=later)
        if status in (404, 410):
            raise NotHere(
                f"{self.shown} is not there", page=False, expected="HTTP 200", came=came,
                todo="It may have moved or been withdrawn: look at the source's homepage, then correct request.url.",
            )  # fmt: skip
        refused = UpstreamRefused(
            f"{self.shown} was refused", expected="HTTP 200", came=came, todo=self._advice(status)
        )
        if any(text in said for text in self.request.retry_on):
            raise _Again(refused, slowly=True)
        raise refused

    def _advice(self, status: int) -> str:
        auth = self.request.auth
        if auth and status in (400, 401, 403):
            return f"Check the value of {auth.env}."
        return "Compare the request with the source's documentation, then correct the YAML."

    def _error_text(self, response: requests.Response) -> str:
        body = next(response.iter_content(4096), b"")
        path = self.spec.format.error if self.spec.format else None
        if path:
            try:
                said = lookup(json.loads(body), path)
            except ValueError:
                said = None
            if said:
                return self._clean(said)
        return self._clean(excerpt(body)) if body else ""

    def _clean(self, said: object) -> str:
        return redact(" ".join(str(said).split()), [self.secret])


class _Again(Exception):
    """The try failed in a way that another try may mend."""

    def __init__(self, error: RefreshError, after: float | None = None, *, slowly: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.after, self.waits = error, after, SLOW_WAITS if slowly else QUICK_WAITS

    def wait(self, attempt: int) -> float | None:
        """Return the seconds to wait after try number `attempt`, or None when it was the last."""
        if attempt >= len(self.waits):
            return None
        own = self.waits[attempt] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads callers, guards nothing
        return own if self.after is None else max(self.after, own)


def retry_after(text: str | None, now: datetime) -> float | None:
    """Read `Retry-After` as seconds or as an HTTP date; None when absent or unreadable."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or timezone.utc) - now).total_seconds())
