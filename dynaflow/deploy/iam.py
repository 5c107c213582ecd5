"""The function's role: the policy for exactly what Lambda and the App do in its name. Pure.

Actions of the mapping and the log: AWS Lambda Developer Guide, "Using AWS Lambda with Amazon
DynamoDB", section on execution role permissions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from dynaflow.deploy.deployment import Deployment
from dynaflow.permissions import Permission

__all__ = ["TRUST_POLICY", "Statement", "policy_document", "statements"]

_VERSION: Final = "2012-10-17"
_WORD = re.compile(r"[A-Za-z0-9]+")

TRUST_POLICY: Final[dict[str, Any]] = {
    "Version": _VERSION,
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
"""Who may take the role: Lambda."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the role's policy.

    Args:
        sid: its name, letters and digits, unique in the policy.
        actions: such as "dynamodb:GetRecords".
        resources: ARNs, with the placeholders of ``Permission``.
        reason: what needs it.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as a policy document has it; a list of one is the one."""
        actions, resources = list(self.actions), list(self.resources)
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": actions[0] if len(actions) == 1 else actions,
            "Resource": resources[0] if len(resources) == 1 else resources,
        }


def statements(deployment: Deployment) -> tuple[Statement, ...]:
    """Return the role's statements: stream, failure queue, log, and what the App needs."""
    own = (
        Statement(
            "ReadStream",
            (
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
                "dynamodb:ListStreams",
            ),
            (deployment.streams_arn,),
            "the event source mapping, which reads in the role's name",
        ),
        Statement(
            "NoteWhatIsGivenUp",
            ("sqs:SendMessage",),
            (deployment.failure_queue_arn,),
            "the mapping's note of records that Lambda gives up",
        ),
        Statement(
            "WriteLogs",
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            (deployment.log_group_arn,),
            "the function's log; the group itself is made by the template",
        ),
    )
    return (*own, *_of_app(deployment.permissions))


def policy_document(listed: Iterable[Statement]) -> dict[str, Any]:
    """Return the policy document of some statements."""
    return {"Version": _VERSION, "Statement": [statement.to_dict() for statement in listed]}


def _of_app(permissions: Iterable[Permission]) -> Iterable[Statement]:
    """Name each permission for what needs it: "marks of Idempotent" is MarksOfIdempotent."""
    taken: set[str] = set()
    for permission in permissions:
        words = _WORD.findall(permission.reason)[:6]
        name = "App" + "".join(word[0].upper() + word[1:] for word in words)
        sid, number = name, 2
        while sid in taken:
            sid, number = f"{name}{number}", number + 1
        taken.add(sid)
        yield Statement(sid, permission.actions, permission.resources, permission.reason)
