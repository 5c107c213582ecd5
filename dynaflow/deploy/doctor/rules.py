"""What ``doctor`` can find: for each mistake the fact, what it leads to, and what mends it.

A table of texts, and nothing else; docs/doctor.md shows the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["RULES", "Finding", "Rule", "Severity", "found"]


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Records are lost, or do not arrive."""
    WARNING = "warning"
    """Records may be lost, late or repeated under conditions that do occur."""
    NOTE = "note"
    """It costs something, or could not be checked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be found. Texts have ``{names}`` for what differs from case to case.

    Args:
        severity: how bad it is.
        fact: what was seen.
        consequence: what it leads to.
        remedy: what to do.
    """

    severity: Severity
    fact: str
    consequence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Args:
        rule: the rule's id, as in docs/doctor.md.
        severity: how bad it is.
        subject: of what: "app", "AWS", "table orders", "mapping UUID", "function NAME".
        fact: what was seen.
        consequence: what it leads to.
        remedy: what to do.
    """

    rule: str
    severity: Severity
    subject: str
    fact: str
    consequence: str
    remedy: str


def found(rule_id: str, subject: str, **values: Any) -> Finding:
    """Return the finding of a rule, with its texts filled in."""
    rule = RULES[rule_id]
    fact, consequence, remedy = (
        text.format(**values) for text in (rule.fact, rule.consequence, rule.remedy)
    )
    return Finding(rule_id, rule.severity, subject, fact, consequence, remedy)


_ENABLE = (
    "aws dynamodb update-table --table-name {table} --stream-specification "
    "StreamEnabled=true,StreamViewType={view_type}"
)
_NEW_MAPPING = "create an event source mapping for the new stream's ARN"

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES: Final[dict[str, Rule]] = {
    # the app
    "no-routes": Rule(
        _ERROR,
        "the App has no route",
        "every record is passed over",
        "register handlers on a Router and give it to App(...)",
    ),
    "table-not-routed": Rule(
        _ERROR,
        "no route takes records of table {table}: those of the App take {tables}",
        "the function is invoked, and every record is passed over",
        "write Router(table='{table}'), or name the table that is meant with --table",
    ),
    "several-tables": Rule(
        _NOTE,
        "the App has routes for {tables}",
        "each table's stream needs a mapping of its own; one function gives them one time-out, "
        "role and alarms",
        "check that each has one; --table looks at one of them",
    ),
    "table-unknown": Rule(
        _NOTE,
        "no route names a table",
        "only the App itself was checked",
        "name the table with --table, the function with --function, or the mapping with --mapping",
    ),
    "route-never": Rule(
        _WARNING,
        "{route}: {reasons}",
        "its handler never runs",
        "correct its filters; dynaflow explain shows what they say of a record",
    ),
    "route-widened": Rule(
        _NOTE,
        "{route} is pushed down with less than its filters say: {reasons}",
        "the function is invoked for records that it then passes over",
        "nothing has to be done; dynaflow filters shows the patterns",
    ),
    "route-not-pushed": Rule(
        _NOTE,
        "{route} is not pushed down: {reasons}",
        "Lambda filters nothing for its sake, and the function is invoked for all of its events",
        "nothing has to be done; a filter that is written with F instead of a function can be "
        "pushed down",
    ),
    # AWS
    "no-region": Rule(
        _ERROR,
        "no AWS region is known",
        "nothing in AWS was checked",
        "set AWS_REGION, or pass --region",
    ),
    "regions-differ": Rule(
        _NOTE,
        "AWS_REGION is {region}, and AWS_DEFAULT_REGION is {other}",
        "dynaflow looks in {region}, the AWS CLI version 1 and boto3 look in {other}",
        "set both to the same region, or unset one",
    ),
    "no-credentials": Rule(
        _ERROR,
        "no AWS credentials were found ({error})",
        "nothing in AWS was checked",
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; aws configure list shows "
        "where they would come from",
    ),
    "credentials-expired": Rule(
        _ERROR,
        "the credentials from {source} have expired ({error})",
        "nothing in AWS was checked",
        "sign in again, as with aws sso login, or fetch new ones",
    ),
    "credentials-refused": Rule(
        _ERROR,
        "AWS does not know the credentials from {source} ({error})",
        "nothing in AWS was checked",
        "check the access key, the secret, and whether they are for this account and partition",
    ),
    "clock-skew": Rule(
        _ERROR,
        "AWS finds the time of a request too far from its own ({error})",
        "every request is refused, and nothing in AWS was checked",
        "set this machine's clock; AWS allows for five minutes",
    ),
    "unreachable": Rule(
        _ERROR,
        "nobody answers at {endpoint} ({error})",
        "nothing in AWS was checked",
        "check the network, the region {region}, and the endpoint's URL if one is set",
    ),
    "stand-in": Rule(
        _NOTE,
        "DynamoDB is asked at {endpoint}, which is not AWS's",
        "what is said here is true of that stand-in",
        "for AWS, leave out --endpoint-url, and unset AWS_ENDPOINT_URL and "
        "AWS_ENDPOINT_URL_DYNAMODB",
    ),
    "not-checked": Rule(
        _NOTE,
        "{what} could not be checked: {why}",
        "what is wrong with it does not show here",
        "{remedy}",
    ),
    # the table and its stream
    "table-missing": Rule(
        _ERROR,
        "there is no table {table} in {region}",
        "nothing can be read",
        "check the name, the region and the account: --table, --region, AWS_PROFILE",
    ),
    "table-not-active": Rule(
        _WARNING,
        "table {table} is {status}",
        "its stream may not be complete",
        "look again when it is ACTIVE",
    ),
    "stream-never": Rule(
        _ERROR,
        "table {table} has no stream",
        "its changes are recorded nowhere, and nothing is delivered",
        f"enable one: {_ENABLE}",
    ),
    "stream-disabled": Rule(
        _ERROR,
        "the stream of table {table} is disabled",
        "changes that are made now are lost to every reader; older ones can be read until they are "
        "24 hours old",
        f"enable a new one, which has a new ARN: {_ENABLE}; then {_NEW_MAPPING}",
    ),
    "view-type": Rule(
        _ERROR,
        "the stream of table {table} has view type {view_type} and leaves out what is asked for: "
        "{needs}",
        "the function refuses every batch of this stream, and dynaflow run does not start",
        "enable a new stream with {least}, as a view type cannot be changed, and "
        + _NEW_MAPPING
        + "; or ask for less",
    ),
    "readers": Rule(
        _WARNING,
        "{count} mappings read the stream of table {table}: {readers}",
        "DynamoDB serves {most} readers of a shard, and refuses more of them now and then, so that "
        "all become late",
        "let one function hand the changes on, as through EventBridge or SNS",
    ),
    "replicas": Rule(
        _NOTE,
        "table {table} is a global table, with replicas in {regions}",
        "each replica has a stream of its own with all changes; a function in two of the regions "
        "handles each change twice",
        "attach it in one region, or filter on an attribute that holds the writer's region",
    ),
    # the mapping
    "mapping-none": Rule(
        _WARNING,
        "no event source mapping reads the stream of table {table}",
        "no function is invoked for its changes",
        "create one, as dynaflow deploy-config writes it. Where dynaflow run reads the stream, "
        "none is needed",
    ),
    "mapping-none-of-function": Rule(
        _ERROR,
        "no event source mapping gives the stream of table {table} to function {function}",
        "it is not invoked for the table's changes",
        "create one, as dynaflow deploy-config writes it, or name another function or table",
    ),
    "mapping-missing": Rule(
        _ERROR,
        "there is no event source mapping {uuid} in {region}",
        "nothing is delivered by it",
        "aws lambda list-event-source-mappings lists those that there are",
    ),
    "mapping-elsewhere": Rule(
        _ERROR,
        "mapping {uuid} reads {source}, which is no stream of {whose}",
        "its settings were not checked",
        "name a mapping that reads the table's stream",
    ),
    "mapping-which": Rule(
        _WARNING,
        "{functions} read the stream of table {table}, and none has a handler in module {module}",
        "which of them runs this App is not known, so no mapping was checked",
        "name it with --function or --mapping",
    ),
    "mapping-old-stream": Rule(
        _ERROR,
        "it reads {arn}, and the table's stream is {latest} now",
        "the stream was enabled anew, and changes since then do not come to the function",
        f"{_NEW_MAPPING}, and delete this one when it has read the old one up, at most 24 hours "
        "after the change",
    ),
    "mapping-left": Rule(
        _NOTE,
        "it reads {arn}, and another mapping gives the function the stream that the table has now",
        "what is left in the former stream is delivered, for at most 24 hours after the change",
        "delete it then: aws lambda delete-event-source-mapping --uuid {uuid}",
    ),
    "mapping-disabled": Rule(
        _ERROR,
        "it is {state}",
        "nothing is delivered, and what is older than 24 hours is lost",
        "aws lambda update-event-source-mapping --uuid {uuid} --enabled; it goes on where it was",
    ),
    "mapping-changing": Rule(
        _NOTE,
        "it is {state}",
        "what is said here may be another in a minute",
        "look again when it is Enabled",
    ),
    "mapping-problem": Rule(
        _ERROR,
        "Lambda says of its last batch: {result}",
        "the batch comes again, and everything behind it waits",
        "for a permission, look at the function's role; otherwise at its log",
    ),
    "reports-ignored": Rule(
        _ERROR,
        "FunctionResponseTypes has no ReportBatchItemFailures, and {teller} says that it has",
        "Lambda ignores the list of failures and takes the batch for done: every failed record is "
        "lost",
        "add it now: aws lambda update-event-source-mapping --uuid {uuid} "
        "--function-response-types ReportBatchItemFailures",
    ),
    "reports-off": Rule(
        _WARNING,
        "FunctionResponseTypes has no ReportBatchItemFailures, and the code does not count on it",
        "every failure brings its whole batch again, with all that had succeeded",
        "add it to the mapping, and only then set DYNAFLOW_REPORT_BATCH_ITEM_FAILURES=1",
    ),
    "reports-unused": Rule(
        _WARNING,
        "FunctionResponseTypes has ReportBatchItemFailures, and {teller}",
        "the function raises for a failure, and its whole batch comes again",
        "set the function's DYNAFLOW_REPORT_BATCH_ITEM_FAILURES=1, or write "
        "lambda_handler(report_batch_item_failures=True)",
    ),
    "retries-endless": Rule(
        _WARNING,
        "MaximumRetryAttempts and MaximumRecordAgeInSeconds are unlimited",
        "one bad record stops its shard for up to 24 hours, and what waits behind it is lost then",
        "set MaximumRetryAttempts to 100, MaximumRecordAgeInSeconds to 43200 and a destination",
    ),
    "retries-few": Rule(
        _WARNING,
        "MaximumRetryAttempts is {retries}",
        "Lambda tries about eight times in the first minute, so a short outage gives records up",
        "set it to 100",
    ),
    "retries-marks": Rule(
        _WARNING,
        "MaximumRetryAttempts is {retries}, and the App is Idempotent",
        "the mark of a process that died keeps others from its record until its time-out would "
        "have been, up to {timeout} s; the retries can be used up by then, and the record is given "
        "up undone",
        "set it to 100",
    ),
    "age-open": Rule(
        _NOTE,
        "MaximumRecordAgeInSeconds is unlimited",
        "what waits too long, as behind throttled invocations, leaves the stream after 24 hours "
        "without a note to the destination",
        "set it to 43200, which leaves 12 hours to read what was given up",
    ),
    "age-late": Rule(
        _WARNING,
        "MaximumRecordAgeInSeconds is {age}, and the stream keeps records for 86400",
        "what is given up is gone before somebody can read it from the stream",
        "set it to 43200",
    ),
    "age-early": Rule(
        _WARNING,
        "MaximumRecordAgeInSeconds is {age}, and the batch window and one time-out take {least}",
        "records are given up before they can be tried twice",
        "set it to 43200",
    ),
    "destination-none": Rule(
        _WARNING,
        "there is no on-failure destination",
        "nobody is told what Lambda gives up, and it cannot be found again",
        "name a standard queue, a standard topic or a bucket in DestinationConfig.OnFailure",
    ),
    "destination-fifo": Rule(
        _ERROR,
        "the on-failure destination {arn} is FIFO",
        "Lambda cannot write to it, so what it gives up leaves no note",
        "name a standard queue or topic",
    ),
    "destination-missing": Rule(
        _ERROR,
        "the on-failure destination {arn} is not there",
        "what Lambda gives up leaves no note",
        "create it, or name another one in DestinationConfig.OnFailure",
    ),
    "bisect-off": Rule(
        _WARNING,
        "BisectBatchOnFunctionError is off",
        "a record that crashes the function, or takes too long, takes its whole batch along when "
        "Lambda gives up",
        "turn it on",
    ),
    "tumbling-window": Rule(
        _ERROR,
        "TumblingWindowInSeconds is {seconds}",
        "such an event is refused, as dynaflow keeps no window's state: every record is given up "
        "in the end",
        "set it to 0",
    ),
    "order-of-shard": Rule(
        _ERROR,
        "ParallelizationFactor is {factor}, and the App has order_by='shard'",
        "Lambda deals a shard's records out to {factor} invocations at a time, so that they are "
        "not in order",
        "set it to 1, or write App(order_by='item')",
    ),
    "order-of-function": Rule(
        _WARNING,
        "ParallelizationFactor is {factor}, and a function in App(order_by=...) chooses the lanes",
        "records of one lane with different partition keys run side by side, in different "
        "invocations",
        "set it to 1, unless each lane has one partition key",
    ),
    "patterns-narrow": Rule(
        _ERROR,
        "the mapping's FilterCriteria may leave out records that these routes take: {routes}",
        "such records never reach the function, and no metric or queue says so",
        "put the patterns of dynaflow filters into the mapping",
    ),
    "patterns-wide": Rule(
        _NOTE,
        "the mapping's FilterCriteria let through more than the routes need",
        "the function is invoked, and billed, for records that it passes over",
        "put the patterns of dynaflow filters into the mapping",
    ),
    "patterns-unmatched": Rule(
        _WARNING,
        "the mapping has FilterCriteria, and the App has unmatched='fail'",
        "records that no route takes do not reach the function, so that they do not fail",
        "take the FilterCriteria away, or write unmatched='ignore'",
    ),
    "patterns-none": Rule(
        _NOTE,
        "the mapping has no FilterCriteria, and {count} of the App's would do",
        "the function is invoked, and billed, for records that no route takes",
        "put the patterns of dynaflow filters into the mapping",
    ),
    "starts-late": Rule(
        _NOTE,
        "StartingPosition is LATEST",
        "what is written while the mapping is created, or changed, can be missed",
        "create it with TRIM_HORIZON; it cannot be changed",
    ),
    "window-none": Rule(
        _NOTE,
        "MaximumBatchingWindowInSeconds is 0",
        "the function is invoked as soon as there is anything, often for one record",
        "set it to 1 where a second does not matter",
    ),
    "events-uncounted": Rule(
        _NOTE,
        "MetricsConfig does not have EventCount",
        "Lambda does not count the records of partial failures, so no alarm sees them",
        "set MetricsConfig to Metrics=EventCount",
    ),
    # the function
    "function-missing": Rule(
        _ERROR,
        "there is no such function in {region}",
        "nothing can be delivered to it",
        "check the name, the region and the account",
    ),
    "function-broken": Rule(
        _ERROR,
        "it is {state}: {reason}",
        "it cannot be invoked",
        "mend what Lambda says, and update its code or configuration again",
    ),
    "variable-unreadable": Rule(
        _ERROR,
        "its DYNAFLOW_REPORT_BATCH_ITEM_FAILURES is neither true nor false",
        "its handler cannot be made, so every invocation fails",
        "set it to 1 or 0",
    ),
    "runtime": Rule(
        _ERROR,
        "its runtime is {runtime}",
        "dynaflow does not run there: it needs Python 3.11 or newer",
        "set the runtime to python3.13",
    ),
    "timeout-default": Rule(
        _WARNING,
        "its time-out is {timeout} s",
        "of a batch, no record starts after {starts:.1f} s, and a call is cut off before {timeout} "
        "s, so that slow records never succeed",
        "set it to 60",
    ),
    "timeout-batch": Rule(
        _WARNING,
        "BatchSize is {batch}, and its time-out of {timeout} s leaves {each:.0f} ms for each "
        "record, {workers} at a time",
        "full batches are cut off, and what is left of them comes again",
        "set the time-out to 60 or more, or BatchSize to 100 or less",
    ),
    "timeout-route": Rule(
        _WARNING,
        "{route} has timeout={seconds:g}, and a call is cut off {latest:.1f} s after the function "
        "started",
        "the function's end comes first, so that a slow call is cut off and comes again instead of "
        "failing",
        "make the function's time-out several times as long",
    ),
    "concurrency-none": Rule(
        _ERROR,
        "its reserved concurrency is 0",
        "every invocation is refused, and records wait until they are too old",
        "aws lambda delete-function-concurrency --function-name {function}",
    ),
    "concurrency-few": Rule(
        _WARNING,
        "its reserved concurrency is {reserved}, and the stream has {shards} open shards times "
        "ParallelizationFactor {factor}",
        "some shards have to wait for others",
        "reserve {wanted} or more, or none",
    ),
    "memory-small": Rule(
        _NOTE,
        "it has {memory} MB",
        "Lambda gives it a small share of a CPU, so that cold starts and models are slow",
        "set MemorySize to 512 and measure",
    ),
    "snapstart-unused": Rule(
        _NOTE,
        "SnapStart is on, and the mapping names no alias or version",
        "it invokes $LATEST, for which there is no snapshot",
        "let the mapping name an alias",
    ),
    # what the app writes to
    "target-missing": Rule(
        _ERROR,
        "{arn} is not there, and the App needs it for {reason}",
        "records fail, or cannot be parked",
        "create it, or correct its name, region or account",
    ),
    "marks-key": Rule(
        _ERROR,
        "the key of table {table} is {key}, and {reader} expects {expected}",
        "no mark can be written, so every record fails",
        "make a table with this key, or name its attributes in {reader}",
    ),
    "marks-kept": Rule(
        _WARNING,
        "table {table} has no Time to Live on {attribute}",
        "marks are never removed, and the table grows",
        "aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification "
        "Enabled=true,AttributeName={attribute}",
    ),
}
