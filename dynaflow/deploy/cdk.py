"""A Deployment as an app of the AWS CDK, in Python: a Stack to keep beside the code. Pure.

The mapping is CDK's ``CfnEventSourceMapping`` and the role is written out, because CDK's
``DynamoEventSource`` and ``SqsDestination`` grant the role more than it needs.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dynaflow.deploy._cdk_stack import ALARM, ALARMS, FILTERED, RETENTION, STACK
from dynaflow.deploy.deployment import (
    ACCOUNT,
    APPLICATION_LOG_LEVEL,
    FAILURES_KEPT_FOR,
    FAILURES_LOGGED,
    LOG_FILTER,
    PARTITION,
    REGION,
    Alarm,
    Deployment,
    MappingSettings,
)
from dynaflow.deploy.iam import Statement, statements

__all__ = ["render"]

_LONGEST = 88  # letters of a line, as most formatters have it

_OPEN = {PARTITION: "{self.partition}", REGION: "{self.region}", ACCOUNT: "{self.account}"}

# CloudFormation puts a parameter or secret in its place, in any text. JSON can write it otherwise.
_RESOLVED, _RESOLVED_NOT = "{{resolve:", "{\\\\u007bresolve:"

_DIMENSIONS = {
    "function": '{"FunctionName": function.function_name}',
    "mapping": '{"EventSourceMappingUUID": mapping.ref}',
    "queue": '{"QueueName": failures.queue_name}',
}


def render(deployment: Deployment) -> str:
    """Return the text of a Python file: a Stack, and an app with it for ``cdk --app``.

    Args:
        deployment: what the function needs.

    Raises:
        ValueError: a filter is no JSON, or CloudWatch does not keep a log for that many days.
    """
    if deployment.logs_kept_for not in RETENTION:
        taken = ", ".join(map(str, RETENTION))
        raise ValueError(
            f"CloudWatch keeps no log for {deployment.logs_kept_for} days; it takes {taken}"
        )
    words = re.findall(r"[a-zA-Z0-9]+", deployment.name)
    stack = "".join(word[0].upper() + word[1:] for word in words) + "Stack"
    stack_id = "-".join(words) or "stream"
    context = 'app.node.get_context("stream_arn")'
    given = deployment.stream_arn is not None
    return _filled(
        STACK,
        about=_about(deployment),
        name=_text(deployment.name),
        table=_text(deployment.table),
        code=_text(deployment.code),
        stream=f"STREAM_ARN = {_text(deployment.stream_arn or '')}\n" if given else "",
        given=context.replace("get_", "try_get_") + " or STREAM_ARN" if given else context,
        filters=_value([json.loads(text) for text in deployment.mapping.filters], 0),
        stack=stack if stack[0].isalpha() else f"Function{stack}",
        stack_id=_text(stack_id if stack_id[0].isalpha() else f"function-{stack_id}"),
        failure_queue=_text(deployment.failure_queue),
        kept_for=str(FAILURES_KEPT_FOR),
        log_group=_text(deployment.log_group),
        days=RETENTION[deployment.logs_kept_for],
        log_filter=_prose(LOG_FILTER, 0, after="LOG_FILTER = "),
        failures_logged=_text(FAILURES_LOGGED),
        statements="\n".join(map(_statement, statements(deployment))),
        runtime=deployment.runtime.upper().replace("PYTHON", "PYTHON_").replace(".", "_"),
        architecture={"arm64": "ARM_64", "x86_64": "X86_64"}[deployment.architecture],
        handler=_text(deployment.handler),
        memory_size=str(deployment.memory_size),
        timeout=str(deployment.timeout),
        log_level=APPLICATION_LOG_LEVEL,
        environment=_value(dict(deployment.environment), 12),
        mapping=_mapping(deployment.mapping),
        alarms=_alarms(deployment),
    )


def _about(deployment: Deployment) -> str:
    """Return the docstring's text: what this is, what to know, and how it is deployed."""
    told = f"The function {deployment.name} on the stream of table {deployment.table}."
    wanted = "" if deployment.stream_arn else " -c stream_arn=ARN"
    deploy = f'    cdk deploy --app "python THIS_FILE"{wanted} -c alarm_topic_arn=ARN'
    notes = [_wrapped(note, "- ", "  ") for note in deployment.notes]
    text = "\n\n".join([_wrapped(told), *notes, "To deploy it:", deploy])
    return text.replace("\\", "\\\\").replace('"""', '\\"""') + "\n"


