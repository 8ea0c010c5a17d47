"""One HTTP answer into one file: conditional, bounded in time and size, redirects checked.

Here belongs what is true of any source's bytes on the way in. What the bytes mean is for `parse`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError

from refresh_pipelines.address import guard, rebase, unrebase
from refresh_pipelines.body import excerpt, expected_kind, page_head
from refresh_pipelines.credentials import credential
from refresh_pipelines.cutoff import cut_off_when_over
from refresh_pipelines.errors import InternalError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.payload import NotModified, Payload, Turn
from refresh_pipelines.prepare import USER_AGENT, prepared
from refresh_pipelines.proxy import Route, proxy_secrets, route_of
from refresh_pipelines.rate import Pace, host_of
from refresh_pipelines.received import received
from refresh_pipelines.redact import redact
from refresh_pipelines.refusal import NotHere, Refusal, may_pass, verdict
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Request, SourceSpec
from refresh_pipelines.transfer import body_chunks
from refresh_pipelines.tries import (
    BUDGET,
    SLOW_WAITS,
    LeftAlone,
    TryFailed,
    proxy_wants_password,
    retry_after,
    transport_failed,
)
from refresh_pipelines.validators import Validators, conditions, contradicts, said_published, validators_of
from refresh_pipelines.window import Window

__all__ = ["USER_AGENT", "Fetcher", "NotHere", "NotModified", "Payload", "Turn", "Validators"]

MAX_REDIRECTS = 5
PATIENCE = 10  # times the timeout of one read, for a whole body
EXPLANATION = 4096  # bytes of an error body that are looked at


class Fetcher:
    """Sends the requests of one try of a run. Session, clocks and sleep are injected for tests.

    Attributes:
        pace: has requests wait for their turn at a host; not those to our own sandbox.
        left_alone: hosts that asked for a longer pause than one waits for.
    """

    def __init__(
        self,
        settings: Settings,
        session: requests.Session | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.settings = settings
        self.session = session or requests.Session()
        self.clock, self.sleep, self.now = clock, sleep, now
        self.pace = Pace(settings.data_dir, now=now, clock=clock, sleep=sleep)
        self.left_alone = LeftAlone(now)

    def fetch(
        self,
        spec: SourceSpec,
        window: Window,
        url: str,
        folder: Path,
        known: Validators | None = None,
        turn: Turn | None = None,
    ) -> Payload | NotModified:
        """Get one address of `spec.request.candidates`, or a page of it, into `folder`.

        No error is chained to what an HTTP library raised: its text holds the key.

        Raises:
            UpstreamUnavailable: transport errors, 408, 429 and 5xx, after quick tries within 60 s; with `retry_at`
                where the upstream said when, and then without a request for whatever else is asked of that host.
            NotHere: 404, 410, or a web page where data was expected.
            UpstreamRefused: other 4xx, a body over `max_bytes`, an address that is not allowed.
            InternalError: the folder cannot be written to.
        """
        with cut_off_when_over(self.session):
            return _Call(self, spec, window, url, folder, known, turn or Turn()).run()


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
        turn: Turn,
    ) -> None:
        self.fetcher, self.spec, self.folder = fetcher, spec, folder
        self.request: Request = spec.request
        self.secret = credential(spec, fetcher.settings)
        self.masked = [self.secret, *proxy_secrets(fetcher.settings.environ)]
        self.route = Route()
        self.prepared = prepared(fetcher.session, spec, window, url, turn, self.secret, self._clean)
        self.logical = str(self.prepared.url)
        self.shown = redact(self.logical, [self.secret])
        self.known = known.without() if known and known.url == self.shown else None
        self.prepared.headers.update(conditions(self.known) if self.known else {})
        self.host = host_of(self.logical)
        self.started, self.asked_at = fetcher.clock(), fetcher.now()

    def run(self) -> Payload | NotModified:
        """Try until it works, the error is final, or the waits pass the budget."""
        attempt = 0
        while True:
            try:
                return self._once()
            except TryFailed as failed:
                error, wait, after = failed.error, failed.wait(attempt), failed.after
            spent = self.fetcher.clock() - self.started
            if wait is None or spent + wait > BUDGET.total_seconds():
                # Outside the handler, so that nothing is chained to it.
                raise self.fetcher.left_alone.final(self.host, error, after)
            if after and not self.fetcher.settings.sandbox:
                self.fetcher.pace.close(self.host, self.request.rate, after)
            self.fetcher.sleep(wait)
            attempt += 1

    def _once(self) -> Payload | NotModified:
        with self._follow() as response:
            if response.status_code == 200:
                self._refuse_stale(response)
                return self._store(response)
            if response.status_code == 304 and self.known:
                if not contradicts(self.known, response.headers):
                    return NotModified(self.shown)
            else:
                raise self._refused(response)
        # "Not modified" of another version than we hold: asked anew as if we held none.
        for name in conditions(self.known):
            self.prepared.headers.pop(name, None)
        self.known = None
        return self._once()

    @contextmanager
    def _transport(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, HTTPError, OSError, UnicodeError) as error:
            raise transport_failed(error, self.shown, self._clean, self.route) from error

    def _follow(self) -> requests.Response:
        """Send, following redirects by hand so that each address is checked and rebased."""
        settings, sending, logical = self.fetcher.settings, self.prepared.copy(), self.logical
        for _ in range(MAX_REDIRECTS + 1):
            self._guard(logical)
            self.host = host_of(logical)
            self.fetcher.left_alone.require_welcome(self.host, self.shown)
            sending.url = rebase(logical, settings.upstream)
            if not settings.sandbox:
                self.fetcher.pace.wait(self.host, self.request.rate)
            response = self._send(sending)
            if not response.is_redirect:
                return response
            response.close()
            previous, logical = logical, self._redirected(sending, response, logical)
            self._forget_credentials(sending, previous, logical)
        raise UpstreamRefused(
            f"{self.shown} redirects over {MAX_REDIRECTS} times",
            came="one redirect after another and no data",
            todo="Open the address in a browser to see where it leads, then correct request.url.",
        )

    def _guard(self, logical: str) -> None:
        try:
            guard(logical, self.request.allow_private, self.fetcher.settings.environ)
        except UpstreamRefused as error:
            if logical != self.logical:
                # Nothing in the YAML names that address: say where it came from.
                error.problem = f"{self.shown} redirects elsewhere: {error.problem}"
            raise

    def _send(self, sending: requests.PreparedRequest) -> requests.Response:
        session, seconds = self.fetcher.session, self.request.timeout.total_seconds()
        # The bundled sandbox is on this machine, where no proxy has to take us.
        settings = self.fetcher.settings
        self.route = Route() if settings.sandbox else route_of(str(sending.url), settings.environ)
        with self._transport():
            # Not session.send: it reads the whole body of a redirect, however large.
            adapter, limits = session.get_adapter(str(sending.url)), (min(seconds, 15.0), seconds)
            verify, proxies = self.route.verify, self.route.proxies
            return adapter.send(sending, stream=True, timeout=limits, verify=verify, proxies=proxies)

    def _redirected(self, sending: requests.PreparedRequest, response: requests.Response, logical: str) -> str:
        """Turn `sending` into the request a redirect asks for, and return its logical address."""
        session, settings, method = self.fetcher.session, self.fetcher.settings, sending.method
        try:
            target = session.get_redirect_target(response) or ""
            sending.prepare_url(urljoin(logical, unrebase(target, settings.upstream)), None)
            session.rebuild_method(sending, response)
        except (requests.RequestException, ValueError):
            target = ""
        if not target:
            raise UpstreamRefused(f"{self.shown} redirects to what is no web address", todo="Correct request.url.")
        if sending.method != method:
            sending.body = None
            for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
                sending.headers.pop(name, None)
        return str(sending.url)

    def _forget_credentials(self, sending: requests.PreparedRequest, previous: str, target: str) -> None:
        if self.fetcher.session.should_strip_auth(previous, target):  # type: ignore[no-untyped-call]
            sending.headers.pop("Cookie", None)
            if self.request.auth and self.request.auth.header:
                sending.headers.pop(self.request.auth.header, None)

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        with self._transport():
            yield from body_chunks(response, PATIENCE * self.request.timeout.total_seconds(), self.fetcher.clock)

    def _store(self, response: requests.Response) -> Payload:
        # Of everything that two requests of a refresh may differ in: masked, the marks of two pages would be one.
        asked = repr((self.logical, self.prepared.body, sorted(self.prepared.headers.items())))
        path = self.folder / f"payload-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("wb") as file:
                for chunk in self._chunks(response):
                    digest.update(chunk)
                    size += len(chunk)
                    self._require_room(size)
                    file.write(chunk)
        except OSError as error:
            raise InternalError(
                f"{path} cannot be written", came=str(error), todo="Check REFRESH_DATA_DIR, its rights and the disk."
            ) from error
        self._refuse_page(path, response)
        validators = validators_of(self.shown, response.headers, self.fetcher.now())
        following, published = response.links.get("next", {}).get("url"), said_published(response.headers)
        about = received(response, self.prepared, self.shown, self.asked_at, self.fetcher.now(), self._clean)
        return Payload(path, self.shown, digest.hexdigest(), size, validators, following, published, about)

    def _require_room(self, size: int) -> None:
        if size > self.request.max_bytes:
            raise UpstreamRefused(
                f"the body of {self.shown} is too large",
                expected=f"at most {self.request.max_bytes} bytes (request.max_bytes)",
                came="more",
                todo="Raise request.max_bytes if the source has really grown.",
            )

    def _refuse_page(self, path: Path, response: requests.Response) -> None:
        head = page_head(path)
        if head is not None:
            kind = response.headers.get("Content-Type", "no content type")
            page = NotHere(
                f"{self.shown} answered status 200 with a web page",
                page=True,
                expected=expected_kind(self.spec),
                came=self._clean(f"{kind}, beginning {excerpt(head)}"),
                todo="Open the address in a browser: it may have moved; then correct request.url.",
            )
            if may_pass(head, self.request):
                raise TryFailed(page, SLOW_WAITS)
            raise page

    def _refuse_stale(self, response: requests.Response) -> None:
        for name, value in self.request.stale.items():
            said = response.headers.get(name, "")
            if said.strip().lower() == value.lower():
                stale = UpstreamUnavailable(
                    f"{self.shown} says that its data are not current",
                    expected=f"an answer without {name}: {value} (request.stale)",
                    came=self._clean(f"{name}: {said}"),
                    todo="A later try may pass.",
                )
                raise TryFailed(stale)

    def _refused(self, response: requests.Response) -> Exception:
        if response.status_code == 407 and self.route.proxy:
            return proxy_wants_password(self.route.proxy, self.shown)
        after = retry_after(response.headers.get("Retry-After"), self.fetcher.now(), self.request.retry_after)
        refusal = Refusal(self.shown, response.status_code, after, self._explanation(response))
        return verdict(refusal, self.spec, self._clean)

    def _explanation(self, response: requests.Response) -> bytes:
        body = b""
        try:
            for chunk in self._chunks(response):
                body += chunk
                if len(body) >= EXPLANATION:
                    break
        except TryFailed:
            return body  # the status decides, whether its explanation came whole or not
        return body[:EXPLANATION]

    def _clean(self, said: object) -> str:
        return redact(" ".join(str(said).split()), self.masked)
