"""An App and what somebody chose → the Deployment. Pure: nothing is opened or connected.

What cannot work together is refused here, in the words of ``dynaflow deploy-config``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dynaflow._compile import edits
from dynaflow._patience import SKEW
from dynaflow._route import Route, tables_of
from dynaflow.app import REPORT_VARIABLE, App
from dynaflow.batch import margin_of
from dynaflow.deploy.alarms import alarms_of
from dynaflow.deploy.choices import Choices, check
from dynaflow.deploy.deployment import Deployment, MappingSettings
from dynaflow.errors import DynaflowError
from dynaflow.idempotency import Idempotent
from dynaflow.permissions import permissions_of
from dynaflow.pushdown import Pushdown, Pushed

__all__ = ["Choices", "deployment_of", "pushdown_of"]

_RETRIES: Final = 100  # with Lambda's pauses, minutes: one short outage, and not one for hours
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}", re.ASCII)
_QUEUE = re.compile(r"arn:[^:]+:sqs:[^:]+:[^:]+:(?P<name>[\w.-]+)", re.ASCII)


def pushdown_of(app: App, choices: Choices) -> Pushdown:
    """Return what the filters of the App's routes are for the mapping.

    Raises:
        DynaflowError: no route takes records of the table, or a choice cannot be.
        ViewTypeMismatch: a stream of that view type leaves out an image that a route asks for.
    """
    _check_table(app, choices.table)
    pushdown = app.pushdown(
        choices.table, view_type=choices.view_type, max_patterns=choices.max_patterns
    )
    app.refuse_view_type(choices.view_type, choices.table)
    return pushdown


def deployment_of(app: App, choices: Choices, pushdown: Pushdown | None = None) -> Deployment:
    """Return what an App needs in Lambda on the stream of one table.

    Args:
        app: the App.
        choices: what was chosen.
        pushdown: as ``pushdown_of`` returns it for these, where somebody has it; it takes its time.

    Raises:
        DynaflowError: a choice cannot be, or some cannot be together; with the remedy.
    """
    if pushdown is None:
        pushdown = pushdown_of(app, choices)
    name = choices.name
    if name is None:  # a table's name may have dots, and be longer than a function's
        name = f"{re.sub(r'[^A-Za-z0-9_-]', '-', choices.table)[:57]}-stream"
    check(choices, name)
    _check_order(app, choices)
    marks = _Marks.of(app, choices)
    retries = choices.max_retries
    if retries is None:
        retries = max(_RETRIES, marks.retries if marks is not None else 0)
    mapping = MappingSettings(
        batch_size=choices.batch_size,
        maximum_batching_window_in_seconds=choices.batch_window,
        parallelization_factor=choices.parallelization,
        maximum_retry_attempts=retries,
        maximum_record_age_in_seconds=choices.max_record_age,
        starting_position=choices.starting_position,
        filters=tuple(pattern.to_json() for pattern in pushdown.given),
    )
    _check_together(choices, mapping, marks)
    return Deployment(
        name=name,
        table=choices.table,
        handler=choices.handler,
        code=choices.code,
        runtime=choices.runtime,
        architecture=choices.architecture,
        memory_size=choices.memory,
        timeout=choices.timeout,
        environment={REPORT_VARIABLE: "1"},
        mapping=mapping,
        permissions=app.permissions(),
        alarms=alarms_of(
            name, mapping, timeout=choices.timeout, dead_letter_queue=_letter_queue(app)
        ),
        notes=tuple(_notes(app, choices, mapping, pushdown, marks)),
        stream_arn=choices.stream_arn,
    )


def _check_table(app: App, table: str) -> None:
    if table.startswith("arn:"):
        raise DynaflowError(
            f"--table {table}: write the table's name here, and the stream's ARN with --stream-arn"
        )
    known = sorted(tables_of(app.routes))
    if any(route.is_for(table) for route in app.routes):
        if _TABLE.fullmatch(table) is None:
            raise DynaflowError(
                f"--table {table!r}: a table's name has 3 to 255 letters, digits, '.', '-' and '_'"
            )
        return
    if not known:
        raise DynaflowError("the App has no route, so that there is nothing to deploy")
    near = next((name for name in known if edits(name, table) <= 2), None)
    if near is not None:
        raise DynaflowError(
            f"no route takes records of table {table!r}. Did you mean --table {near}?"
        )
    raise DynaflowError(
        f"no route takes records of table {table!r}. The routes name: {', '.join(known)}"
    )


def _check_order(app: App, choices: Choices) -> None:
    if app.order_by == "shard" and choices.parallelization > 1:
        raise DynaflowError(
            f"--parallelization {choices.parallelization}: App(order_by='shard') runs the records "
            "of a shard one after the other, and Lambda would deal them out to several "
            "invocations. Leave it at 1, or write App(order_by='partition_key')"
        )


@dataclass(frozen=True, slots=True)
class _Marks:
    """The marks of ``Idempotent``, and what their lives mean for a mapping.

    A process that dies leaves its marks in progress. Whoever gets the record next waits for them,
    up to its own deadline or time-out, and then says that it is not done, which costs an attempt.
    If the attempts were used up before the mark expires, Lambda would give up a record that nobody
    has handled.

    Args:
        life: seconds for which a mark in progress counts at most. Within Lambda it is the time that
            was left when the call began, and ``SKEW``; without a deadline, as in the poller and at
            a redrive, it is ``in_progress_for``.
        attempt: seconds for which an attempt waits for it at least.
    """

    life: float
    attempt: float

    @classmethod
    def of(cls, app: App, choices: Choices) -> _Marks | None:
        """Return what the marks of the App's layers mean; None if it has none."""
        layers = [layer for layer in app.layers if isinstance(layer, Idempotent)]
        if not layers:
            return None
        life = max(choices.timeout + SKEW, *(layer.in_progress_for for layer in layers))
        of_routes = [route for route in app.routes if any(map(_is_marks, route.middleware))]
        within = {id(layer) for route in of_routes for layer in route.middleware}
        if any(id(layer) not in within for layer in layers):  # one is the App's, around all routes
            of_routes = list(app.routes)
        return cls(life, min(_waits(route, choices.timeout) for route in of_routes))

    @property
    def retries(self) -> int:
        """How many attempts are longer than the life of a mark."""
        return math.floor(self.life / self.attempt) + 1


