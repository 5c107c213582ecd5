"""What the checks ask for, gathered from AWS: a table's stream, mappings, functions, targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynaflow.app import App
from dynaflow.deploy.doctor.reading import Missing, Reading
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.deploy.doctor.targets import targets_of
from dynaflow.deploy.live import Function, LiveMapping, Stream, Target
from dynaflow.record import table_of

__all__ = ["Gathering"]

_MOST_PAGES = 20  # of a stream's shards: 2,000 of them


class Gathering:
    """Asks for whole things; what is missing becomes a finding of the Reading's.

    Args:
        reading: asks AWS.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._functions: dict[str, Function | None] = {}
        self._streams: dict[str, Stream | None] = {}
        self.knows_mappings = False
        """Whether the mappings of the region could be listed."""

    def stream(self, table: str) -> Stream | None:
        """Return a table's stream, asked for once, by its table's name or an ARN, or by its own.

        None if it is not known.
        """
        if table not in self._streams:
            self._streams[table] = self._stream(table)
        return self._streams[table]

    def _stream(self, table: str) -> Stream | None:
        arn, _, _ = table.partition("/stream/")
        name = table_of(table) or table
        subject = f"table {name}"
        try:
            answer = self._reading.ask(
                subject, "its stream", "dynamodb", "describe_table", TableName=arn
            )
        except Missing:
            region = self._reading.region
            self._note(found("table-missing", subject, table=name, region=region))
            return None
        if answer is None:
            return None
        stream = Stream.of(answer["Table"])
        if not stream.is_enabled or stream.arn is None:
            return stream
        return Stream.of(answer["Table"], self._open_shards(subject, stream.arn))

    def _open_shards(self, subject: str, arn: str) -> int | None:
        arguments: dict[str, Any] = {"StreamArn": arn}
        count = 0
        for _ in range(_MOST_PAGES):
            try:
                answer = self._reading.ask(
                    subject, "its shards", "dynamodbstreams", "describe_stream", **arguments
                )
            except Missing:
                return None
            if answer is None:
                return None
            description = answer["StreamDescription"]
            for shard in description.get("Shards") or ():
                span = shard.get("SequenceNumberRange") or {}
                count += "EndingSequenceNumber" not in span
            if not description.get("LastEvaluatedShardId"):
                return count
            arguments["ExclusiveStartShardId"] = description["LastEvaluatedShardId"]
        return None

    def all_mappings(self) -> list[LiveMapping]:
        """Return the mappings of DynamoDB streams in the region.

        Not only those of one stream: a mapping may still read the stream that a table had before.
        """
        if not self._has_lambda("event source mappings"):
            return []
        found_mappings: list[LiveMapping] = []
        self.knows_mappings = True
        what, pages = "whether a mapping reads the stream", self._reading.pages
        before = len(self._reading.findings)
        for page in pages(
            "AWS", what, "lambda", "list_event_source_mappings", ("NextMarker", "Marker")
        ):
            found_mappings += map(LiveMapping.of, page.get("EventSourceMappings") or ())
        self.knows_mappings = len(self._reading.findings) == before
        return [mapping for mapping in found_mappings if ":dynamodb:" in mapping.source]

    def mapping(self, uuid: str) -> LiveMapping | None:
        """Return one mapping; None if it is not known."""
        subject = f"mapping {uuid}"
        if not self._has_lambda(subject):
            return None
        try:
            answer = self._reading.ask(
                subject, "the mapping", "lambda", "get_event_source_mapping", UUID=uuid
            )
        except Missing:
            region = self._reading.region
            self._note(found("mapping-missing", subject, uuid=uuid, region=region))
            return None
        return None if answer is None else LiveMapping.of(answer)

    def function(self, mapping: LiveMapping) -> Function | None:
        """Return a mapping's function, asked for once; None if it is not known."""
        if mapping.function not in self._functions:
            self._functions[mapping.function] = self._function(mapping)
        return self._functions[mapping.function]

    def _function(self, mapping: LiveMapping) -> Function | None:
        subject, name = f"function {mapping.function_name}", mapping.function
        ask = self._reading.ask
        try:
            answer = ask(
                subject, "its settings", "lambda", "get_function_configuration", FunctionName=name
            )
            if answer is None:
                return None
            concurrency = ask(
                subject,
                "its reserved concurrency",
                "lambda",
                "get_function_concurrency",
                FunctionName=mapping.function_name,
            )
        except Missing:
            self._note(found("function-missing", subject, region=self._reading.region))
            return None
        return Function.of(answer, (concurrency or {}).get("ReservedConcurrentExecutions"))

    def missing_destination(self, subject: str, mapping: LiveMapping) -> Iterator[Finding]:
        """Check that the on-failure destination is there."""
        arn = mapping.destination
        if arn is not None and self.exists(subject, arn) is False:
            yield found("destination-missing", subject, arn=arn)

    def targets(self, app: App) -> list[Target]:
        """Return what the App writes to, as far as it says so, and whether it is there."""
        return [self._target(arn, reason) for arn, reason in targets_of(app)]

    def _target(self, arn: str, reason: str) -> Target:
        subject = "what the App writes to"
        if ":dynamodb:" not in arn:
            return Target(arn=arn, reason=reason, exists=self.exists(subject, arn))
        name = table_of(arn) or arn
        known = arn if "${" not in arn else name
        ask = self._reading.ask
        try:
            answer = ask(subject, f"table {name}", "dynamodb", "describe_table", TableName=known)
            if answer is None:
                return Target(arn=arn, reason=reason)
            life = ask(
                subject,
                f"the Time to Live of table {name}",
                "dynamodb",
                "describe_time_to_live",
                TableName=known,
            )
        except Missing:
            return Target(arn=arn, reason=reason, exists=False)
        described = answer["Table"]
        kinds = {a["AttributeName"]: a["AttributeType"] for a in described["AttributeDefinitions"]}
        names = [element["AttributeName"] for element in described["KeySchema"]]
        on = (life or {}).get("TimeToLiveDescription") or {}
        is_on = on.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        return Target(
            arn=arn,
            reason=reason,
            exists=True,
            key=tuple((name, kinds[name]) for name in names),
            ttl=on.get("AttributeName") if is_on else None,
            is_ttl_known=life is not None,
        )

    def exists(self, subject: str, arn: str) -> bool | None:
        """Return whether a queue, a topic or a bucket is there; None if that is not known."""
        service, region, account, name = (*arn.split(":", 5)[2:], "", "", "", "")[:4]
        arguments: dict[str, str] = {}
        if service == "sqs":
            arguments["QueueName"] = name
            operation = "get_queue_url"
            if account.isdecimal():
                arguments["QueueOwnerAWSAccountId"] = account
        elif service == "sns":
            arguments["TopicArn"], operation = arn, "get_topic_attributes"
        elif service == "s3":
            arguments["Bucket"], operation = name.partition("/")[0], "head_bucket"
        else:
            return None
        if not self._reading.has(service) or "${" in str(arguments.values()):
            return None
        if region not in ("", "${Region}", self._reading.region):
            why, remedy = f"it is in {region}", f"look with --region {region}"
            self._note(found("not-checked", subject, what=arn, why=why, remedy=remedy))
            return None
        try:
            answer = self._reading.ask(subject, arn, service, operation, **arguments)
        except Missing:
            return False
        return None if answer is None else True

    def _has_lambda(self, what: str) -> bool:
        if self._reading.has("lambda"):
            return True
        why = "DynamoDB is a stand-in, and Lambda would be AWS's"
        remedy = "set AWS_ENDPOINT_URL_LAMBDA, if the stand-in has Lambda, too"
        self._note(found("not-checked", "AWS", what=what, why=why, remedy=remedy))
        return False

    def _note(self, finding: Finding) -> None:
        self._reading.findings.append(finding)
