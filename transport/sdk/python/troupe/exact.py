"""JSON whose numbers keep every digit.

A whole number is an ``int`` of any size. A number with a point or an exponent is a ``float`` where a float says it
exactly as it was written, and a ``decimal.Decimal`` where it does not. Both are written as they were read.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

# Python refuses to read or write longer whole numbers as int, for its time grows with the square of their length.
_MOST_DIGITS = 4000


def loads(text: str | bytes) -> Any:
    """Read JSON. Raise ``ValueError`` where it is none."""
    return json.loads(text, parse_float=_fraction, parse_int=_whole, parse_constant=_refuse)


def dumps(value: Any) -> bytes:
    """Write a value as JSON in UTF-8. Raise ``TypeError`` or ``ValueError`` where JSON cannot say it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_foreign)
    except _HasDecimal:
        text = _write(value)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only say as an escape
        return "".join(c if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in text).encode()


def _fraction(text: str) -> float | Decimal:
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= _MOST_DIGITS else Decimal(text)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


class _HasDecimal(Exception):
    """Python's own writer cannot write a Decimal as a number."""


def _foreign(value: Any) -> Any:
    if isinstance(value, Decimal):
        raise _HasDecimal
    raise TypeError(f"JSON has nothing for a {type(value).__name__}")


def _write(value: Any) -> str:
    """Write a value that has a Decimal somewhere."""
    match value:
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"JSON has no number {value}")
            return str(value)
        case dict():
            return "{" + ",".join(_name(k) + ":" + _write(v) for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_write, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_foreign)


def _name(key: Any) -> str:
    # Python's writer takes some keys that are no strings; here they become the same.
    return json.dumps({key: 0}, ensure_ascii=False, separators=(",", ":"))[1:-3]
