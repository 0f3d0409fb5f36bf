"""Durations and times as the server writes them: ``"1h30m0.5s"`` and RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def seconds(text: str) -> float:
    """Read a duration such as ``"1.5s"`` or ``"-2h30m"`` as seconds."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    for part in _PART.finditer(rest):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == 0 or at != len(rest):
        raise ValueError(f'{text!r} is no duration such as "1.5s" or "30m"')
    return sign * total


def written(value: timedelta | datetime | str | float) -> str:
    """Write a duration or a time. A bare number is seconds, a string stays as it is."""
    match value:
        case str():
            return value
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a time without a time zone could be any: give it one")
            return value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case timedelta():
            whole = value // timedelta(microseconds=1)
        case _:
            whole = round(value * 1e6)
    digits = f"{abs(whole) // 10**6}.{abs(whole) % 10**6:06d}".rstrip("0").rstrip(".")
    return f"{'-' if whole < 0 else ''}{digits}s"
