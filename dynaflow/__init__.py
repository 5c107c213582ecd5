"""dynaflow: async handlers for Amazon DynamoDB Streams, in order per item, with nothing lost."""

from dynaflow.app import App
from dynaflow.batch import Batch, BatchResult, Deadline, Outcome, Status
from dynaflow.change import Change, PartialFailure
from dynaflow.context import HandlerContext
from dynaflow.diff import Diff
from dynaflow.errors import DynaflowError, NonRetryable, RetryAfter, Skip
from dynaflow.filters import F, added, changed, crossed, removed
from dynaflow.idempotency import Idempotent
from dynaflow.middleware import Call, Middleware, Process
from dynaflow.params import Depends
from dynaflow.record import EventName, Image, Record, Undecodable
from dynaflow.retry import Retry
from dynaflow.routing import Router
from dynaflow.transaction import Transaction
from dynaflow.values import json_default

__version__ = "0.1.0"

__all__ = [
    "App",
    "Batch",
    "BatchResult",
    "Call",
    "Change",
    "Deadline",
    "Depends",
    "Diff",
    "DynaflowError",
    "EventName",
    "F",
    "HandlerContext",
    "Idempotent",
    "Image",
    "Middleware",
    "NonRetryable",
    "Outcome",
    "PartialFailure",
    "Process",
    "Record",
    "Retry",
    "RetryAfter",
    "Router",
    "Skip",
    "Status",
    "Transaction",
    "Undecodable",
    "added",
    "changed",
    "crossed",
    "json_default",
    "removed",
]
