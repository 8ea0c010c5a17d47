"""Posts one notice to its receiver, and says what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from refresh_pipelines.alert_body import encoded, signature
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.proxy import route_of
from refresh_pipelines.settings import Settings, Webhook

TIMEOUT = 5.0
# Of 4xx these may pass if sent again soon.
_PASSING = frozenset({408, 425, 429})
_EXCERPT = 200


@dataclass(frozen=True)
class Answer:
    """What the receiver said.

    Attributes:
        status: 0 without an answer.
        problem: why the notice is not delivered, None if it is.
        said: the first words of its answer, where they were asked for.
    """

    status: int
    problem: str | None = None
    said: str = ""

    @property
    def refused(self) -> bool:
        """Whether the same notice will be answered the same way."""
        return self.status // 100 == 4 and self.status not in _PASSING


def new_session() -> requests.Session:
    """Return a session for posts; proxies and certificates are chosen for each, from `.env` too."""
    session = requests.Session()
    session.trust_env = False  # or it would add those it finds itself
    return session


def post(
    session: requests.Session, settings: Settings, hook: Webhook, body: Mapping[str, Any], *, listen: bool = False
) -> Answer:
    """Send a body, signed if there is a secret; `listen` reads the first words of the answer."""
    payload = encoded(body, hook.form)
    headers = {"Content-Type": "application/json", "X-Refresh-Event-Id": str(body["event_id"])}
    if settings.webhook_secret:
        headers["X-Refresh-Signature"] = signature(settings.webhook_secret, payload)
    try:
        how = route_of(hook.url, settings.environ)
    except RefreshError as error:
        return Answer(0, f"the webhook was not asked: {error}")
    try:
        # Streamed, because the answer's body may never end.
        with session.post(
            hook.url, data=payload, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True,
            proxies=how.proxies, verify=how.verify,
        ) as response:  # fmt: skip
            said = _excerpt(response) if listen else ""
            status = response.status_code
    except requests.exceptions.ProxyError as error:
        return Answer(0, f"the proxy of {how.proxy} did not let the webhook be reached: {type(error).__name__}")
    except requests.RequestException as error:
        # The error's text names the path, which is the secret of most webhooks.
        return Answer(0, f"the webhook could not be reached: {type(error).__name__}")
    return Answer(status, None if status < 300 else f"the webhook answered HTTP {status}", said)


def _excerpt(response: requests.Response) -> str:
    text = next(response.iter_content(_EXCERPT), b"").decode(errors="replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
