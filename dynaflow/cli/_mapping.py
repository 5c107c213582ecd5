"""A live event source mapping, as Lambda describes it; and what to do where it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dynaflow._aws import AwsClient, error_code
from dynaflow.deploy.live import LiveMapping
from dynaflow.errors import DynaflowError, EventError, SourceError

__all__ = ["read_mapping"]

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LIST = "aws lambda list-event-source-mappings --function-name NAME"
_REMEDIES = {
    "AccessDeniedException": "allow lambda:GetEventSourceMapping to these credentials",
    "ResourceNotFoundException": f"there is none here: check the region, and {_LIST}",
    "UnrecognizedClientException": "use credentials that exist in this account and partition",
    "InvalidSignatureException": "check the secret, and the clock of this machine",
    "ExpiredTokenException": "sign in again",
    "NoCredentialsError": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "set both the access key and the secret",
    "ProfileNotFound": "check AWS_PROFILE",
    "NoRegionError": "name one with --region, or set AWS_REGION",
    "InvalidRegionError": "check --region",
    "EndpointConnectionError": "check the region and the network",
    "ConnectTimeoutError": "check the network",
}


def read_mapping(uuid: str, *, region: str | None, endpoint_url: str | None) -> LiveMapping:
    """Return what ``GetEventSourceMapping`` says of a mapping.

    Raises:
        EventError: the text is no UUID.
        SourceError: AWS refused, or was not reached.
        ExtraMissing: boto3 is not installed.
    """
    if _UUID.fullmatch(uuid) is None:
        raise EventError(f"--check {uuid!r} is no UUID of an event source mapping: {_LIST} has it")
    client = AwsClient("lambda", region=region, endpoint_url=endpoint_url)
    try:
        answer = client.call_here("get_event_source_mapping", UUID=uuid)
    except DynaflowError:
        raise
    except Exception as error:  # botocore's, or what the network made of it
        code = error_code(error) or type(error).__name__
        remedy = _REMEDIES.get(code)
        what = f"{code}: {remedy}" if remedy else f"{code}: {error}"
        raise SourceError(f"the event source mapping {uuid} could not be read: {what}") from None
    if not isinstance(answer, Mapping) or "UUID" not in answer:
        raise SourceError(f"the answer about the event source mapping {uuid} has no 'UUID'")
    return LiveMapping.of(answer)
