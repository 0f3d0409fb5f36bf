"""One run of a task on a worker, as its handler sees it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from . import durations
from .client import Duration, Task
from .problem import Problem

T = TypeVar("T")


class Failure(Exception):
    """Raised by a handler: the attempt has failed, and this is why.

    ``retryable``: whether another attempt may do better.
    """

    def __init__(self, message: str, *, code: str = "error", retryable: bool = True, details: Any = None) -> None:
        super().__init__(message)
        self.message, self.code, self.retryable, self.details = message, code, retryable, details


class Cancelled(BaseException):
    """The attempt is to stop: let it pass. ``reason``: cancelled, timeout, deadline, drained or lost."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Suspended(BaseException):
    """The attempt is over, as the task sleeps or waits; it runs again when it is time. Let it pass."""


class Line(Protocol):
    """The way to the server."""

    def tell(self, attempt: Attempt, method: str, params: dict[str, Any]) -> None:
        """Say something, in order; it waits only while too much is on its way."""

    def ask(self, attempt: Attempt, method: str, params: dict[str, Any]) -> Any:
        """Say something and wait for the answer."""


class Attempt:
    """One run of a task. Its methods may be used from any thread.

    They raise :class:`Cancelled` once the attempt is to stop, and ``Problem`` where the server refuses what is said.
    """

    def __init__(self, line: Line, run: dict[str, Any]) -> None:
        self._line = line
        self.token: str = run["token"]
        self.task: Task = run["task"]
        self.id: str = run["task"]["id"]
        self.kind: str = run["task"]["kind"]
        self.payload: Any = run["task"].get("payload")
        self.number: int = run["attempt"]
        #: What an earlier attempt kept by :meth:`checkpoint`; ``None`` if none did.
        self.restored: Any = run.get("checkpoint")
        #: Set when the attempt is to stop; ``reason`` says why.
        self.cancelled = threading.Event()
        self.reason = ""
        self._steps: dict[str, Any] = {s["name"]: s["result"] for s in run.get("steps") or []}
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._fault: Problem | None = None  # of something said that nobody waited for

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how far it is, from 0 to 1, or ``None`` if that cannot be told."""
        self._tell("progress", {"fraction": fraction, "message": message})

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Write into the task's log. The levels are debug, info, warn and error."""
        self._tell("log", {"level": level, "message": message} | ({"fields": fields} if fields else {}))

    def output(self, chunk: Any) -> None:
        """Stream a part of the result: any JSON."""
        self._tell("output", {"chunk": chunk})

    def text(self, text: str) -> None:
        """Stream a part of the result: text."""
        self._tell("output", {"text": text})

    def binary(self, data: bytes) -> None:
        """Stream a part of the result: bytes."""
        self._tell("output", {"base64": base64.b64encode(data).decode()})

    def checkpoint(self, value: Any) -> None:
        """Keep a value for the next attempt, should there be one."""
        self._ask("checkpoint", {"checkpoint": value})

    def step(self, name: str, do: Callable[[], T]) -> T:
        """Do something once in the life of the task: an attempt after it gets the result without doing it again.

        The result is JSON. An error is not remembered. A name that is used again gets a number.
        """
        name = self._numbered(name)
        if name in self._steps:
            return self._steps[name]
        self.check()
        result = do()
        self._ask("step", {"name": name, "result": result})
        return result

    def sleep(self, duration: Duration, name: str = "sleep") -> None:
        """Have the task sleep. It holds no slot meanwhile, so the handler begins anew, unless it is short."""
        if not self._ask("sleep", {"name": self._numbered(name), "for": durations.written(duration)})["woken"]:
            raise Suspended

    def wait(self, signal: str, timeout: Duration | None = None, name: str = "") -> Any:
        """Wait for a signal, as :meth:`sleep` does, and return its payload. Raises ``TimeoutError`` if none came."""
        params = {"signal": signal, "name": self._numbered(name or f"wait {signal}")}
        if timeout is not None:
            params["timeout"] = durations.written(timeout)
        answer = self._ask("wait", params)
        if answer.get("got"):
            return answer.get("signal")
        if answer.get("timeout"):
            raise TimeoutError(f"no signal {signal}")
        raise Suspended

    def check(self) -> None:
        """Raise :class:`Cancelled` if the attempt is to stop."""
        if self.cancelled.is_set():
            raise Cancelled(self.reason)

    def stop(self, reason: str) -> None:
        """Have the attempt stop. For the worker; a second reason is not noted."""
        with self._lock:
            if not self.cancelled.is_set():
                self.reason = reason
                self.cancelled.set()

    def refused(self, problem: Problem) -> None:
        """Note that the server refused something that nobody waited for. The next call raises it."""
        if problem.code == "log_full":
            return  # the log's last entry says so, and the work goes on
        with self._lock:
            self._fault = self._fault or problem

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        self._ready()
        self._line.tell(self, method, {"token": self.token, **params})

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._ready()
        return self._line.ask(self, method, {"token": self.token, **params})

    def _ready(self) -> None:
        self.check()
        with self._lock:
            fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _numbered(self, name: str) -> str:
        with self._lock:
            n = self._names[name] = self._names.get(name, 0) + 1
        return name if n == 1 else f"{name}#{n}"
