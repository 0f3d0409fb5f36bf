"""The client: submit tasks, follow them, read their results."""

from __future__ import annotations

import os
import secrets
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, NotRequired, TypedDict, Unpack
from urllib.parse import quote, urlencode

from . import durations, exact
from .calls import Answer, Calls
from .events import Event
from .follow import follow

DEFAULT_SERVER = "http://127.0.0.1:8080"

# How long a call is tried again whose answer was lost.
_PATIENCE = 10.0
# How long one request waits for a result; the server has its own bound.
_WAIT = 30.0
_BATCH_MOST = 10_000

Duration = str | float | timedelta
Time = str | datetime


class Options(TypedDict, total=False):
    """What may be said of a task beside its kind and payload: the fields of ``POST /v1/tasks``.

    Durations are ``"1.5s"``, seconds or a ``timedelta``; times RFC 3339 or a ``datetime`` with its zone.
    """

    id: str
    queue: str
    priority: int
    resources: Mapping[str, int | float | str]
    labels: Mapping[str, str]
    run_at: Time
    delay: Duration
    timeout: Duration
    deadline: Time
    late: Literal["refuse", "allow"]
    max_attempts: int
    retry: Mapping[str, Any]
    unique_key: str
    concurrency_key: str
    concurrency_limit: int
    rate_key: str
    rate: str
    rate_burst: int
    depends_on: list[str]
    on_dependency_failure: Literal["cancel", "run"]
    placement: Mapping[str, Any]
    sticky_key: str
    cache: Mapping[str, Any]


class Submission(Options):
    """A task of a batch."""

    kind: str
    payload: NotRequired[Any]


class Task(TypedDict, total=False):
    """A task as the server shows it. Fields that are newer than this client are there too."""

    id: str
    namespace: str
    kind: str
    queue: str
    priority: int
    payload: Any
    labels: dict[str, str]
    state: Literal["scheduled", "blocked", "queued", "running", "succeeded", "failed", "cancelled"]
    attempt: int
    max_attempts: int
    progress: dict[str, Any]
    result: Any
    error: dict[str, Any]
    errors: list[dict[str, Any]]
    waiting: dict[str, Any]
    batch_id: str
    node: str
    worker: str
    cursor: str
    created_at: str
    started_at: str
    finished_at: str


class Batch(TypedDict, total=False):
    """What becomes of a batch that was accepted; the ids stand in the order of its tasks."""

    batch_id: str
    ids: list[str]
    callback: str


