"""The frames of a WebSocket, RFC 6455, as a client reads and writes them. No I/O is done here."""

from __future__ import annotations

import codecs
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

# A longer message is sent in parts, so that a pong need not wait for all of it.
_PART = 64 << 10


class Op(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Malformed(Exception):
    """The other side breaks the rules; ``code`` is what to close with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Close:
    """The other side closes."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The other side asks whether we are there."""

    data: bytes


def encode(op: Op, data: bytes, fin: bool = True) -> bytes:
    """Write a frame, masked as a client's must be."""
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", fin << 7 | op, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", fin << 7 | op, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", fin << 7 | op, 0x80 | 127, size)
    mask = os.urandom(4)
    return head + mask + masked(data, mask)


def masked(data: bytes, mask: bytes) -> bytes:
    """Mask data, or unmask it."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def text(message: bytes) -> Iterator[bytes]:
    """Write a text message as frames."""
    for start in range(0, max(1, len(message)), _PART):
        last = start + _PART >= len(message)
        yield encode(Op.CONTINUATION if start else Op.TEXT, message[start : start + _PART], last)


def close(code: int, reason: str = "") -> bytes:
    """Write a close frame."""
    return encode(Op.CLOSE, struct.pack("!H", code) + reason.encode()[:120])


class Reader:
    """Makes messages of the bytes that come from a server."""

    def __init__(self, most: int) -> None:
        self._most = most  # bytes of one message
        self._buffer = bytearray()
        self._parts: list[str] | None = None  # of a message that has begun
        self._size = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data

    def messages(self) -> Iterator[str | Ping | Close]:
        """Yield what is complete."""
        while (frame := self._frame()) is not None:
            op, fin, data = frame
            match op:
                case Op.PING:
                    yield Ping(data)
                case Op.PONG:
                    pass
                case Op.CLOSE:
                    yield _closed(data)
                    return
                case _:
                    message = self._data(op, fin, data)
                    if message is not None:
                        yield message

    def _frame(self) -> tuple[int, bool, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        op, fin, size, start = buffer[0] & 0x0F, bool(buffer[0] & 0x80), buffer[1] & 0x7F, 2
        if buffer[0] & 0x70:
            raise Malformed(1002, "a reserved bit is set")
        if op not in (0, 1, 2, 8, 9, 10):
            raise Malformed(1002, f"no frame has the code {op}")
        if buffer[1] & 0x80:
            raise Malformed(1002, "a server masks nothing")
        if op >= Op.CLOSE and (size > 125 or not fin):
            raise Malformed(1002, "a control frame is short and in one part")
        if size >= 126:
            start, least = (4, 126) if size == 126 else (10, 1 << 16)
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
            if size < least or size >= 1 << 63:
                raise Malformed(1002, "a length is not in its shortest form")
        if op < Op.CLOSE and self._size + size > self._most:
            raise Malformed(1009, f"a message has more than {self._most} bytes")
        if len(buffer) < start + size:
            return None
        data = bytes(buffer[start : start + size])
        del buffer[: start + size]
        return op, fin, data

    def _data(self, op: int, fin: bool, data: bytes) -> str | None:
        if op == Op.BINARY:
            raise Malformed(1003, "messages are text")
        if (op == Op.CONTINUATION) != (self._parts is not None):
            raise Malformed(1002, "parts of messages are mixed")
        parts = self._parts if self._parts is not None else []
        self._size += len(data)
        try:
            parts.append(self._utf8.decode(data, fin))
        except UnicodeDecodeError as e:
            raise Malformed(1007, "a text is not UTF-8") from e
        if not fin:
            self._parts = parts
            return None
        self._parts, self._size = None, 0
        return "".join(parts)


def _closed(data: bytes) -> Close:
    if not data:
        return Close(1005, "")
    if len(data) == 1:
        raise Malformed(1002, "a close code has two bytes")
    (code,) = struct.unpack("!H", data[:2])
    if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006) or 3000 <= code < 5000):
        raise Malformed(1002, f"{code} is no code to close with")
    try:
        return Close(code, data[2:].decode())
    except UnicodeDecodeError as e:
        raise Malformed(1007, "a reason is not UTF-8") from e
