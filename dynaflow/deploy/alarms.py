"""When somebody has to look: the alarms of a function on a stream. Pure.

An answer that names failed records is no invocation error, so Lambda's own error metric does not
see it. Metrics: AWS Lambda Developer Guide, "Types of metrics for Lambda functions"; Amazon SQS
Developer Guide, "Available CloudWatch metrics for Amazon SQS".
"""

from __future__ import annotations

from typing import Final, Literal

from dynaflow.deploy.deployment import FAILURES_LOGGED, Alarm, MappingSettings

__all__ = ["alarms_of"]

_LAMBDA: Final = "AWS/Lambda"
_AT_LEAST: Final = "GreaterThanOrEqualToThreshold"
_ABOVE: Final = "GreaterThanThreshold"
_LATE: Final = 300  # seconds that records wait, at least, before that is an alarm


def alarms_of(
    name: str, mapping: MappingSettings, *, timeout: int, dead_letter_queue: str | None = None
) -> tuple[Alarm, ...]:
    """Return the alarms of a function.

    Args:
        name: the function's, which is the namespace of what is counted in its log.
        mapping: how Lambda reads the stream.
        timeout: the function's, in seconds.
        dead_letter_queue: the name of the App's own queue of dead letters, if it has one.
    """
    # A batch may wait for its window, and its records until the one before it has ended.
    late = max(_LATE, 2 * (mapping.maximum_batching_window_in_seconds + timeout))
    alarms = (
        _three_of_five_minutes(
            "Fails",
            "Handlers have failed in three of five minutes. An answer that names failed records is "
            "no invocation error, so Errors says nothing of it. The log lines have route, record "
            "and traceback.",
            namespace=name,
            metric=FAILURES_LOGGED,
            of=None,
        ),
        _three_of_five_minutes(
            "NotDone",
            "Lambda's own count of events that it has to deliver again, in three of five minutes: "
            "partial failures, deadlines among them, which no log line at ERROR tells of.",
            metric="FailedInvokeEventCount",
            of="mapping",
        ),
        _three_of_five_minutes(
            "Behind",
            f"Records wait for more than {_minutes(late)}: a record that keeps failing holds its "
            f"shard, or the function is too slow. {_given_up_at(mapping)}",
            metric="IteratorAge",
            of="function",
            statistic="Maximum",  # of all shards; an average hides the one that stands
            threshold=late * 1000,  # ms
            comparison=_ABOVE,
        ),
        _messages_wait(
            "GivenUp",
            "Lambda gave up records. The message names shard and sequence numbers, not the "
            "records: they can be read from the stream until they are 24 hours old.",
        ),
        _any_in_five_minutes(
            "NoteLost",
            "Lambda gave up records, and could not even note it in the queue.",
            metric="DestinationDeliveryFailures",
        ),
        _any_in_five_minutes(
            "Errors",
            "Whole invocations fail: a time-out, a crash, an import error, or failures that are "
            "raised because nothing said that the mapping takes a list of them.",
            metric="Errors",
        ),
        _any_in_five_minutes(
            "Throttles",
            "Invocations are refused for a quarter of an hour. Throttled batches come again until "
            "their records are too old; MaximumRetryAttempts does not count them.",
            metric="Throttles",
            periods=3,
        ),
    )
    if dead_letter_queue is None:
        return alarms
    letters = _messages_wait(
        "LettersWait",
        "Dead letters wait in the App's own queue: dynaflow dead-letters list shows them, and "
        "redrive runs them again.",
        queue=dead_letter_queue,
    )
    return (*alarms, letters)


def _three_of_five_minutes(
    name: str,
    description: str,
    *,
    metric: str,
    of: Literal["function", "mapping"] | None,
    namespace: str = _LAMBDA,
    statistic: str = "Sum",
    threshold: float = 1,
    comparison: str = _AT_LEAST,
) -> Alarm:
    return Alarm(
        name=name,
        description=description,
        namespace=namespace,
        metric=metric,
        of=of,
        statistic=statistic,
        period=60,
        evaluation_periods=5,
        datapoints_to_alarm=3,
        threshold=threshold,
        comparison=comparison,
        missing="notBreaching",  # nothing was delivered: the table is quiet
    )


def _any_in_five_minutes(name: str, description: str, *, metric: str, periods: int = 1) -> Alarm:
    return Alarm(
        name=name,
        description=description,
        namespace=_LAMBDA,
        metric=metric,
        of="function",
        statistic="Sum",
        period=300,
        evaluation_periods=periods,
        datapoints_to_alarm=periods,
        threshold=1,
        comparison=_AT_LEAST,
        missing="notBreaching",
    )


def _messages_wait(name: str, description: str, *, queue: str | None = None) -> Alarm:
    return Alarm(
        name=name,
        description=description,
        namespace="AWS/SQS",
        metric="ApproximateNumberOfMessagesVisible",
        of="queue",
        statistic="Maximum",
        period=60,
        evaluation_periods=1,
        datapoints_to_alarm=1,
        threshold=0,
        comparison=_ABOVE,
        missing="ignore",  # a queue that nobody uses reports nothing, however full it is
        queue=queue,
    )


def _given_up_at(mapping: MappingSettings) -> str:
    age = mapping.maximum_record_age_in_seconds
    if age == -1:
        return "When they are 24 hours old the stream drops them."
    told = f"{age // 3600} hours" if age % 3600 == 0 and age > 3600 else f"{age} seconds"
    return f"At {told} (MaximumRecordAgeInSeconds) Lambda begins to give up."


def _minutes(seconds: int) -> str:
    words = {5: "five"}
    minutes = -(-seconds // 60)
    return f"{words.get(minutes, minutes)} minutes"