def _mapping(settings: MappingSettings) -> str:
    arguments = []
    for name, value in settings.to_api().items():
        if name == "FilterCriteria":
            texts = 'json.dumps(pattern, separators=(",", ":"))'
            if any(_RESOLVED in text for text in settings.filters):
                texts += f'.replace("{_RESOLVED}", "{_RESOLVED_NOT}")'
            arguments.append(_filled(FILTERED, pattern=texts))
        elif name == "MetricsConfig":
            metrics = _value(value["Metrics"], 16)
            arguments.append(
                f"{12 * ' '}metrics_config=lambda_.CfnEventSourceMapping.MetricsConfigProperty(\n"
                f"{16 * ' '}metrics={metrics}\n{12 * ' '}),\n"
            )
        elif value != []:
            arguments.append(f"{12 * ' '}{_snake(name)}={_value(value, 12)},\n")
    return "".join(arguments).removesuffix("\n")


def _statement(statement: Statement) -> str:
    pad = 24 * " "
    reason = _wrapped(statement.reason, f"{pad}# ", f"{pad}# ")
    resources = "".join(f"{pad}        {_arn(arn)},\n" for arn in statement.resources)
    return (
        f"{reason}\n{pad}iam.PolicyStatement(\n"
        f"{pad}    sid={_text(statement.sid)},\n"
        f"{pad}    actions={_value(list(statement.actions), 28)},\n"
        f"{pad}    resources=[\n{resources}{pad}    ],\n"
        f"{pad}),"
    )


def _alarms(deployment: Deployment) -> str:
    if not deployment.alarms:
        return ""
    return _filled(ALARMS, alarms="".join(_alarm(deployment, each) for each in deployment.alarms))


def _alarm(deployment: Deployment, alarm: Alarm) -> str:
    dimensions = _DIMENSIONS.get(alarm.of or "")
    if alarm.queue is not None:
        dimensions = _value({"QueueName": alarm.queue}, 20)
    return _filled(
        ALARM,
        name=_text(f"{alarm.name}Alarm"),
        description=_prose(alarm.description, 16, after="alarm_description="),
        namespace=_text(alarm.namespace),
        metric=_text(alarm.metric),
        dimensions=f"{20 * ' '}dimensions_map={dimensions},\n" if dimensions else "",
        statistic=_text(alarm.statistic),
        period=str(alarm.period),
        evaluation_periods=str(alarm.evaluation_periods),
        datapoints=str(alarm.datapoints_to_alarm),
        threshold=repr(alarm.threshold),
        comparison=_snake(alarm.comparison).upper(),
        missing=_snake(alarm.missing).upper(),
    )


def _filled(template: str, **texts: str) -> str:
    """Return a template with its ``@marks@`` replaced, once: texts may have marks of their own."""
    return re.sub(r"@([a-z_]+)@", lambda mark: texts[mark[1]], template)


def _value(value: Any, indent: int) -> str:
    """Return a value of JSON as Python code, on one line where that is short."""
    pad = (indent + 4) * " "
    match value:
        case str():
            return _text(value)
        case Mapping():
            parts: Iterable[str] = [
                f"{_text(name)}: {_value(each, indent + 4)}" for name, each in value.items()
            ]
            start, end = "{}"
        case Sequence():
            parts = [_value(each, indent + 4) for each in value]
            start, end = "[]"
        case _:
            return repr(value)
    flat = f"{start}{', '.join(parts)}{end}"
    if "\n" not in flat and len(flat) + indent < _LONGEST - 24:
        return flat
    return f"{start}\n{''.join(f'{pad}{part},' + chr(10) for part in parts)}{indent * ' '}{end}"


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    """Return prose, for a comment or a docstring, in lines that are not too long."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.fill(
        printable,
        _LONGEST,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _prose(text: str, indent: int, *, after: str) -> str:
    """Return a string as code: where it is long, several that Python joins."""
    whole = _text(text)
    if indent + len(after) + len(whole) < _LONGEST:
        return whole
    pieces = [text]
    if indent + 4 + len(whole) > _LONGEST:
        pieces = re.findall(r".{1,60}(?:\s+|$)|\S+\s*|\s+", text, re.DOTALL)
    lines = "".join(f"{(indent + 4) * ' '}{_text(piece)}\n" for piece in pieces)
    return f"(\n{lines}{indent * ' '})"


def _arn(text: str) -> str:
    """Return an ARN as code; the stack knows partition, region and account."""
    pieces = re.split("(" + "|".join(map(re.escape, _OPEN)) + ")", text)
    if len(pieces) == 1:
        return _text(text)
    return "f" + _text(
        "".join(_OPEN.get(each) or each.replace("{", "{{").replace("}", "}}") for each in pieces)
    )


def _text(text: str) -> str:
    """Return a string as code, in double quotes unless it has some."""
    return f'"{repr(chr(39) + text)[2:]}' if '"' not in text else repr(text)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