def _is_marks(layer: object) -> bool:
    return isinstance(layer, Idempotent)


def _waits(route: Route, timeout: float) -> float:
    """Return for how many seconds a call waits at least for a mark that another holds."""
    waits = timeout - 2 * margin_of(timeout)
    if route.timeout is not None:
        waits = min(waits, route.timeout - margin_of(route.timeout))
    return waits


def _check_together(choices: Choices, mapping: MappingSettings, marks: _Marks | None) -> None:
    """Refuse what cannot be together."""
    age, retries = mapping.maximum_record_age_in_seconds, mapping.maximum_retry_attempts
    batch = choices.batch_window + choices.timeout
    if age != -1 and age <= batch:
        raise DynaflowError(
            f"--max-record-age {age}: a batch may wait {choices.batch_window} s for its window and "
            f"run for {choices.timeout} s, so that what waits behind it would be given up untried. "
            f"Let records become older than {batch} seconds, or shorten --timeout"
        )
    if marks is None:
        return
    if retries != -1 and retries < marks.retries:
        raise DynaflowError(
            f"--max-retries {retries} with --timeout {choices.timeout}: a process that dies leaves "
            f"its Idempotent marks for up to {marks.life:g} s, and an attempt that they keep out "
            f"may be over after {marks.attempt:g} s, so that Lambda would give up records that "
            f"nobody has handled. Write --max-retries {marks.retries} or more"
        )
    if age != -1 and age <= marks.life:
        raise DynaflowError(
            f"--max-record-age {age}: Idempotent marks count for up to {marks.life:g} s, and what "
            "they keep out would be given up meanwhile. Let records become older than that, or "
            "shorten Idempotent(in_progress_for=...)"
        )


def _letter_queue(app: App) -> str | None:
    """Return the name of the queue in which dead letters wait, if they do so in one."""
    for permission in permissions_of(app.dead_letter):
        for resource in permission.resources:
            queue = _QUEUE.fullmatch(resource)
            if queue is not None:
                return queue["name"]
    return None


def _notes(
    app: App,
    choices: Choices,
    mapping: MappingSettings,
    pushdown: Pushdown,
    marks: _Marks | None,
) -> Iterator[str]:
    """Say what a reader of the template has to know."""
    least = app.least_view_type(choices.table)
    yield f"The routes need a stream of {choices.table} that carries {least} at least."
    if not pushdown.given:
        yield "No filter: Lambda sends every record of the stream."
    for text in pushdown.widenings:
        yield f"Filters are wider than the routes: {text}"
    for route in pushdown.routes:
        if route.pushed is not Pushed.EXACTLY:
            reasons = "; ".join(route.reasons)
            yield f"Filters of {route.route}, {route.pushed.value}: {reasons}"
    if marks is not None:
        yield (
            f"MaximumRetryAttempts {mapping.maximum_retry_attempts}: {marks.retries} at least, so "
            f"that all attempts, of {marks.attempt:g} s or more while a mark of Idempotent keeps "
            f"them out, take longer than a mark in progress counts: {marks.life:g} s."
        )
    if mapping.maximum_retry_attempts == -1:
        yield "MaximumRetryAttempts -1: one bad record stops its shard until it is too old."
    age = mapping.maximum_record_age_in_seconds
    if not 0 < age < 86_400:
        yield (
            f"MaximumRecordAgeInSeconds {age}: a stream keeps records for 24 hours, so what is "
            "given up can no longer be read from it."
        )
    if choices.starting_position == "LATEST":
        yield "StartingPosition LATEST can miss what is written while the mapping is created."
    if mapping.parallelization_factor > 1:
        yield (
            f"ParallelizationFactor {mapping.parallelization_factor}: a shard's records go to so "
            "many invocations at a time, by partition key, so the order of an item is kept."
        )
    yield "The role has no more than what dynaflow knows of: add what your handlers call."
