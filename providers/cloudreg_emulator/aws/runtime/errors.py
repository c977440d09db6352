"""Refusals in the words of the SageMaker runtime."""

from __future__ import annotations

import json
from typing import Any

from cloudreg_emulator.aws.refusing import refusal
from cloudreg_emulator.faults import Fault

Response = tuple[int, dict[str, str], Any]
"""What moto takes from a handler: status, headers, body."""

MAX_MESSAGE = 2048
"""Characters of a message; the bound of the service model's shape."""


class Refused(Exception):
    """A request that the runtime does not answer.

    Attributes:
        status: Of HTTP.
        code: What boto3 calls the error.
        message: The service's words.
        details: Further members of the error.
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    @property
    def response(self) -> Response:
        """The HTTP response that boto3 makes this error of."""
        body = {"ErrorCode": self.code, "Message": self.message[:MAX_MESSAGE], **self.details}
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": self.code}
        return self.status, headers, json.dumps(body).encode()


def invalid(message: str) -> Refused:
    """Return a ValidationError: the runtime does not say ValidationException."""
    return Refused(400, "ValidationError", message)


def not_found(endpoint: str, account: str) -> Refused:
    """Return what is said of an endpoint that is not there, or not in service yet."""
    # https://github.com/aws/amazon-sagemaker-examples/issues/293
    return invalid(f"Endpoint {endpoint} of account {account} not found.")


def too_large(limit: int) -> Refused:
    """Return what is said of a body over *limit* bytes."""
    # The code is the status: there is no error type.
    # https://github.com/aws/sagemaker-python-sdk/issues/171
    return Refused(413, "413", f"HTTP content length exceeded {limit} bytes.")


def unavailable(message: str) -> Refused:
    """Return a ServiceUnavailable."""
    return Refused(503, "ServiceUnavailable", message)


def model_error(
    status: int, said: str, *, endpoint: str, region: str, account: str, log_group: str
) -> Refused:
    """Return the ModelError (424) that wraps a container's answer.

    Args:
        status: The container's; 0 where it gave no answer.
        said: Its body, or what happened instead.
        endpoint: Its endpoint.
        region: Of the endpoint.
        account: Of the endpoint.
        log_group: ARN of the container's log group.

    Source: https://github.com/aws/sagemaker-python-sdk/issues/2955,
    https://github.com/RamVegiraju/SageMaker-Deployment/issues/3 (status 0)
    """
    side = "client" if 400 <= status < 500 else "server"
    place = (
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint} in account {account}"
    )
    return Refused(
        424,
        "ModelError",
        f'Received {side} error ({status}) from primary with message "{said[:1024]}". '
        f"See {place} for more information.",
        OriginalStatusCode=status,
        OriginalMessage=said[:MAX_MESSAGE],
        LogStreamArn=log_group,
    )


TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


def spoiled(fault: Fault) -> Refused:
    """Return what a caller sees of a fault; not for closed connections."""
    refused = refusal(fault, service="sagemaker", operation="InvokeEndpoint")
    if refused is not None:
        return Refused(*refused)
    if fault.status == 503:
        return unavailable("The service is unavailable. Try your call again.")
    return Refused(fault.status, "InternalFailure", "An internal failure occurred.")
