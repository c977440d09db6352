"""What Cloud Storage refuses, and in which words.

The JSON API has a reason and a domain, the XML API a code; the message is the same.

Sources: https://cloud.google.com/storage/docs/json_api/v1/status-codes and
https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from cloudreg_emulator.google.http import Response

PRECONDITION = "At least one of the pre-conditions you specified did not hold."

_CODES = {
    "conditionNotMet": "PreconditionFailed",
    "notModified": "NotModified",
    "invalid": "InvalidArgument",
    "invalidParameter": "InvalidArgument",
    "invalidArgument": "InvalidArgument",
    "required": "InvalidArgument",
    "parseError": "InvalidArgument",
    "requestedRangeNotSatisfiable": "InvalidRange",
    "authError": "AuthenticationRequired",
    "forbidden": "AccessDenied",
    "retentionPolicyNotMet": "ObjectUnderActiveHold",
    "objectUnderActiveHold": "ObjectUnderActiveHold",
    "methodNotAllowed": "MethodNotAllowed",
    "rateLimitExceeded": "SlowDown",
    "backendError": "ServiceUnavailable",
    "internalError": "InternalError",
    "notImplemented": "NotImplemented",
    "gone": "NoSuchUpload",
}
"""The XML API's code for a reason of the JSON API's."""


class Refused(Exception):
    """A request that ends in an error.

    Attributes:
        status: Of the answer.
        reason: The JSON API's.
        code: The XML API's.
        message: For people.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        code: str | None = None,
        domain: str = "global",
        location: tuple[str, str] | None = None,
    ) -> None:
        """Say what is wrong.

        Args:
            status: Of the answer.
            reason: The JSON API's.
            message: For people.
            code: The XML API's; without it, the usual one for the reason.
            domain: The JSON API's.
            location: Which kind of input is wrong, and its name.
        """
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code or _CODES.get(reason, reason)
        self._domain = domain
        self._location = location

    def as_json(self) -> Response:
        """Return the answer of the JSON API."""
        if self.status == 304:
            return Response(status=304)
        detail: dict[str, Any] = {
            "message": self.message,
            "domain": self._domain,
            "reason": self.reason,
        }
        if self._location is not None:
            detail["locationType"], detail["location"] = self._location
        document = {"code": self.status, "message": self.message, "errors": [detail]}
        return Response(
            status=self.status,
            headers={"Content-Type": "application/json; charset=UTF-8"},
            body=json.dumps({"error": document}).encode(),
        )

    def as_xml(self) -> Response:
        """Return the answer of the XML API."""
        if self.status == 304:
            return Response(status=304)
        text = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message>"
            "</Error>"
        )
        return Response(
            status=self.status,
            headers={"Content-Type": "application/xml; charset=UTF-8"},
            body=text.encode(),
        )


def invalid(message: str, *, status: int = 400) -> Refused:
    """Return the refusal of a value."""
    return Refused(status, "invalid", message)


def required(name: str) -> Refused:
    """Return the refusal of a request that lacks a parameter."""
    return Refused(400, "required", f"Required parameter: {name}", location=("parameter", name))


def unknown_parameter(name: str) -> Refused:
    """Return the refusal of a query parameter that the method does not have."""
    return Refused(
        400,
        "invalidParameter",
        f"Unknown query parameter: {name!r}.",
        location=("parameter", name),
    )


def no_bucket() -> Refused:
    """Return the refusal of a bucket that is not there."""
    return Refused(404, "notFound", "The specified bucket does not exist.", code="NoSuchBucket")


def no_object(bucket: str, name: str) -> Refused:
    """Return the refusal of an object that is not there."""
    return Refused(404, "notFound", f"No such object: {bucket}/{name}", code="NoSuchKey")


def no_upload() -> Refused:
    """Return the refusal of an upload that is not there, or not any more."""
    return Refused(404, "notFound", "The requested upload was not found.", code="NoSuchUpload")


def conflict(message: str, *, code: str = "OperationAborted") -> Refused:
    """Return the refusal of what contradicts something that is there."""
    return Refused(409, "conflict", message, code=code)


def not_emulated(what: str) -> Refused:
    """Return the refusal of what the service has and this does not; clients do not repeat it."""
    return Refused(501, "notImplemented", f"not emulated: {what}")
