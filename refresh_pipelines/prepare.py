"""A source's `request` and a window into one HTTP request, with its credential."""

from __future__ import annotations

from collections.abc import Callable

import requests

from refresh_pipelines import __version__
from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.payload import Turn
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.transfer import ACCEPT_ENCODING
from refresh_pipelines.window import Window, fill

USER_AGENT = f"refresh_pipelines/{__version__} (unattended refresh of public data)"


def prepared(
    session: requests.Session,
    spec: SourceSpec,
    window: Window,
    url: str,
    turn: Turn,
    secret: str,
    clean: Callable[[object], str],
) -> requests.PreparedRequest:
    """Return the request of one address of `spec.request.candidates`, or of a page of it.

    Args:
        secret: the credential, "" without one.
        clean: masks credentials.

    Raises:
        UpstreamRefused: no request can be made of it.
    """
    request, where = spec.request, f"{spec.name}: request"
    filled = {k: fill(v, window, where) if isinstance(v, str) else v for k, v in request.params.items()}
    params = {} if turn.address else {**filled, **turn.params}
    headers = {
        "User-Agent": USER_AGENT,
        "Accept-Encoding": ACCEPT_ENCODING,
        **{k: fill(v, window, where) for k, v in request.headers.items()},
    }
    auth, body = request.auth, request.body
    if isinstance(body, dict):
        body = {k: fill(v, window, where) if isinstance(v, str) else v for k, v in body.items()}
    if auth and auth.query:
        params[auth.query] = secret
    if auth and auth.header:
        headers[auth.header] = auth.prefix + secret
    asked = requests.Request(
        request.method,
        turn.address or fill(url, window, where),
        params=params,
        headers=headers,
        data=body if isinstance(body, str) else None,
        json=body if isinstance(body, dict) else None,
        auth=_no_auth,
    )
    try:
        return session.prepare_request(asked)
    except (requests.RequestException, ValueError) as error:
        came = clean(error)
    raise UpstreamRefused(f"{url!r} cannot be requested", came=came, todo="Correct `request` in the YAML.")


def _no_auth(sending: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from adding passwords of ~/.netrc, which no YAML names and no redirect would drop."""
    return sending
