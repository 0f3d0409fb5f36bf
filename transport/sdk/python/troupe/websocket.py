"""A WebSocket, RFC 6455, as a client has it: connecting, and speaking from several threads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping

from . import frames
from .problem import Problem, Unreachable

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MOST_HEAD = 64 << 10
_MOST_PONGS = 16


class Closed(Exception):
    """The connection is over. ``code`` is the other side's, ours where it broke the rules, or 1006 if it broke."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code, self.reason = code, reason


class WebSocket:
    """One connection. One thread receives and in the end releases it, any may send."""

    def __init__(self, raw: socket.socket, rest: bytes, most: int, timeout: float) -> None:
        self._raw = raw
        self._timeout = timeout
        self._io = threading.Lock()  # of calls of the socket, which one of TLS needs
        self._sending = threading.Lock()  # of whole frames
        self._controls: deque[bytes] = deque(maxlen=_MOST_PONGS)
        self._reader = frames.Reader(most)
        self._reader.feed(rest)
        self._messages = self._reader.messages()
        self._bell, self._ringer = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(raw, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        raw.setblocking(False)
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        #: When something last came, by ``time.monotonic``.
        self.heard = time.monotonic()

    @classmethod
    def connect(
        cls,
        address: tuple[str, int],
        path: str,
        protocol: str,
        headers: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None,
        timeout: float,
        most: int,
    ) -> WebSocket:
        """Open a connection.

        Raises ``Unreachable``, or a ``Problem`` where the server opens none. ``timeout`` also bounds how long the other
        side may take to take what is sent; ``most`` is the size of a message.
        """
        host, port = address
        try:
            raw = socket.create_connection(address, timeout)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    raw = tls.wrap_socket(raw, server_hostname=host)
                rest = _shake_hands(raw, address, path, protocol, headers, secure=tls is not None)
                return cls(raw, rest, most, timeout)
            except BaseException:
                raw.close()
                raise
        except OSError as e:
            raise Unreachable(f"no server answers at {host}:{port}: {e}") from e

    def send(self, message: bytes) -> None:
        """Send a text message. Raises ``Closed``."""
        with self._sending:
            for frame in frames.text(message):
                self._write(frame)
                self._write_controls()
        self._flush()

    def receive(self, wait: float) -> str | None:
        """Wait for a message. ``None``: none came in that time, or the bell was rung. Raises ``Closed``."""
        end = time.monotonic() + wait
        while True:
            try:
                message = next(self._messages, None)
            except frames.Malformed as e:
                self._say_close(e.code, e.reason)
                raise Closed(e.code, e.reason) from e
            match message:
                case str():
                    return message
                case frames.Ping(data):
                    self._controls.append(frames.encode(frames.Op.PONG, data))
                    self._flush()
                case frames.Close(code, reason):
                    self._say_close(code if code != 1005 else 1000, "")
                    raise Closed(code, reason)
                case None:
                    self._messages = self._reader.messages()
                    if not self._read() and not self._await_bytes(end - time.monotonic()):
                        return None

    def ring(self) -> None:
        """Have whoever receives look up. Safe in a signal handler."""
        with contextlib.suppress(OSError):
            self._ringer.send(b"!")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and wait a moment for the other side to agree."""
        with contextlib.suppress(Closed):
            self._say_close(code, reason)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                self.receive(end - time.monotonic())
        self.release()

    def break_off(self) -> None:
        """End the connection, whatever the other side thinks; whoever receives learns of it."""
        with contextlib.suppress(OSError), self._io:
            self._raw.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give back what the connection takes. For the one who receives, who does not any more."""
        with self._io:
            self._selector.close()
            for s in (self._raw, self._bell, self._ringer):
                s.close()

    def _read(self) -> bool:
        """Feed what is there already, and say whether there was anything."""
        try:
            with self._io:
                data = self._raw.recv(1 << 16)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (OSError, ValueError) as e:
            raise Closed(1006, str(e)) from e
        if not data:
            raise Closed(1006, "the connection broke")
        self.heard = time.monotonic()
        self._reader.feed(data)
        return True

    def _await_bytes(self, wait: float) -> bool:
        """Whether bytes may have come. Not if the bell rang, or the time is over."""
        try:
            ready = self._selector.select(max(0.0, wait))
        except (OSError, ValueError) as e:
            raise Closed(1006, str(e)) from e
        rang = any(key.fileobj is self._bell for key, _ in ready)
        if rang:
            with contextlib.suppress(OSError):
                self._bell.recv(4096)
        return bool(ready) and not rang

    def _say_close(self, code: int, reason: str) -> None:
        with contextlib.suppress(Closed):
            if self._sending.acquire(timeout=1):
                try:
                    self._write(frames.close(code, reason))
                finally:
                    self._sending.release()

    def _flush(self) -> None:
        """Send pongs, unless somebody sends and will."""
        while self._controls and self._sending.acquire(blocking=False):
            try:
                self._write_controls()
            finally:
                self._sending.release()

    def _write_controls(self) -> None:
        while self._controls:
            self._write(self._controls.popleft())

    def _write(self, frame: bytes) -> None:
        """Send all of a frame. ``_sending`` is held."""
        left, end = memoryview(frame), time.monotonic() + self._timeout
        while left:
            want = selectors.EVENT_WRITE
            try:
                with self._io:
                    sent = self._raw.send(left)
                left, end = left[sent:], time.monotonic() + self._timeout
                continue
            except ssl.SSLWantReadError:
                want = selectors.EVENT_READ
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            except (OSError, ValueError) as e:
                raise Closed(1006, str(e)) from e
            self._await_room(want, end - time.monotonic())

    def _await_room(self, want: int, wait: float) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._raw, want)
                if wait > 0 and selector.select(wait):
                    return
        except (OSError, ValueError) as e:
            raise Closed(1006, str(e)) from e
        self.break_off()
        raise Closed(1006, "the other side takes nothing")


