"""AWS Lambda's door: event → batch → App → partial-batch answer, as a plain function.

Rules of the answer: AWS Lambda Developer Guide, "Using AWS Lambda with Amazon DynamoDB", section on
reporting batch item failures. Lambda takes the lowest sequence number of the list and sends
everything from there again; without ``ReportBatchItemFailures`` it ignores the list, so that a
reported failure would be a success.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from dynaflow._host import Host
from dynaflow.app import REPORT_VARIABLE, App, is_told_to_report
from dynaflow.batch import Batch, BatchResult, Deadline
from dynaflow.codec import decode_event
from dynaflow.errors import (
    RecordsFailed,
    RegistrationError,
    ThreadsExhausted,
    ViewTypeMismatch,
)
from dynaflow.observe import logger

__all__ = ["make_handler", "make_host"]

_RUNTIME_API = "AWS_LAMBDA_RUNTIME_API"  # set by Lambda's runtime, and only there
_ADVICE = (
    "Nothing says that the event source mapping takes partial failures. Add "
    "ReportBatchItemFailures to the mapping's FunctionResponseTypes, and only then write "
    "lambda_handler(report_batch_item_failures=True) or set the environment variable "
    f"{REPORT_VARIABLE}=1."
)


def make_host(app: App) -> Host:
    """Return what runs the App in Lambda; all handlers of an App share one loop and lifespan."""
    return Host(app, contain=True)


def make_handler(
    host: Host, *, report_batch_item_failures: bool | None
) -> Callable[..., dict[str, Any]]:
    """Return the function that AWS Lambda calls with an event and a context.

    Within Lambda the App's lifespan opens now, during INIT; elsewhere with the first batch.

    Raises:
        RegistrationError: the environment variable holds something else than true or false.
    """
    reports = _reports(report_batch_item_failures)
    _open_early(host)
    advised = False
    refused = set[str]()  # what the log has already

    def lambda_handler(event: Any, context: Any = None) -> dict[str, Any]:
        """Process the records of one invocation and name the lowest one that is not done."""
        nonlocal advised
        try:
            result = _process(host, event, context, reports=reports)
        except ThreadsExhausted as error:
            _leave(error)
        except ViewTypeMismatch as error:
            if str(error) not in refused:
                refused.add(str(error))
                with suppress(Exception):  # as below
                    logger.error("Raising for every batch of this stream: %s", error)
            raise
        except Exception:
            raise
        except BaseException as error:
            # Lambda's runtime client catches Exception only; anything else ends the sandbox.
            raise RecordsFailed(
                f"{type(error).__name__} ended the batch; nothing of it counts as done"
            ) from error
        if result.failed is None:
            return {"batchItemFailures": []}
        if reports:
            return {"batchItemFailures": [{"itemIdentifier": result.failed.sequence_number}]}
        if not advised:
            advised = True
            with suppress(Exception):  # logging that fails must not hide what failed
                logger.error("Raising for the whole batch. %s", _ADVICE)
        raise RecordsFailed(
            f"{len(result.not_done)} records are not done, the lowest is "
            f"{result.failed.sequence_number}; the whole batch comes again. {_ADVICE}"
        ) from next(iter(result.errors), None)

    return lambda_handler


def _process(host: Host, event: Any, context: Any, *, reports: bool) -> BatchResult:
    records, source_arn = decode_event(event)
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    deadline = None if remaining is None else Deadline.after(remaining() / 1000)
    batch = Batch(records, source_arn, deadline, context)
    return host.process(batch, all_come_again=not reports)


def _leave(error: ThreadsExhausted) -> NoReturn:
    """End a sandbox whose threads are all lost; Lambda starts another and sends the batch again."""
    if _RUNTIME_API not in os.environ:
        raise error
    with suppress(Exception):  # logging that fails must not keep the sandbox
        logger.critical("%s Ending it.", error)
    raise SystemExit(1) from error


def _reports(setting: bool | None) -> bool:
    if setting is not None:
        return setting
    told = is_told_to_report(os.environ.get(REPORT_VARIABLE, ""))
    if told is None:
        raise RegistrationError(
            f"the environment variable {REPORT_VARIABLE} is neither true nor false"
        )
    return told


def _open_early(host: Host) -> None:
    """Open the lifespan during INIT, or once SnapStart has restored the sandbox; not at a desk."""
    if _RUNTIME_API not in os.environ:
        return
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        host.open()
        return
    try:
        from snapshot_restore_py import register_after_restore  # part of Lambda's managed runtime
    except ImportError:
        return  # the first batch opens it
    register_after_restore(host.open)
