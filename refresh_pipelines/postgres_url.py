"""Addresses of PostgreSQL as people write them: read, completed, and shown without their secrets."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

EXPECTED = "postgresql://user:password@host:5432/database"
# SQLAlchemy 2.1 takes `postgresql://` for psycopg 3, which Dagster's statements do not fit.
_FOR_DAGSTER = "postgresql+psycopg2://"
# A server that has gone without a word is given up after about a minute, not after the two hours of TCP.
PATIENT = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


def read_address(text: str) -> str:
    """Return an address as libpq takes it, with `PATIENT` where it says nothing else.

    It may be written as `for_dagster` returns it. Reading what was returned returns it again.

    Raises:
        ValueError: it cannot be one; the message says why and repeats nothing of it that may be a secret.
    """
    try:
        parts = urlsplit(text.replace(_FOR_DAGSTER, "postgresql://", 1))
        port = parts.port
    except ValueError:
        raise ValueError(
            "host or port cannot be read; write special characters of the password as in a URL (@ is %40)"
        ) from None
    if parts.scheme != "postgresql":
        raise ValueError("it does not begin with postgresql://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or "/" in parts.path.removeprefix("/"):
        raise ValueError("write special characters of the password as in a URL (# is %23, / is %2F)")
    if not parts.path.removeprefix("/") and "dbname" not in options:
        raise ValueError("it names no database")
    if not parts.hostname and "host" not in options:
        raise ValueError("it names no host")
    if port == 0:
        raise ValueError("its port is 0")
    query = urlencode({**PATIENT, **options}, quote_via=quote)
    return f"postgresql://{parts.netloc}{parts.path}?{query}"


def for_dagster(address: str) -> str:
    """Return an address that was read as Dagster's storage takes it, with the driver named."""
    return address.replace("postgresql://", _FOR_DAGSTER, 1)


def shown(address: str) -> str:
    """Return an address as it may be shown: without user, password and options."""
    parts = urlsplit(address)
    folder = dict(parse_qsl(parts.query)).get("host", "") if not parts.hostname else ""
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}" + (f" at {folder}" if folder else "")


def password_of(address: str) -> str:
    """Return the password, "" for none."""
    parts = urlsplit(address)
    return unquote(parts.password or "") or dict(parse_qsl(parts.query)).get("password", "")
