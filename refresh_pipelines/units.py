"""Durations, sizes and rates as people write them in YAML: `36h`, `200MB`, `2/s`."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_duration(text: object) -> timedelta:
    """Read `90s`, `15m`, `36h`, `30d`, `2w` or a sum such as `1h30m`; raise ValueError otherwise."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not re.fullmatch(r"(\d+[smhdw])+", text):
        raise ValueError(f"not a duration: {text!r} (write a number and s, m, h, d or w: 90s, 36h, 1h30m)")
    return timedelta(seconds=sum(int(n) * _SECONDS[u] for n, u in re.findall(r"(\d+)([smhdw])", text)))


def format_duration(value: timedelta) -> str:
    """Write a duration the way `parse_duration` reads it, largest unit first."""
    left, out = int(value.total_seconds()), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _SECONDS[unit])
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def parse_size(text: object) -> int:
    """Read `200MB` (decimal units) as bytes; raise ValueError otherwise."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    found = re.fullmatch(r"(\d+)\s*(B|KB|MB|GB)", text) if isinstance(text, str) else None
    if not found:
        raise ValueError(f"not a size: {text!r} (write a number and B, KB, MB or GB: 200MB)")
    return int(found[1]) * _BYTES[found[2]]


def parse_rate(text: object) -> float:
    """Read `2/s`, `120/m` or `1000/h` as requests per second; raise ValueError otherwise."""
    if isinstance(text, float) and 0 < text < float("inf"):
        return text
    found = re.fullmatch(r"(\d+)/([smhd])", text) if isinstance(text, str) else None
    if not found or int(found[1]) == 0:
        raise ValueError(f"not a rate: {text!r} (write requests per unit of time: 2/s, 120/m)")
    return int(found[1]) / _SECONDS[found[2]]
