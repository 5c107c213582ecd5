"""Questions to AWS that change nothing and read no item; what is refused is noted, not raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from dynaflow._aws import error_code, is_aws
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.errors import ExtraMissing

__all__ = ["ACTIONS", "Missing", "Reading", "Unanswered", "make_client"]

# What is asked, by service and operation as boto3 names them, with the permission that it needs.
ACTIONS: Final = {
    ("dynamodb", "describe_table"): "dynamodb:DescribeTable",
    ("dynamodb", "describe_time_to_live"): "dynamodb:DescribeTimeToLive",
    ("dynamodbstreams", "describe_stream"): "dynamodb:DescribeStream",
    ("lambda", "get_event_source_mapping"): "lambda:GetEventSourceMapping",
    ("lambda", "get_function_concurrency"): "lambda:GetFunctionConcurrency",
    ("lambda", "get_function_configuration"): "lambda:GetFunctionConfiguration",
    ("lambda", "list_event_source_mappings"): "lambda:ListEventSourceMappings",
    ("s3", "head_bucket"): "s3:ListBucket",
    ("sns", "get_topic_attributes"): "sns:GetTopicAttributes",
    ("sqs", "get_queue_url"): "sqs:GetQueueUrl",
}

# What an answer must have: botocore makes an empty one of a body that is not JSON.
_KEYS: Final = {
    "describe_table": "Table",
    "describe_stream": "StreamDescription",
    "get_event_source_mapping": "UUID",
    "get_function_configuration": "FunctionName",
    "list_event_source_mappings": "EventSourceMappings",
}

_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403")
_MISSING = (
    *("ResourceNotFoundException", "NotFound", "NotFoundException", "404", "NoSuchBucket"),
    *("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_SKEWED = ("RequestTimeTooSkewed", "RequestInTheFuture")
_UNKNOWN = (
    *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignatureException"),
    *("MissingAuthenticationTokenException", "AuthFailure", "OptInRequired"),
)
# The same, as botocore raises it before it sends anything.
_NO_CREDENTIALS = (
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
    *("ProfileNotFound", "NoAuthTokenError", "ConfigParseError"),
)
_SIGNED_OUT = ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError")
_UNANSWERED = (
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"),
    *("ConnectionClosedError", "ProxyConnectionError", "ConnectionError"),
)


class Missing(Exception):
    """What was asked for is not there."""


class Unanswered(Exception):
    """AWS does not answer these credentials, or at all: nothing else need be asked.

    Args:
        finding: why.
    """

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.fact)


class Reading:
    """Asks AWS, and notes what could not be asked.

    Args:
        client: makes boto3's client of a service, or what is like one.
        region: the region, for messages.
        source: where the credentials come from, for messages.
    """

    def __init__(
        self, client: Callable[[str], Any], region: str, source: str = "the environment"
    ) -> None:
        self._make = client
        self.region = region
        self.source = source
        self._clients: dict[str, Any] = {}
        self._answered = False
        self.findings: list[Finding] = []
        """What could not be checked."""
        self.asked: set[str] = set()
        """The permissions that were needed, whether or not they were there."""

    def client(self, service: str) -> Any:
        """Return the client of a service.

        Raises:
            Unanswered: it cannot be made.
        """
        if service not in self._clients:
            try:
                self._clients[service] = self._make(service)
            except ExtraMissing:
                raise
            except Exception as error:
                raise self._unanswered(error, "") from None
        return self._clients[service]

    @property
    def endpoint(self) -> str:
        """Where DynamoDB is asked."""
        return str(self.client("dynamodb").meta.endpoint_url)

    @property
    def is_aws(self) -> bool:
        """True if DynamoDB is asked at AWS itself."""
        return is_aws(self.endpoint)

    def has(self, service: str) -> bool:
        """Return False if DynamoDB is a stand-in, and this service would be AWS's."""
        return self.is_aws or not is_aws(str(self.client(service).meta.endpoint_url))

    def ask(
        self, subject: str, what: str, service: str, operation: str, **arguments: Any
    ) -> Mapping[str, Any] | None:
        """Return AWS's answer; None if it could not be had, which is then noted.

        Args:
            subject: what a note is about.
            what: what could not be checked then.
            service: as boto3 names it.
            operation: the client's method, one of ACTIONS.
            arguments: the method's.

        Raises:
            Missing: what is asked for is not there.
            Unanswered: nothing else need be asked.
        """
        action = ACTIONS[service, operation]
        self.asked.add(action)
        client = self.client(service)
        try:
            answer: Mapping[str, Any] = getattr(client, operation)(**arguments)
            if operation in _KEYS:
                answer[_KEYS[operation]]  # raises what is told below
        except Exception as error:
            self._refused(error, client, subject, what, action)
            return None
        self._answered = True
        return answer

    def pages(
        self, subject: str, what: str, service: str, operation: str, token: tuple[str, str]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a listing; ``token`` says under which names they hand it on."""
        arguments: dict[str, Any] = {}
        while True:
            page = self.ask(subject, what, service, operation, **arguments)
            if page is None:
                return
            yield page
            if not page.get(token[0]):
                return
            arguments = {token[1]: page[token[0]]}

    def _refused(self, error: Exception, client: Any, subject: str, what: str, action: str) -> None:
        code = error_code(error)
        if code in _MISSING:
            self._answered = True
            raise Missing from None
        if code in _DENIED:
            self._answered = True
            why, remedy = f"it needs {action}", f"allow {action}, or ask somebody who may"
        else:
            if not self._answered:
                raise self._unanswered(error, str(client.meta.endpoint_url)) from None
            name = code or type(error).__name__
            why, remedy = f"{action} failed with {name}", "try again"
        self.findings.append(found("not-checked", subject, what=what, why=why, remedy=remedy))

    def _unanswered(self, error: Exception, endpoint: str) -> Unanswered:
        """Return why there is no answer at all."""
        code, name = error_code(error), type(error).__name__
        told = code or name
        if name == "NoRegionError":
            return Unanswered(found("no-region", "AWS"))
        if name in _NO_CREDENTIALS:
            return Unanswered(found("no-credentials", "AWS", error=told))
        if code in _EXPIRED or name in _SIGNED_OUT:
            finding = found("credentials-expired", "AWS", source=self.source, error=told)
            return Unanswered(finding)
        if code in _SKEWED or (code in _UNKNOWN and _is_about_time(error)):
            return Unanswered(found("clock-skew", "AWS", error=told))
        if code in _UNKNOWN:
            finding = found("credentials-refused", "AWS", source=self.source, error=told)
            return Unanswered(finding)
        if name in _UNANSWERED or isinstance(error, ValueError):  # an endpoint that is no URL
            at = endpoint or str(error)
            return Unanswered(
                found("unreachable", "AWS", endpoint=at, error=told, region=self.region)
            )
        remedy = "try again; with AWS_MAX_ATTEMPTS=5 botocore does"
        why = f"AWS answered with {told}"
        finding = found("not-checked", "AWS", what="everything in AWS", why=why, remedy=remedy)
        return Unanswered(finding)


def _is_about_time(error: Exception) -> bool:
    """Return True for a signature that is refused for its time: the code does not say so."""
    response = getattr(error, "response", {})
    message = str(response.get("Error", {}).get("Message", ""))
    return "expired" in message or "not yet current" in message


def make_client(
    region: str | None, endpoint_url: str | None
) -> tuple[Callable[[str], Any], str, str]:
    """Return what makes boto3's clients, where their region is from, and their credentials.

    Args:
        region: the region; None for the environment's.
        endpoint_url: where all services are asked; None for where the environment says.

    Raises:
        ExtraMissing: boto3 is not installed.
        Unanswered: the profile or its files cannot be read.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ExtraMissing("boto3", "aws") from None
    config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
    try:
        session = boto3.Session()
        # botocore reads only AWS_DEFAULT_REGION; AWS_REGION is what all other SDKs read.
        chosen = region or os.environ.get("AWS_REGION") or session.region_name
        credentials = session.get_credentials()
    except BotoCoreError as error:
        finding = found("no-credentials", "AWS", error=type(error).__name__)
        raise Unanswered(finding) from None
    if not chosen:
        raise Unanswered(found("no-region", "AWS"))

    def client(service: str) -> Any:
        at = endpoint_url
        if service == "dynamodbstreams" and at is None:
            # A stand-in serves both at one address, for which botocore has a variable each.
            dynamodb = session.client("dynamodb", region_name=chosen, config=config)
            at = None if is_aws(dynamodb.meta.endpoint_url) else dynamodb.meta.endpoint_url
        return session.client(service, region_name=chosen, endpoint_url=at, config=config)

    method = getattr(credentials, "method", None) or "nowhere"
    profile = f" (profile {session.profile_name})" if session.profile_name != "default" else ""
    return client, str(chosen), f"{method}{profile}"
