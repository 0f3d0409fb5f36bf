"""A server of WebSockets that plays a script."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from troupe.frames import masked
from troupe.websocket import _GUID

PROTOCOL = "troupe.worker.v1.json"


class Gone(Exception):
    """The client has closed."""


class Peer:
    """One connection of a client."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self._file = raw.makefile("rb")
        self._held: bytes | None = None
        self.pongs: list[bytes] = []
        head = iter(lambda: self._file.readline().strip(), b"")
        self.request = next(head).decode()
        self.headers = {k.strip().lower(): v.strip() for k, _, v in (line.decode().partition(":") for line in head)}

    def answer(self, status: str, headers: dict[str, str], body: str = "") -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers.items()), "", body]
        self.raw.sendall("\r\n".join(lines).encode())

    def accept(self, **changes: str) -> Peer:
        """Open the WebSocket."""
        key = self.headers["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept, "Sec-WebSocket-Protocol": PROTOCOL}
        headers |= {k.replace("_", "-"): v for k, v in changes.items()}
        self.answer("101 Switching Protocols", {k: v for k, v in headers.items() if v})
        return self

    def send(self, op: int, data: bytes) -> None:
        size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack("!H", len(data))
        frame = bytes([0x80 | op]) + size + data
        if self._held is None:
            self.raw.sendall(frame)
        else:
            self._held += frame

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have all that is said meanwhile arrive together."""
        self._held = b""
        yield
        held, self._held = self._held, None
        self.raw.sendall(held)

    def say(self, *messages: Any) -> None:
        for m in messages:
            self.send(1, json.dumps(m).encode())

    def notify(self, method: str, **params: Any) -> None:
        self.say({"jsonrpc": "2.0", "method": method, "params": params})

    def hear(self) -> Any:
        """The next message that is no heartbeat. Raises Gone."""
        parts = b""
        while True:
            head = self._file.read(2)
            if len(head) < 2:
                raise Gone
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
            mask = self._file.read(4)
            data = masked(self._file.read(size), mask)
            match head[0] & 0x0F:
                case 8:
                    raise Gone
                case 10:
                    self.pongs.append(data)
                case _:
                    parts += data
                    if head[0] & 0x80:
                        message = json.loads(parts)
                        parts = b""
                        if message["method"] != "heartbeat":
                            return message

    def register(self, *tokens: str, session: str = "s", lease: str = "300s") -> dict[str, Any]:
        """Take a worker, whose attempts with these tokens are kept."""
        self.notify("hello", session="c", limits={"message": 100_000, "batch": 100})
        asked = self.hear()
        attempts = [{"task": "t", "attempt": 1, "token": t} for t in tokens]
        self.say({"jsonrpc": "2.0", "id": asked["id"], "result": {"worker": "w", "session": session, "lease": lease, "attempts": attempts}})
        return asked["params"]

    def run(self, token: str, **more: Any) -> None:
        task = {"id": "t", "kind": "k", "payload": token}
        self.notify("run", task=task, attempt=1, token=token, lease="300s", **more)

    def ok(self, message: dict[str, Any], result: Any = None) -> None:
        self.say({"jsonrpc": "2.0", "id": message["id"], "result": result or {}})

    def no(self, message: dict[str, Any], code: str, status: int = 409) -> None:
        self.say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32000, "message": code, "data": {"code": code, "status": status}}})


class Stage:
    """Plays a function for every connection, one after the other; a fault in one fails the test."""

    def __init__(self, *plays: Callable[[Peer], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._plays = plays
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        for play in self._plays:
            raw, _ = self._listener.accept()
            with raw:
                raw.settimeout(300)
                try:
                    peer = Peer(raw)
                    play(peer)
                except Gone:
                    pass
                except BaseException as e:
                    self.faults.append(e)
                finally:
                    peer._file.close()

    def __enter__(self) -> Stage:
        self._thread.start()
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self._thread.join()
            self._listener.close()
            if self.faults:
                raise self.faults[0]
