"""What a worker has under way: its attempts, and what they have said that is not answered yet.

Everything said is a request. What a broken connection may have swallowed is said again on the next one, so nothing is lost;
what had arrived all the same may then be there twice, which matters to ``output`` and ``log`` alone.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from . import exact
from .attempt import Attempt, Cancelled
from .problem import Problem
from .websocket import Closed, WebSocket

# So much of one attempt may be on its way before it waits.
_MOST_CALLS = 64
_MOST_BYTES = 1 << 20


class _Call:
    """A request and what becomes of it."""

    __slots__ = ("answered", "attempt", "problem", "result", "text", "waited")

    def __init__(self, attempt: Attempt | None, text: bytes, waited: bool) -> None:
        self.attempt, self.text, self.waited = attempt, text, waited
        self.answered = False
        self.result: Any = None
        self.problem: Problem | None = None


class Desk:
    """Shared by the threads of the attempts, the one that writes and the one that reads. It is a ``Line``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connection: WebSocket | None = None
        self._attempts: dict[str, Attempt] = {}
        self._calls: dict[int, _Call] = {}  # not answered, in the order in which they were made
        self._unsent: list[int] = []
        self._notes: list[bytes] = []
        self._next = 1
        self._closed = False
        #: So many bytes of one message the server takes.
        self.most_message = 1 << 20
        #: When something was last said, and when the connection was lost, by ``time.monotonic``.
        self.said_at = 0.0
        self.lost_at: float | None = None

    def tell(self, attempt: Attempt, method: str, params: dict[str, Any]) -> None:
        """Say something, in order; it waits only while too much is on its way."""
        self._make(attempt, method, params, waited=False)

    def ask(self, attempt: Attempt, method: str, params: dict[str, Any]) -> Any:
        """Say something and wait for the answer."""
        call = self._make(attempt, method, params, waited=True)
        with self._changed:
            self._changed.wait_for(lambda: call.answered)
        if call.problem is not None:
            attempt.check()
            raise call.problem
        return call.result

    def end(self, attempt: Attempt, method: str, params: dict[str, Any]) -> None:
        """Say how an attempt ended, and wait until the server knows or does not want to. Raises ``Problem``."""
        try:
            call = self._make(attempt, method, {"token": attempt.token, **params}, waited=True, last=True)
        except Cancelled:
            return  # lost: there is nobody to tell
        with self._changed:
            self._changed.wait_for(lambda: call.answered)
        if call.problem is not None and call.problem.code != "stale_attempt":
            raise call.problem

    def _make(self, attempt: Attempt, method: str, params: dict[str, Any], *, waited: bool, last: bool = False) -> _Call:
        with self._changed:
            number, self._next = self._next, self._next + 1
        call = _Call(attempt, exact.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}), waited)
        if len(call.text) > self.most_message:
            # Sent, it would end the connection.
            detail = f"{method} has {len(call.text)} bytes, and the server takes {self.most_message}."
            raise Problem({"title": "Too Large", "status": 413, "code": "payload_too_large", "detail": detail})
        with self._changed:
            self._changed.wait_for(lambda: last or attempt.cancelled.is_set() or self._has_room(attempt, len(call.text)))
            if attempt.token not in self._attempts or not last:
                attempt.check()
            self._calls[number] = call
            self._unsent.append(number)
            self._changed.notify_all()
        return call

    def _has_room(self, attempt: Attempt, size: int) -> bool:
        mine = [len(c.text) for c in self._calls.values() if c.attempt is attempt]
        return not mine or len(mine) < _MOST_CALLS and sum(mine) + size <= _MOST_BYTES

    def note(self, method: str) -> None:
        """Say something that nobody has to answer, if there is a connection."""
        with self._changed:
            if self._connection is not None:
                self._notes.append(exact.dumps({"jsonrpc": "2.0", "method": method, "params": {}}))
                self._changed.notify_all()

    def begin(self, attempt: Attempt) -> bool:
        """Take an attempt, unless it is here already."""
        with self._changed:
            if attempt.token in self._attempts:
                return False
            self._attempts[attempt.token] = attempt
            return True

    def ended(self, attempt: Attempt) -> None:
        """Forget an attempt."""
        with self._changed:
            self._attempts.pop(attempt.token, None)

    def stop(self, token: str, reason: str) -> None:
        """Have an attempt stop."""
        with self._changed:
            if (attempt := self._attempts.get(token)) is not None:
                self._stop(attempt, reason)

    def stop_all(self, reason: str) -> None:
        """Have all attempts stop."""
        with self._changed:
            for attempt in list(self._attempts.values()):
                self._stop(attempt, reason)

    def _stop(self, attempt: Attempt, reason: str) -> None:
        attempt.stop(reason)
        if reason == "lost":
            self._attempts.pop(attempt.token, None)
            for number in [n for n, c in self._calls.items() if c.attempt is attempt]:
                self._answer(number, None, _stale())
        self._changed.notify_all()

    def attempts(self) -> list[Attempt]:
        """What runs here."""
        with self._changed:
            return list(self._attempts.values())

    @property
    def idle(self) -> bool:
        """Whether nothing runs here."""
        with self._changed:
            return not self._attempts

    def connect(self, connection: WebSocket, kept: set[str]) -> None:
        """Speak over a connection. The server has kept these attempts; the others are over."""
        with self._changed:
            for attempt in list(self._attempts.values()):
                if attempt.token not in kept:
                    self._stop(attempt, "lost")
            self._unsent = list(self._calls)
            self._connection, self.lost_at = connection, None
            self._changed.notify_all()

    def disconnect(self) -> None:
        """There is no connection any more."""
        with self._changed:
            if self._connection is not None:
                self._connection, self.lost_at = None, time.monotonic()
            self._notes.clear()

    def close(self) -> None:
        """Have :meth:`write` return, and nobody wait any more."""
        with self._changed:
            self._closed = True
            for attempt in list(self._attempts.values()):
                self._stop(attempt, "lost")
            self._changed.notify_all()

    def answered(self, message: dict[str, Any]) -> None:
        """Take an answer."""
        error = message.get("error")
        problem = None if error is None else Problem(error.get("data") or {"title": error.get("message", "")})
        with self._changed:
            self._answer(message.get("id"), message.get("result"), problem)

    def _answer(self, number: Any, result: Any, problem: Problem | None) -> None:
        call = self._calls.pop(number, None)
        if call is None:
            return
        call.answered, call.result, call.problem = True, result, problem
        if problem is not None and call.attempt is not None:
            if problem.code == "stale_attempt":
                call.attempt.stop("lost")
            elif not call.waited:
                call.attempt.refused(problem)
        self._changed.notify_all()

    def write(self) -> None:
        """Write what there is to say, over whatever connection there is, until the desk is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._connection is not None and bool(self._notes or self._unsent)
                )
                if self._closed or self._connection is None:
                    return
                connection, texts = self._connection, self._notes
                self._notes = []
                texts += [self._calls[n].text for n in self._unsent if n in self._calls]
                self._unsent = []
            self.said_at = time.monotonic()
            try:
                for text in texts:
                    connection.send(text)
            except Closed:
                with self._changed:
                    # What was not sent is sent by the next one, with all that was not answered.
                    if self._connection is connection:
                        self._connection, self.lost_at = None, time.monotonic()
                connection.break_off()


def _stale() -> Problem:
    return Problem({"title": "Conflict", "status": 409, "code": "stale_attempt", "detail": "The attempt is over."})
