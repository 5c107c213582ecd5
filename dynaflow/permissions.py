"""What an App needs permission for, as statements of an IAM policy. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Permission"]


@dataclass(frozen=True, slots=True)
class Permission:
    """One statement of an IAM policy.

    Args:
        actions: such as "dynamodb:PutItem", sorted.
        resources: ARNs; what is not known is written ``${Partition}``, ``${Region}`` and
            ``${Account}``, as AWS's Service Authorization Reference does.
        reason: what needs it.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str