def _shake_hands(
    raw: socket.socket, address: tuple[str, int], path: str, protocol: str, headers: Mapping[str, str], *, secure: bool
) -> bytes:
    """Ask for a WebSocket, and return what has come behind the answer."""
    key = base64.b64encode(os.urandom(16))
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    if address[1] != (443 if secure else 80):
        host = f"{host}:{address[1]}"
    asked = {
        "Host": host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Protocol": protocol,
        **headers,
    }
    for name, value in asked.items():
        if any(c in value for c in "\r\n\0"):
            raise ValueError(f"the header {name} has a line end")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items()), "", ""]
    raw.sendall("\r\n".join(lines).encode("latin-1"))

    head, rest = _read_head(raw)
    status, answered = _parse_head(head)
    if status != 101:
        raise Problem.of(status, _read_body(raw, rest, answered), _retry_after(answered))
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    upgrades = "websocket" in answered.get("upgrade", "").lower() and "upgrade" in answered.get("connection", "").lower()
    if not upgrades or answered.get("sec-websocket-accept") != accept:
        raise Unreachable("what answers speaks no WebSocket")
    if answered.get("sec-websocket-protocol") != protocol or "sec-websocket-extensions" in answered:
        raise Unreachable(f"what answers does not speak {protocol}")
    return rest


def _read_head(raw: socket.socket) -> tuple[bytes, bytes]:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        part = raw.recv(4096)
        if not part or len(data) > _MOST_HEAD:
            raise Unreachable("the answer breaks off")
        data += part
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    return head, rest


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise Unreachable("what answers speaks no HTTP")
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read_body(raw: socket.socket, rest: bytes, headers: Mapping[str, str]) -> bytes:
    size = min(int(headers["content-length"]), _MOST_HEAD) if headers.get("content-length", "").isdigit() else _MOST_HEAD
    body = bytearray(rest)
    with contextlib.suppress(OSError):
        while len(body) < size and (part := raw.recv(4096)):
            body += part
    return bytes(body[:size])


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
