"""What is masked in every line: the values of this machine's settings that are secret, whoever quotes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from refresh_pipelines.settings import Settings

# Names of variables; PWD is the current folder.
_SECRET = re.compile(r"(?i)(key|token|secret|password|passwd|credentials?|_pwd)$")
# A shorter value is no secret worth the name, and would be masked inside of ordinary words.
_SHORTEST = 6


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield the webhooks' addresses and secret, passwords of proxies and warehouse, and what is named like a secret.

    The credentials that sources declare are added by whoever reads the catalogue: their names may be any.
    """
    from refresh_pipelines.proxy import proxy_secrets  # noqa: PLC0415 - loads ssl, which a command without lines spares

    if settings.webhook_secret:
        yield settings.webhook_secret
    for hook in settings.webhooks.values():
        path = urlsplit(hook.url).path
        yield from (hook.url, *([path, unquote(path)] if len(path) > _SHORTEST else []))
    yield from proxy_secrets(settings.environ)
    password = urlsplit(settings.warehouse).password or ""
    yield from {word for word in (password, unquote(password)) if len(word) >= _SHORTEST}
    for name, value in settings.environ.items():
        if _SECRET.search(name) and len(value.strip()) >= _SHORTEST:
            yield value.strip()
