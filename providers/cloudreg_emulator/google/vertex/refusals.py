"""What Vertex AI refuses: google.rpc.Status, as JSON for REST and as it is for gRPC.

Sources: https://cloud.google.com/apis/design/errors, and google/rpc/code.proto for the HTTP
statuses. Where a message's words were quoted by users, the place stands beside it; the rest are
documented refusals in our words, marked *unquoted* where they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import any_pb2, json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2

__all__ = [
    "HTTP",
    "Refused",
    "aborted",
    "denied",
    "exists",
    "invalid",
    "missing",
    "precondition",
    "unavailable",
    "unimplemented",
]

HTTP: Mapping[str, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


class Refused(Exception):
    """A request, or an operation, that ends in an error.

    Attributes:
        code: The name of a google.rpc.Code.
        message: For people.
        details: Messages of google.rpc that say more.
        http: The status of the REST answer; 0 closes the connection.
    """

    def __init__(
        self, code: str, message: str, *, details: Iterable[Any] = (), http: int | None = None
    ) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.http = HTTP[code] if http is None else http

    def status(self) -> status_pb2.Status:
        """Return it as gRPC and operations carry it."""
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code), message=self.message)
        for detail in self.details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def as_json(self) -> dict[str, Any]:
        """Return it as REST carries it."""
        error: dict[str, Any] = {"code": self.http, "message": self.message, "status": self.code}
        details = [json_format.MessageToDict(detail) for detail in self.status().details]
        return {"error": {**error, **({"details": details} if details else {})}}


def invalid(field: str, message: str) -> Refused:
    """Return INVALID_ARGUMENT of one field, as Vertex AI's own checks word it.

    Source: https://github.com/googleapis/python-aiplatform/issues/1684
    """
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
    return Refused(
        "INVALID_ARGUMENT",
        f"List of found errors:\t1.Field: {field}; Message: {message}\t",
        details=[error_details_pb2.BadRequest(field_violations=[violation])],
    )


def missing(kind: str, name: str) -> Refused:
    """Return NOT_FOUND; *kind* begins with a capital letter."""
    return Refused("NOT_FOUND", f"The {kind} does not exist: {name}")  # unquoted


def exists(kind: str, name: str) -> Refused:
    """Return ALREADY_EXISTS."""
    return Refused("ALREADY_EXISTS", f"The {kind} already exists: {name}")  # unquoted


def precondition(message: str) -> Refused:
    """Return FAILED_PRECONDITION."""
    return Refused("FAILED_PRECONDITION", message)


def aborted(message: str) -> Refused:
    """Return ABORTED: somebody else was faster."""
    return Refused("ABORTED", message)


def denied(project: str) -> Refused:
    """Return what Google says of a project that is not there, or not yours.

    Source: https://github.com/GoogleCloudPlatform/training-data-analyst/issues/1811
    """
    info = error_details_pb2.ErrorInfo(
        reason="CONSUMER_INVALID",
        domain="googleapis.com",
        metadata={"consumer": f"projects/{project}", "service": "aiplatform.googleapis.com"},
    )
    message = f"Permission denied on resource project {project}."
    return Refused("PERMISSION_DENIED", message, details=[info])


def unimplemented(what: str) -> Refused:
    """Return UNIMPLEMENTED, for what this emulator does not have."""
    return Refused("UNIMPLEMENTED", f"{what} is not emulated.")


def unavailable(message: str = "The service is currently unavailable.") -> Refused:
    """Return UNAVAILABLE, in the words of Google's front end."""
    return Refused("UNAVAILABLE", message)
