"""When somebody has to look: the alarms of a function on a stream. Pure.

An answer that names failed records is no invocation error, so Lambda's own error metric does not
see it. Metrics: AWS Lambda Developer Guide, "Types of metrics for Lambda functions"; Amazon SQS
Developer Guide, "Available CloudWatch metrics for Amazon SQS".
"""

from __future__ import annotations

from typing import Final

from dynaflow.deploy.deployment import FAILURES_LOGGED, Alarm, MappingSettings

__all__ = ["alarms_of"]

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
        Alarm(
            name="Fails",
            description="Handlers have failed in three of five minutes. An answer that names "
            "failed records is no invocation error, so Errors says nothing of it. The log lines "
            "have route, record and traceback.",
            namespace=name,
            metric=FAILURES_LOGGED,
            of=None,
            statistic="Sum",
            period=60,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            threshold=1,
            comparison=_AT_LEAST,
            missing="notBreaching",
        ),
        Alarm(
            name="NotDone",
            description="Lambda's own count of events that it has to deliver again, in three of "
            "five minutes: partial failures, deadlines among them, which no log line at ERROR "
            "tells of.",
            namespace="AWS/Lambda",
            metric="FailedInvokeEventCount",
            of="mapping",
            statistic="Sum",
            period=60,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            threshold=1,
            comparison=_AT_LEAST,
            missing="notBreaching",
        ),
        Alarm(
            name="Behind",
            description=f"Records wait for more than {_minutes(late)}: a record that keeps failing "
            f"holds its shard, or the function is too slow. {_given_up_at(mapping)}",
            namespace="AWS/Lambda",
            metric="IteratorAge",
            of="function",
            statistic="Maximum",  # of all shards; an average hides the one that stands
            period=60,
            evaluation_periods=5,
            datapoints_to_alarm=3,
            threshold=late * 1000,  # ms
            comparison=_ABOVE,
            missing="notBreaching",  # nothing was delivered: the table is quiet
        ),
        Alarm(
            name="GivenUp",
            description="Lambda gave up records. The message names shard and sequence numbers, not "
            "the records: they can be read from the stream until they are 24 hours old.",
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
        ),
        Alarm(
            name="NoteLost",
            description="Lambda gave up records, and could not even note it in the queue.",
            namespace="AWS/Lambda",
            metric="DestinationDeliveryFailures",
            of="function",
            statistic="Sum",
            period=300,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            threshold=1,
            comparison=_AT_LEAST,
            missing="notBreaching",
        ),
        Alarm(
            name="Errors",
            description="Whole invocations fail: a time-out, a crash, an import error, or failures "
            "that are raised because nothing said that the mapping takes a list of them.",
            namespace="AWS/Lambda",
            metric="Errors",
            of="function",
            statistic="Sum",
            period=300,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            threshold=1,
            comparison=_AT_LEAST,
            missing="notBreaching",
        ),
        Alarm(
            name="Throttles",
            description="Invocations are refused for a quarter of an hour. Throttled batches come "
            "again until their records are too old; MaximumRetryAttempts does not count them.",
            namespace="AWS/Lambda",
            metric="Throttles",
            of="function",
            statistic="Sum",
            period=300,
            evaluation_periods=3,
            datapoints_to_alarm=3,
            threshold=1,
            comparison=_AT_LEAST,
            missing="notBreaching",
        ),
    )
    return alarms if dead_letter_queue is None else (*alarms, _letters_wait(dead_letter_queue))


def _letters_wait(queue: str) -> Alarm:
    return Alarm(
        name="LettersWait",
        description="Dead letters wait in the App's own queue: dynaflow dead-letters list shows "
        "them, and redrive runs them again.",
        namespace="AWS/SQS",
        metric="ApproximateNumberOfMessagesVisible",
        of="queue",
        statistic="Maximum",
        period=60,
        evaluation_periods=1,
        datapoints_to_alarm=1,
        threshold=0,
        comparison=_ABOVE,
        missing="ignore",
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
