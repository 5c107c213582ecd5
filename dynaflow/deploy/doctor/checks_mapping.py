"""Checks of an event source mapping and its function against the App. Pure: facts → findings.

Rules of AWS: AWS Lambda Developer Guide, "Using AWS Lambda with Amazon DynamoDB".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dynaflow.app import REPORT_VARIABLE, is_told_to_report
from dynaflow.batch import margin_of
from dynaflow.deploy.doctor.app_facts import AppFacts
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.deploy.live import Function, LiveMapping, Stream
from dynaflow.pushdown import MOST_PATTERNS
from dynaflow.pushdown.pattern import parsed
from dynaflow.values import harmless

__all__ = ["CHECKS", "Case"]

_KEPT = 86_400  # seconds for which a stream keeps a record
_LATE = 79_200  # 22 hours: less than two are left to read what was given up
_FEW = 10  # retries; about eight fit into a minute
_DEFAULT_TIMEOUT = 3  # seconds
_EACH = 0.05  # seconds: a record takes about one call over a network
_OLDEST = (3, 11)
_VARIABLE = f"the variable {REPORT_VARIABLE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One mapping with all that it is compared with.

    Args:
        mapping: the mapping.
        stream: the table's stream; None if it could not be read.
        function: the function; None if it could not be read.
        app: what the App asks for.
        has_successor: whether another mapping gives the function the stream of today.
    """

    mapping: LiveMapping
    stream: Stream | None
    function: Function | None
    app: AppFacts
    has_successor: bool = False

    @property
    def subject(self) -> str:
        """How findings name the mapping."""
        return f"mapping {self.mapping.uuid} of {self.mapping.function_name}"


def check_state(case: Case) -> Iterator[Finding]:
    """Check that it delivers."""
    mapping, subject = case.mapping, case.subject
    if mapping.state in ("Disabled", "Disabling", "Deleting"):
        yield found("mapping-disabled", subject, state=mapping.state, uuid=mapping.uuid)
    elif mapping.state != "Enabled":
        yield found("mapping-changing", subject, state=mapping.state)
    if mapping.last_processing_result.startswith("PROBLEM"):
        result = harmless(mapping.last_processing_result)
        yield found("mapping-problem", subject, result=result)


def check_source(case: Case) -> Iterator[Finding]:
    """Check that it reads the stream that the table has now."""
    stream, mapping, subject = case.stream, case.mapping, case.subject
    if stream is None or stream.arn is None or mapping.source == stream.arn:
        return
    if case.has_successor:
        yield found("mapping-left", subject, arn=mapping.source, uuid=mapping.uuid)
    else:
        yield found("mapping-old-stream", subject, arn=mapping.source, latest=stream.arn)


def check_reports(case: Case) -> Iterator[Finding]:
    """Check that mapping and function are of one mind about the list of failures."""
    mapping, subject = case.mapping, case.subject
    reports, teller = _teller(case)
    if reports is None:
        yield found(
            "not-checked",
            subject,
            what="whether the function counts on ReportBatchItemFailures",
            why=teller,
            remedy=f"look whether {_VARIABLE} is 1, or report_batch_item_failures=True is written, "
            "just when FunctionResponseTypes has it",
        )
    elif reports and not mapping.reports:
        yield found("reports-ignored", subject, teller=teller, uuid=mapping.uuid)
    elif not reports and not mapping.reports:
        yield found("reports-off", subject)
    elif not reports:
        yield found("reports-unused", subject, teller=teller)


def _teller(case: Case) -> tuple[bool | None, str]:
    """Return whether the function reports failures, and what says so; None if it is not known.

    The code's word wins over the variable. Of several handlers that one counts which would lose
    records.
    """
    function, told = case.function, case.app.told
    if True in told and (None not in told or not case.mapping.reports):
        return True, "report_batch_item_failures=True in the code"
    if told and None not in told:
        return False, "report_batch_item_failures=False in the code says that it has not"
    if function is None:
        return None, "the function's configuration is not known"
    if function.hidden is not None:
        return None, f"the function's variables cannot be read ({function.hidden})"
    if is_told_to_report(function.variable or ""):
        return True, _VARIABLE
    if not told:
        return None, f"no lambda_handler() is made when module {case.app.module} is imported"
    return True in told, "nothing tells the function so"


def check_giving_up(case: Case) -> Iterator[Finding]:
    """Check that Lambda gives up in the end, not too early, and while there is time left."""
    mapping, subject = case.mapping, case.subject
    retries, age = mapping.maximum_retry_attempts, mapping.maximum_record_age_in_seconds
    is_ageless = age < 0 or age >= _KEPT
    if retries < 0 and is_ageless:
        yield found("retries-endless", subject)
    elif age < 0:
        yield found("age-open", subject)
    elif age > _LATE:
        yield found("age-late", subject, age=age)
    timeout = case.function.timeout if case.function else 0
    least = mapping.maximum_batching_window_in_seconds + timeout
    if 0 <= age <= least:
        yield found("age-early", subject, age=age, least=least)
    if 0 <= retries < _FEW:
        yield found("retries-few", subject, retries=retries)
    if 0 <= retries <= 1 and case.app.has_marks and timeout:
        yield found("retries-marks", subject, retries=retries, timeout=timeout)
    if not mapping.bisect_batch_on_function_error:
        yield found("bisect-off", subject)


