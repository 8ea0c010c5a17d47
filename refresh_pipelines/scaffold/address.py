"""What of an address may stand in a YAML: credentials become the name of a variable."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from refresh_pipelines.address import is_private
from refresh_pipelines.rules.secrets import is_secret_name

_SECOND_LEVEL = {"co", "com", "gov", "gouv", "go", "org", "ac", "edu", "net"}


class AddressError(ValueError):
    """The address cannot be a source's; the message never quotes a credential."""


@dataclass(frozen=True)
class Address:
    """An address without credentials.

    Attributes:
        env: name of the variable that is to hold the credential, None if there was none.
        query: name of the query parameter it goes into.
        secret: its value, for this one request.
        private: whether the host lies inside a private network.
        remarks: what was changed, for the person who typed it.
    """

    url: str
    env: str | None = None
    query: str | None = None
    secret: str = field(default="", repr=False)
    private: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """The path, at least /."""
        return urlsplit(self.url).path or "/"


def read_address(text: str) -> Address:
    """Take an address apart. Raises AddressError for one that no source may have."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise AddressError("--url is no web address") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\\]", text):
        raise AddressError("--url is no web address: it begins with https:// and holds no white space")
    if "@" in parts.netloc:
        raise AddressError("--url must not hold a user or password; write auth: with a header into the YAML afterwards")
    if "{" in text or "}" in text:
        raise AddressError("--url is one address that can be asked now; write {fields} into the YAML afterwards")
    private = is_private(host)
    remarks = [f"{host} is a private address, hence request.allow_private: true"] if private else []
    scheme = parts.scheme
    if scheme == "http" and not private:
        scheme, remarks = "https", ["http:// sends in the open and is not accepted: https:// was asked"]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    secrets = [(name, value) for name, value in pairs if is_secret_name(name) and value]
    if len({name for name, _ in secrets}) > 1:
        names = ", ".join(dict.fromkeys(name for name, _ in secrets))
        raise AddressError(f"--url holds several credentials ({names}); a source has one")
    query = parts.query
    if secrets:
        query = urlencode([(name, value) for name, value in pairs if (name, value) not in secrets])
    url = urlunsplit((scheme, parts.netloc, parts.path, query, ""))
    if not secrets:
        return Address(url, private=private, remarks=tuple(remarks))
    name, value = secrets[0]
    return Address(url, variable_for(host, name), name, value, private, tuple(remarks))


def variable_for(host: str, parameter: str) -> str:
    """Return a variable's name for a host's credential: api.stlouisfed.org, api_key: STLOUISFED_API_KEY."""
    labels = [label for label in host.split(".") if label][:-1] or [host]
    while len(labels) > 1 and labels[-1] in _SECOND_LEVEL:
        labels.pop()
    plain = re.sub(r"[^A-Z0-9]+", "_", f"{labels[-1]}_{parameter}".upper()).strip("_")
    return plain if plain[0].isalpha() else f"KEY_{plain}"