class Client:
    """Talks to one server. It may be used from many threads.

    Numbers keep every digit: see :mod:`troupe.exact`.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Server and key are those of ``TROUPE_SERVER`` and ``TROUPE_KEY`` unless given.

        ``timeout`` bounds each wait for the network, in seconds.
        """
        self.server = server or os.environ.get("TROUPE_SERVER") or DEFAULT_SERVER
        self._key = key if key is not None else os.environ.get("TROUPE_KEY", "")
        self._tls = tls
        self._calls = Calls(self.server, self._key, timeout, tls)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._calls.close()

    def submit(self, kind: str, payload: Any = None, **options: Unpack[Options]) -> Task:
        """Store a task; when this returns it is on disk.

        The task gets its id here, so trying again after a lost answer never makes a second one. With a ``unique_key``
        the task may be one that was there before.
        """
        body = _submission({"kind": kind, "payload": payload, **options})
        return self._persist("POST", "/v1/tasks", exact.dumps(body)).json()

    def submit_batch(self, tasks: Iterable[Submission], *, callback: Submission | None = None) -> Batch:
        """Store up to 10,000 tasks as one batch: all of them, or none. ``callback`` runs when all have ended."""
        body: dict[str, Any] = {"tasks": [_submission(t) for t in tasks]}
        if len(body["tasks"]) > _BATCH_MOST:
            raise ValueError(f"a batch has at most {_BATCH_MOST} tasks, not {len(body['tasks'])}")
        if callback is not None:
            body["callback"] = _submission(callback)
        return self._persist("POST", f"/v1/batches?batch_id={_new_id()}", exact.dumps(body)).json()

    def batch(self, batch_id: str) -> dict[str, Any]:
        """How far a batch has come: ``total``, ``counts`` by state, ``done``."""
        return self._persist("GET", f"/v1/batches/{_part(batch_id)}").json()

    def cancel_batch(self, batch_id: str) -> int:
        """Cancel what has not ended of a batch, and say how many tasks that were."""
        return self._persist("POST", f"/v1/batches/{_part(batch_id)}/cancel").json()["cancelled"]

    def get(self, task: str) -> Task:
        """Read one task."""
        return self._persist("GET", _path(task)).json()

    def list(self, *, label: Mapping[str, str] | None = None, **filters: str | int | Time) -> Iterator[Task]:
        """Yield tasks, newest first, page by page.

        The filters are ``state``, ``kind``, ``queue``, ``label``, ``batch_id``, ``created_after``, ``created_before``;
        ``limit`` is the size of a page.
        """
        query = [(k, str(v) if isinstance(v, int) else durations.written(v)) for k, v in filters.items()]
        query += [("label", f"{k}={v}") for k, v in (label or {}).items()]
        cursor: str | None = None
        while True:
            asked = query + ([("cursor", cursor)] if cursor else [])
            page = self._persist("GET", "/v1/tasks?" + urlencode(asked)).json()
            yield from page["tasks"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def cancel(self, task: str, reason: str = "") -> Task:
        """End a task. One that has ended is a ``Problem`` with the code ``task_ended``."""
        return self._calls.call("POST", _path(task, "/cancel"), exact.dumps({"reason": reason}), once=True).json()

    def retry(self, task: str) -> Task:
        """Start a failed or cancelled task anew."""
        return self._calls.call("POST", _path(task, "/retry"), once=True).json()

    def delete(self, task: str) -> None:
        """Forget a task that has ended."""
        self._calls.call("DELETE", _path(task), once=True)

    def explain(self, task: str) -> dict[str, Any]:
        """Why a task is not running: ``message`` for people, ``waiting`` for programs."""
        return self._persist("GET", _path(task, "/explain")).json()

    def signal(self, task: str, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Send a task a signal. It is kept when this returns, and kept once.

        ``key`` tells that it is the same signal as an earlier one, for programs that may send it again after a crash.
        """
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        self._persist("POST", _path(task, f"/signals/{_part(name)}"), exact.dumps(payload), headers)

    def result(self, task: str, wait: float | None = None) -> Any:
        """Wait for a task's result; it may be followed while the server restarts.

        ``wait`` is in seconds, ``None`` as long as it takes. Raises ``TimeoutError`` when that is over, and a
        ``Problem`` whose ``failure`` says why if the task failed.
        """
        end = None if wait is None else time.monotonic() + wait
        while True:
            left = _WAIT if end is None else max(0.0, min(_WAIT, end - time.monotonic()))
            path = _path(task, "/result?wait=" + quote(durations.written(left)))
            answer = self._calls.persist(
                lambda path=path, left=left: self._calls.call("GET", path, takes=left),
                None if end is None else max(_PATIENCE, end - time.monotonic()),
            )
            if answer.status != 202:
                return answer.json()
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"task {task} has not ended after {wait} s")

    def events(self, task: str, after: str | None = None) -> Iterator[Event]:
        """Yield the events that are stored now, page by page; a ``gap`` where some are gone."""
        while True:
            query = {"limit": "1000"} | ({"after": after} if after else {})
            page = self._persist("GET", _path(task, "/events?" + urlencode(query))).json()
            if page.get("gap"):
                yield Event(task, after or "", "gap", "", page["gap"])
            for event in page["events"]:
                yield Event(**event)
            if not page["events"]:
                return
            after = page["next"]

    def follow(self, task: str, after: str | None = None) -> Iterator[Event]:
        """Yield the task's events behind ``after`` (from its first unless given) as they happen, until it has ended.

        A connection that is lost is opened again for as long as the caller asks for more, also while the server is
        away, and goes on behind the last event: each comes once, in order, and none is left out. Where retention has
        removed some, an event of type ``gap`` says so. Only if the first connection finds no server it raises
        ``Unreachable``; a ``Problem`` (no such task, no right to it) ends it at any time.
        """
        return follow(self._calls, task, _path(task, "/events"), after)

    def _persist(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        return self._calls.persist(lambda: self._calls.call(method, path, body, headers), _PATIENCE)


def _path(task: str, rest: str = "") -> str:
    return f"/v1/tasks/{_part(task)}{rest}"


def _part(text: str) -> str:
    if not text:
        raise ValueError("an empty name is no part of an address")
    return quote(text, safe="")


def _submission(task: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a task: with an id of its own, and durations and times as the server reads them."""
    body = dict(task)
    body.setdefault("id", _new_id())
    if "delay" in body and "run_at" not in body:
        # Trying again must say the same, and a delay would count from then.
        delay = body.pop("delay")
        by = durations.seconds(delay) if isinstance(delay, str) else delay
        by = by if isinstance(by, timedelta) else timedelta(seconds=by)
        body["run_at"] = datetime.now(timezone.utc) + by
    for name in ("run_at", "delay", "timeout", "deadline"):
        if name in body:
            body[name] = durations.written(body[name])
    return body


def _new_id() -> str:
    """A UUID of version 7: it sorts by time."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))
