"""Events, their cursors, and the stream they come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import exact

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a task's log.

    ``type`` is ``state``, ``progress``, ``log`` or ``output``; ``data`` is as docs/events.md describes. One more stands
    in no log: ``gap`` says that retention has removed events, and its data names the first still there.
    """

    task: str
    #: ``"ATTEMPT.SEQ"``: give it as ``after`` to go on behind this event.
    cursor: str
    type: str
    at: str
    data: Any

    @property
    def terminal(self) -> bool:
        """Whether the task had ended with it."""
        return self.type == "state" and self.data.get("state") in TERMINAL


def order(cursor: str) -> tuple[int, int]:
    """What cursors are ordered by; their text is not."""
    attempt, _, number = cursor.partition(".")
    return int(attempt), int(number or 0)


@dataclass(slots=True)
class ServerSent:
    """One server-sent event, or with a ``retry`` alone the wish to be left alone for so many seconds."""

    event: str = ""
    data: str = ""
    id: str | None = None
    retry: float | None = None


def server_sent(lines: Iterable[bytes]) -> Iterator[ServerSent]:
    """Read a stream of server-sent events. One that breaks off in the middle of an event loses that one."""
    now, data = ServerSent(), []
    for raw in lines:
        if not raw.endswith(b"\n"):
            return
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "data":
                    data.append(value)
                case "event":
                    now.event = value
                case "id" if "\0" not in value:
                    now.id = value
                case "retry" if value.isascii() and value.isdigit():
                    now.retry = int(value) / 1000
            continue
        if data or now.retry is not None:
            now.data = "\n".join(data)
            yield now
        now, data = ServerSent(), []


def read(text: str) -> Event:
    """Read an event as the server writes it."""
    e = exact.loads(text)
    return Event(e["task"], e["cursor"], e["type"], e["at"], e["data"])
