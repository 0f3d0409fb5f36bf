"""Following one task over a stream of server-sent events, across lost connections and restarts."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

from . import exact
from .calls import Backoff, Calls, passing
from .events import Event, order, read, server_sent
from .problem import Problem, Unreachable

# The server says something every 15 s; one that is silent for this long is gone.
_SILENCE = 60.0


def follow(calls: Calls, task: str, path: str, after: str | None) -> Iterator[Event]:
    """Yield each event behind ``after`` once, in order, until the task has ended."""
    stream = _Stream(calls, task, path, after)
    backoff, first = Backoff(), True
    while True:
        floor = None
        try:
            for event in stream.connection():
                backoff.reset()
                first = False
                yield event
            if stream.ended:
                return
            floor = stream.retry
        except Problem as e:
            if not passing(e) and e.status not in (429, 500):
                raise
            floor = e.retry_after
        except Unreachable:
            if first and not stream.answered:
                raise
        time.sleep(backoff.next(floor))


class _Stream:
    """Where a follower is."""

    def __init__(self, calls: Calls, task: str, path: str, after: str | None) -> None:
        self._calls, self._task, self._path = calls, task, path
        self._cursor = after
        self._last: Event | None = None
        self.answered = False
        self.ended = False
        self.retry: float | None = None

    def connection(self) -> Iterator[Event]:
        """Yield what one connection brings, until it ends, whatever way."""
        headers = {"Accept": "text/event-stream"}
        if self._cursor is not None:
            headers["Last-Event-ID"] = self._cursor
        self.retry = None
        with self._calls.stream(self._path, headers, _SILENCE) as response:
            self.answered = True
            if response.status == 204:
                self.ended = True
                return
            try:
                yield from self._events(response)
            except (OSError, http.client.HTTPException):
                return  # it broke off; what has not come yet comes over the next one
            # A server that goes away says when to come again; one that has no more to say says nothing.
            self.ended = self.retry is None and self._last is not None and self._last.terminal

    def _events(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        for sent in server_sent(iter(response.readline, b"")):
            if sent.retry is not None:
                self.retry = sent.retry
            if not sent.data:
                continue
            if sent.event == "gap":
                yield Event(self._task, self._cursor or "", "gap", "", exact.loads(sent.data))
                continue
            event = read(sent.data)
            if self._cursor is not None and order(event.cursor) <= order(self._cursor):
                continue
            self._cursor, self._last = event.cursor, event
            yield event
