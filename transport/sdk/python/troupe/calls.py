"""Calls of the HTTP API: connections, refusals, and trying again."""

from __future__ import annotations

import email.utils
import http.client
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from . import exact
from .problem import Problem, Unreachable

T = TypeVar("T")

# How soon a lost connection is tried again, at first and at most.
_FIRST_DELAY, _MOST_DELAY = 0.05, 5.0
# Connections that are kept for the next call.
_MOST_IDLE = 8


@dataclass(slots=True)
class Answer:
    """An answer that is no refusal."""

    status: int
    body: bytes

    def json(self) -> Any:
        """What the body says; ``None`` where there is none."""
        return exact.loads(self.body) if self.body else None


class Backoff:
    """How long to wait before the next try: longer each time, and spread so that many do not come back at once."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """The last try was a good one."""
        self._failures = 0

    def next(self, floor: float | None = None) -> float:
        """Seconds to wait, and never less than the server asked for."""
        most = min(_MOST_DELAY, _FIRST_DELAY * 2 ** min(self._failures, 10))
        self._failures += 1
        return (floor or 0.0) + random.uniform(0, most)


class Calls:
    """Makes calls to one server. It may be used from many threads."""

    def __init__(self, server: str, key: str, timeout: float, tls: ssl.SSLContext | None) -> None:
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username is not None:
            raise ValueError(f"{server!r} is no address of a server, such as http://127.0.0.1:8080")
        self.secure = url.scheme == "https"
        self.host, self.port = url.hostname, url.port or (443 if self.secure else 80)
        self.base = url.path.rstrip("/")
        self.authority = url.netloc
        self.tls = (tls or ssl.create_default_context()) if self.secure else None
        self.timeout = timeout
        self._key = key
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        takes: float = 0.0,
        once: bool = False,
    ) -> Answer:
        """Make one call, whose answer may take that long beside the usual.

        ``once``: it must not reach the server twice, so no connection is used that the server may have closed.
        """
        sent = {**self.headers(), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        while True:
            connection = None if once else self._take()
            reused = connection is not None
            connection = connection or self._dial()
            try:
                self._limit(connection, self.timeout + takes)
                connection.request(method, self.base + path, body, sent)
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as e:
                connection.close()
                if reused and not isinstance(e, TimeoutError):
                    continue
                raise self._unreachable(e) from e
            self._keep(connection, response)
            if response.status >= 400:
                raise Problem.of(response.status, data, _retry_after(response))
            return Answer(response.status, data)

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], silence: float) -> Iterator[http.client.HTTPResponse]:
        """Open an answer that lasts. It is given up when nothing comes for that long."""
        connection = self._dial()
        try:
            self._limit(connection, silence)
            try:
                connection.request("GET", self.base + path, headers={**self.headers(), **headers})
                response = connection.getresponse()
                data = response.read() if response.status >= 400 else b""
            except (OSError, http.client.HTTPException) as e:
                raise self._unreachable(e) from e
            if response.status >= 400:
                raise Problem.of(response.status, data, _retry_after(response))
            yield response
        finally:
            connection.close()

    def persist(self, call: Callable[[], T], patience: float | None) -> T:
        """Make a call again until it is answered or patience (seconds; None: no end) is over.

        It must be one that may be made more than once. A server that was never reached is told at once.
        """
        began, backoff, first = time.monotonic(), Backoff(), True
        while True:
            try:
                return call()
            except (Unreachable, Problem) as e:
                floor = e.retry_after if isinstance(e, Problem) else None
                never_reached = first and isinstance(e, Unreachable) and isinstance(e.__cause__, ConnectionRefusedError)
                wait = backoff.next(floor)
                late = patience is not None and time.monotonic() - began + wait > patience
                if never_reached or late or not passing(e):
                    raise
            first = False
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):  # it is not where the address was refused
            self.close()

    def _dial(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def _take(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        if not response.will_close:
            with self._lock:
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()

    @staticmethod
    def _limit(connection: http.client.HTTPConnection, timeout: float) -> None:
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)

    def _unreachable(self, e: Exception) -> Unreachable:
        return Unreachable(f"no server answers at {self.host}:{self.port}: {e or type(e).__name__}")


def passing(e: Exception) -> bool:
    """Whether what went wrong may be over at the next try, without asking for anything else."""
    if isinstance(e, Problem):
        # That a deadline cannot be met is an answer.
        return e.status in (502, 503, 504) and e.code != "deadline_unreachable"
    # Somebody who cannot show a certificate will hardly be another one at the next try.
    return isinstance(e, Unreachable) and not isinstance(e.__cause__, ssl.SSLCertVerificationError)


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
