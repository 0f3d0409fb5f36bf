"""What can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from . import exact


class FieldError(TypedDict):
    """One thing wrong with an input."""

    path: str
    message: str


class Problem(Exception):
    """The server refused, and says why as RFC 9457 has it. ``code`` is stable and for programs."""

    def __init__(self, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.type: str = document.get("type", "about:blank")
        self.title: str = document.get("title", "")
        self.status: int = document.get("status", 0)
        self.detail: str = document.get("detail", "")
        self.code: str = document.get("code", "")
        self.errors: list[FieldError] = document.get("errors", [])
        self.request_id: str = document.get("request_id", "")
        #: Why the task failed whose result was asked for.
        self.failure: Mapping[str, Any] | None = document.get("error")
        #: In how many seconds to come again, where the server said so.
        self.retry_after = retry_after
        self.document = document
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        text = self.title if not self.detail else f"{self.title}: {self.detail}"
        for wrong in self.errors:
            text += f"; {wrong['path']} {wrong['message']}"
        if self.failure:
            text += f" {self.failure.get('code', '')}: {self.failure.get('message', '')}"
        return f"{text} ({self.code})" if self.code else text

    @classmethod
    def of(cls, status: int, body: bytes, retry_after: float | None = None) -> Problem:
        """Read a refusal; what is no problem document becomes one."""
        try:
            document = exact.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not document.get("code"):
            document = {"title": "Refused", "status": status, "code": "http_error", "detail": f"The server answered {status}."}
        return cls(document, retry_after)


class Unreachable(ConnectionError):
    """No server answers."""