def check_destination(case: Case) -> Iterator[Finding]:
    """Check that somebody is told what Lambda gives up."""
    arn = case.mapping.destination
    if arn is None:
        yield found("destination-none", case.subject)
    elif arn.endswith(".fifo"):
        yield found("destination-fifo", case.subject, arn=arn)


def check_order(case: Case) -> Iterator[Finding]:
    """Check that the App can keep the order that it promises."""
    mapping, subject = case.mapping, case.subject
    factor = mapping.parallelization_factor
    if factor > 1 and case.app.orders_shard:
        yield found("order-of-shard", subject, factor=factor)
    elif factor > 1 and case.app.chooses_lanes:
        yield found("order-of-function", subject, factor=factor)
    if mapping.tumbling_window_in_seconds:
        yield found("tumbling-window", subject, seconds=mapping.tumbling_window_in_seconds)


def check_patterns(case: Case) -> Iterator[Finding]:
    """Check that Lambda filters nothing out that a route takes, and little else comes."""
    mapping, pushdown, subject = case.mapping, case.app.pushdown, case.subject
    hidden = mapping.filter_error and f"Lambda does not show them ({mapping.filter_error})"
    try:
        live = [parsed(text) for text in mapping.patterns]
    except ValueError:
        live, hidden = [], "a pattern is no JSON object"
    if hidden:
        remedy = "allow kms:Decrypt on their key, or look at them by hand"
        yield found("not-checked", subject, what="FilterCriteria", why=hidden, remedy=remedy)
        return
    if pushdown is None:
        return
    narrow = pushdown.not_covered_by(mapping.filter_criteria)
    if narrow:
        yield found("patterns-narrow", subject, routes=", ".join(narrow))
        return
    if live and case.app.fails_unmatched:
        yield found("patterns-unmatched", subject)
    if not live and pushdown.given:
        yield found("patterns-none", subject, count=len(pushdown.given))
    is_comparable = pushdown.given and len(live) <= MOST_PATTERNS  # more of them say more
    if is_comparable and not pushdown.covers(live):
        yield found("patterns-wide", subject)


def check_cost(case: Case) -> Iterator[Finding]:
    """Check settings that lose nothing, and cost or hide something."""
    mapping, subject = case.mapping, case.subject
    if mapping.starting_position == "LATEST":
        yield found("starts-late", subject)
    if not mapping.maximum_batching_window_in_seconds:
        yield found("window-none", subject)
    if not mapping.counts_events:
        yield found("events-uncounted", subject)


def check_function(case: Case) -> Iterator[Finding]:
    """Check that the function can be invoked, and runs dynaflow."""
    function = case.function
    if function is None:
        return
    subject = f"function {function.name}"
    if function.state is not None:
        reason = harmless(function.reason)
        yield found("function-broken", subject, state=function.state, reason=reason)
    if not _runs_dynaflow(function.runtime):
        yield found("runtime", subject, runtime=function.runtime)
    if is_told_to_report(function.variable or "") is None and (
        not case.app.told or None in case.app.told
    ):
        yield found("variable-unreadable", subject)
    if function.memory_size < 256:
        yield found("memory-small", subject, memory=function.memory_size)
    if function.snapstart and case.mapping.qualifier is None:
        yield found("snapstart-unused", subject)


def _runs_dynaflow(runtime: str | None) -> bool:
    """Return False for runtimes of other languages, and of Python that is too old."""
    if runtime is None or runtime.startswith("provided"):
        return True
    version = runtime.removeprefix("python").split(".")
    if not runtime.startswith("python") or not all(part.isdecimal() for part in version):
        return False
    return tuple(map(int, version)) >= _OLDEST


def check_timeout(case: Case) -> Iterator[Finding]:
    """Check the time-out against the batch, and against the routes' own."""
    function, app = case.function, case.app
    if function is None:
        return
    subject, timeout = f"function {function.name}", function.timeout
    margin = margin_of(timeout)
    starts = timeout - 2 * margin
    batch = case.mapping.batch_size
    each = starts * app.workers / batch
    if timeout <= _DEFAULT_TIMEOUT:
        yield found("timeout-default", subject, timeout=timeout, starts=starts)
    if each < _EACH:
        yield found(
            "timeout-batch",
            subject,
            batch=batch,
            timeout=timeout,
            each=each * 1000,
            workers=app.workers,
        )
    if app.slowest is not None and app.slowest[1] >= timeout - margin:
        route, seconds = app.slowest
        latest = timeout - margin
        yield found("timeout-route", subject, route=route, seconds=seconds, latest=latest)


def check_concurrency(case: Case) -> Iterator[Finding]:
    """Check that the function may run as often at a time as the stream asks."""
    function, factor = case.function, case.mapping.parallelization_factor
    if function is None or function.reserved is None:
        return
    subject = f"function {function.name}"
    shards = None if case.stream is None else case.stream.open_shards
    if function.reserved == 0:
        yield found("concurrency-none", subject, function=function.name)
    elif shards is not None and function.reserved < shards * factor:
        yield found(
            "concurrency-few",
            subject,
            reserved=function.reserved,
            shards=shards,
            factor=factor,
            wanted=shards * factor,
        )


CHECKS: Final = (
    check_state,
    check_source,
    check_reports,
    check_giving_up,
    check_destination,
    check_order,
    check_patterns,
    check_cost,
    check_function,
    check_timeout,
    check_concurrency,
)
"""All checks of a mapping and its function, in the order in which they are told."""
