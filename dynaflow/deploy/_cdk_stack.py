"""What the Stack of cdk.py is made of: Python text in which ``@marks@`` are filled in. Pure."""

from __future__ import annotations

__all__ = ["ALARM", "ALARMS", "FILTERED", "RETENTION", "STACK"]

STACK = '''\
"""@about@"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aws_cdk import App, CfnOutput, Duration, RemovalPolicy, Stack, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

NAME = @name@
TABLE = @table@
CODE = Path(__file__).parent / @code@
@stream@
# What dynaflow logs of failures.
LOG_FILTER = @log_filter@

# What the function's handlers want to see of the stream; none for all of it. To keep
# them from drifting, import the App instead: FILTERS = app.filter_patterns(TABLE)
FILTERS: list[dict[str, Any]] = @filters@


class @stack@(Stack):
    """The function with its mapping, role, failure queue, log and alarms."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stream_arn: str,
        alarm_topic_arn: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scope, construct_id, **options)
        if not Token.is_unresolved(stream_arn) and f":table/{TABLE}/" not in stream_arn:
            raise ValueError(f"{stream_arn} is no stream of table {TABLE}")

        # One message for each stretch that Lambda gave up.
        failures = sqs.Queue(
            self,
            "Failures",
            queue_name=@failure_queue@,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            retention_period=Duration.seconds(@kept_for@),
        )
        log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=@log_group@,
            retention=logs.RetentionDays.@days@,
            removal_policy=RemovalPolicy.DESTROY,
        )
        logs.MetricFilter(
            self,
            "FailuresLogged",
            log_group=log_group,
            filter_pattern=logs.FilterPattern.literal(LOG_FILTER),
            metric_namespace=NAME,
            metric_name=@failures_logged@,
            metric_value="1",
            default_value=0,
        )

        # Exactly what Lambda and the handlers do in its name. It is written out: what
        # CDK grants by itself is wider.
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={
                "stream": iam.PolicyDocument(
                    statements=[
@statements@
                    ]
                )
            },
        )
        function = lambda_.Function(
            self,
            "Function",
            function_name=NAME,
            runtime=lambda_.Runtime.@runtime@,
            architecture=lambda_.Architecture.@architecture@,
            handler=@handler@,
            code=lambda_.Code.from_asset(str(CODE)),
            memory_size=@memory_size@,  # MB; also sets the share of a CPU
            timeout=Duration.seconds(@timeout@),  # of one batch
            role=role,
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.@log_level@,
            environment=@environment@,
        )
        mapping = lambda_.CfnEventSourceMapping(
            self,
            "Stream",
            event_source_arn=stream_arn,
            function_name=function.function_name,
@mapping@
            destination_config=lambda_.CfnEventSourceMapping.DestinationConfigProperty(
                on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(
                    destination=failures.queue_arn
                )
            ),
        )
@alarms@
        CfnOutput(self, "FunctionName", value=function.function_name)
        CfnOutput(self, "FailureQueueUrl", value=failures.queue_url)
        CfnOutput(self, "EventSourceMappingUUID", value=mapping.ref)


if __name__ == "__main__":
    app = App()
    @stack@(
        app,
        @stack_id@,
        stream_arn=@given@,
        alarm_topic_arn=app.node.try_get_context("alarm_topic_arn"),
    )
    app.synth()
'''

FILTERED = """\
            filter_criteria=lambda_.CfnEventSourceMapping.FilterCriteriaProperty(
                filters=[
                    lambda_.CfnEventSourceMapping.FilterProperty(
                        pattern=@pattern@
                    )
                    for pattern in FILTERS
                ]
            )
            if FILTERS
            else None,
"""

ALARM = """\
            cloudwatch.Alarm(
                self,
                @name@,
                alarm_description=@description@,
                metric=cloudwatch.Metric(
                    namespace=@namespace@,
                    metric_name=@metric@,
@dimensions@\
                    statistic=@statistic@,
                    period=Duration.seconds(@period@),
                ),
                evaluation_periods=@evaluation_periods@,
                datapoints_to_alarm=@datapoints@,
                threshold=@threshold@,
                comparison_operator=cloudwatch.ComparisonOperator.@comparison@,
                treat_missing_data=cloudwatch.TreatMissingData.@missing@,
            ),
"""

ALARMS = """\

        alarms = [
@alarms@\
        ]
        if alarm_topic_arn:
            topic = sns.Topic.from_topic_arn(self, "AlarmTopic", alarm_topic_arn)
            for alarm in alarms:
                alarm.add_alarm_action(actions.SnsAction(topic))
"""

# aws_cdk.aws_logs.RetentionDays has a name for each number of days that CloudWatch takes.
RETENTION = {
    1: "ONE_DAY",
    3: "THREE_DAYS",
    5: "FIVE_DAYS",
    7: "ONE_WEEK",
    14: "TWO_WEEKS",
    30: "ONE_MONTH",
    60: "TWO_MONTHS",
    90: "THREE_MONTHS",
    120: "FOUR_MONTHS",
    150: "FIVE_MONTHS",
    180: "SIX_MONTHS",
    365: "ONE_YEAR",
    400: "THIRTEEN_MONTHS",
    545: "EIGHTEEN_MONTHS",
    731: "TWO_YEARS",
    1096: "THREE_YEARS",
    1827: "FIVE_YEARS",
    2192: "SIX_YEARS",
    2557: "SEVEN_YEARS",
    2922: "EIGHT_YEARS",
    3288: "NINE_YEARS",
    3653: "TEN_YEARS",
}
