"""Troupe for Python: submit durable tasks, follow them live, and run them as a worker.

The standard library is all it needs.
"""

from .attempt import Attempt, Cancelled, Failure, Suspended
from .client import Batch, Client, Options, Submission, Task
from .events import Event
from .problem import Problem, Unreachable
from .worker import Worker

__all__ = [
    "Attempt",
    "Batch",
    "Cancelled",
    "Client",
    "Event",
    "Failure",
    "Options",
    "Problem",
    "Submission",
    "Suspended",
    "Task",
    "Unreachable",
    "Worker",
]
__version__ = "0.1.0"
