"""A worker: it takes tasks of the kinds it has handlers for, and runs them in threads."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import durations, exact
from .attempt import Attempt, Cancelled, Failure, Suspended
from .calls import Backoff, Calls, passing
from .client import DEFAULT_SERVER
from .desk import Desk
from .problem import Problem, Unreachable
from .websocket import Closed, WebSocket

Handler = Callable[[Attempt], Any]

_PROTOCOL = "troupe.worker.v1.json"
_MOST_MESSAGE = 32 << 20
_TIMEOUT = 15.0
# How long attempts have to stop once they were told to.
_GRACE = 5.0
# A worker that was drained stays this long behind its last attempt: a node that shuts down says goodbye meanwhile, and
# then the worker goes on elsewhere.
_AFTER_DRAIN = 60.0

log = logging.getLogger("troupe.worker")


class Worker:
    """Runs tasks.

        worker = Worker(slots=4)

        @worker.task("greet")
        def greet(attempt):
            return f"hello, {attempt.payload}"

        worker.run()
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        name: str | None = None,
        slots: int = 1,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, int | float | str] | None = None,
        drain_timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Server and key are those of ``TROUPE_SERVER`` and ``TROUPE_KEY`` unless given.

        ``slots``: so many attempts run at once, each in a thread. ``drain_timeout``: so many seconds they have to end
        when the worker stops.
        """
        self._calls = Calls(
            server or os.environ.get("TROUPE_SERVER") or DEFAULT_SERVER,
            key if key is not None else os.environ.get("TROUPE_KEY", ""),
            _TIMEOUT,
            tls,
        )
        self._registration: dict[str, Any] = {
            "name": name or f"{socket.gethostname()}-{os.getpid()}",
            "slots": slots,
            "labels": dict(labels or {}),
            "resources": dict(resources or {}),
        }
        self._handlers: dict[str, Handler] = {}
        self._drain_timeout = drain_timeout
        self._desk = Desk()
        self._socket: WebSocket | None = None
        self._session: str | None = None
        self._lease = 15.0
        self._stopping: float | None = None  # since when
        self._hurry = False
        self._drained: float | None = None  # since when the server wants no more of us
        self._goodbye = 0.0  # how long the server that goes wants to be left alone

    def task(self, kind: str) -> Callable[[Handler], Handler]:
        """Make a function the handler of a kind. What it returns, as JSON, is the task's result.

        It raises :class:`Failure` to say how it failed; any other exception is a failure that is tried again.
        """

        def decorate(handler: Handler) -> Handler:
            if kind in self._handlers:
                raise ValueError(f"{kind} has a handler already")
            self._handlers[kind] = handler
            return handler

        return decorate

    def stop(self) -> None:
        """Take no more, and have :meth:`run` return when what runs has ended. A second time: have it stop."""
        if self._stopping is None:
            self._stopping = time.monotonic()
        else:
            self._hurry = True
        if (connection := self._socket) is not None:
            connection.ring()

    def run(self) -> None:
        """Run tasks until the worker is stopped, by :meth:`stop`, SIGTERM or SIGINT, or drained by the operator.

        A connection that breaks is opened again; what runs goes on meanwhile, for as long as the server keeps it. Raises
        ``Unreachable`` if the first connection finds no server, and ``Problem`` if the server wants no such worker.
        """
        if not self._handlers:
            raise ValueError("a worker without a handler has nothing to do")
        self._desk, self._session = Desk(), None
        with self._signals():
            writer = threading.Thread(target=self._desk.write, name="troupe-writer", daemon=True)
            writer.start()
            try:
                self._connections()
            finally:
                self._desk.close()
                writer.join()

    def _connections(self) -> None:
        """Be connected until there is no more to do."""
        backoff, greeted, lost = Backoff(), False, time.monotonic()
        while not self._done():
            floor = None
            try:
                self._connection()
                return
            except Closed as e:
                if e.code >= 4400 and e.code < 4500 or e.code in (1002, 1003, 1007, 1009):
                    raise Problem({"title": "Refused", "status": max(400, e.code - 4000), "code": _name(e.code), "detail": e.reason}) from e
                log.info("connection lost: %s", e)
                if not (4200 <= e.code < 4300):
                    backoff.reset()
                floor, self._goodbye = self._goodbye, 0.0
                greeted, lost = True, self._desk.lost_at or lost
            except Unreachable as e:
                if not greeted:
                    raise
                log.info("not connected: %s", e)
            except Problem as e:
                if not passing(e) and e.status not in (429, 500):
                    raise
                floor = e.retry_after
            if time.monotonic() - lost > self._lease and self._session is not None:
                # The server has given our attempts to others.
                self._session = None
                self._desk.stop_all("lost")
            self._rest(backoff.next(floor))

    def _connection(self) -> None:
        """Take what comes over one connection. Returns when the worker has done its work."""
        calls = self._calls
        connection = WebSocket.connect(
            (calls.host, calls.port),
            calls.base + "/v1/worker",
            _PROTOCOL,
            calls.headers(),
            tls=calls.tls,
            timeout=_TIMEOUT,
            most=_MOST_MESSAGE,
        )
        self._socket, self._drained = connection, None
        try:
            self._register(connection)
            told = False
            while not self._done():
                if self._stopping is not None and not told:
                    told = True
                    self._desk.note("drain")
                for message in self._receive(connection):
                    self._take(message)
            self._desk.disconnect()
            connection.close()
        finally:
            self._socket = None
            self._desk.disconnect()
            connection.release()

    def _receive(self, connection: WebSocket) -> list[dict[str, Any]]:
        """Wait a while for messages, and see to it that each side knows that the other is there."""
        beat = self._lease / 3
        text = connection.receive(min(beat, 1.0) if self._stopping or self._drained else beat)
        now = time.monotonic()
        if text is None:
            if now - connection.heard > self._lease:
                raise Closed(1006, "the server is silent")
            if now - self._desk.said_at > beat:
                self._desk.note("heartbeat")
            return []
        return _messages(text)

    def _register(self, connection: WebSocket) -> None:
        registration = {**self._registration, "kinds": sorted(self._handlers)}
        running = self._desk.attempts()
        if self._session is not None:
            registration |= {"resume": self._session, "running": [a.token for a in running]}
        connection.send(exact.dumps({"jsonrpc": "2.0", "id": 0, "method": "register", "params": registration}))
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            for message in _messages(connection.receive(end - time.monotonic())):
                if message.get("method") == "hello":
                    self._desk.most_message = message["params"]["limits"]["message"]
                elif message.get("id") == 0:
                    if "error" in message:
                        raise Problem(message["error"].get("data") or {"title": message["error"].get("message", "")})
                    self._registered(connection, message["result"])
                    return
        raise Closed(1006, "the server does not answer")

    def _registered(self, connection: WebSocket, result: dict[str, Any]) -> None:
        self._session, self._lease = result["session"], durations.seconds(result["lease"])
        kept = {a["token"] for a in result.get("attempts") or []}
        self._desk.connect(connection, kept)
        log.info("connected as worker %s, %d attempts go on", result["worker"], len(kept))

    def _take(self, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        match message.get("method"):
            case None:
                self._desk.answered(message)
            case "run":
                self._begin(params)
            case "cancel":
                self._desk.stop(params["token"], params.get("reason", "cancelled"))
            case "drain":
                log.info("told to take no more: %s", params.get("reason", ""))
                self._drained = time.monotonic()
            case "goodbye":
                self._goodbye = durations.seconds(params.get("delay", "0s"))
                log.info("the server goes")

    def _begin(self, run: dict[str, Any]) -> None:
        attempt = Attempt(self._desk, run)
        if self._desk.begin(attempt):
            name = f"troupe-{attempt.kind}-{attempt.id}"
            threading.Thread(target=self._attempt, args=(attempt,), name=name, daemon=True).start()

    def _attempt(self, attempt: Attempt) -> None:
        """Run a handler, and say how it ended."""
        try:
            method, params = self._outcome(attempt)
            try:
                if method:
                    self._desk.end(attempt, method, params)
            except (Problem, TypeError, ValueError) as e:  # the result is none, or none the server takes
                code = e.code if isinstance(e, Problem) else "invalid_result"
                self._desk.end(attempt, *_failed(code, str(e), retryable=False))
        finally:
            self._desk.ended(attempt)
            if (connection := self._socket) is not None and (self._stopping or self._drained):
                connection.ring()

    def _outcome(self, attempt: Attempt) -> tuple[str, dict[str, Any]]:
        try:
            result = self._handlers[attempt.kind](attempt)
        except Suspended:
            return "", {}
        except Cancelled as e:
            return _failed(e.reason, f"the worker stopped: {e.reason}")
        except Failure as e:
            return _failed(e.code, e.message, e.retryable, e.details)
        except BaseException as e:  # whatever it is, the attempt has failed, and not the worker
            log.exception("the handler of %s failed in task %s", attempt.kind, attempt.id)
            return _failed("error", f"{type(e).__name__}: {e}")
        return "succeed", {"result": result}

    def _done(self) -> bool:
        """Whether the worker may go."""
        now = time.monotonic()
        if self._stopping is not None:
            late = now - self._stopping - self._drain_timeout
            if late > 0 or self._hurry:
                self._desk.stop_all("drained")
            return self._desk.idle or late > _GRACE
        if self._drained is None:
            return False
        if not self._desk.idle:
            self._drained = now
        return now - self._drained > _AFTER_DRAIN

    def _rest(self, delay: float) -> None:
        """Wait until it is time for another try, or to go."""
        end = time.monotonic() + delay
        while not self._done() and time.monotonic() < end:
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; only the main thread may ask for them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {s: signal.signal(s, lambda *_: self.stop()) for s in wanted}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def _messages(text: str | None) -> list[dict[str, Any]]:
    if text is None:
        return []
    message = exact.loads(text)
    return message if isinstance(message, list) else [message]


def _failed(code: str, message: str, retryable: bool = True, details: Any = None) -> tuple[str, dict[str, Any]]:
    error = {"code": code, "message": message, "retryable": retryable}
    if details is not None:
        error["details"] = details
    return "fail", {"error": error}


def _name(code: int) -> str:
    return {4401: "unauthorized", 4403: "forbidden"}.get(code, "socket_closed")
