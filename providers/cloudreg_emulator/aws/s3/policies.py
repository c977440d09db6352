"""Bucket policies that speak of everybody, with their conditions.

Nobody has an identity here, so that a statement about somebody in particular says nothing; and what
has a condition that cannot be evaluated is left out, since in doubt a request is accepted.

The emulator stands for an address with TLS: ``aws:SecureTransport`` is true.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-auth-workflow-object-operation.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from cloudreg_emulator.aws.iam.policies import (
    ALLOWED,
    EXPLICIT_DENY,
    Policy,
    UnknownCondition,
    decide,
)

_HEADERS = {
    "s3:if-match": "If-Match",
    "s3:if-none-match": "If-None-Match",
    "s3:x-amz-acl": "x-amz-acl",
    "s3:x-amz-copy-source": "x-amz-copy-source",
    "s3:x-amz-server-side-encryption": "x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id": "x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-storage-class": "x-amz-storage-class",
}
"""Condition keys that are headers of the request."""

_ACTIONS = {"s3:HeadObject": "s3:GetObject", "s3:PostObject": "s3:PutObject"}
"""What moto calls an action after the method of HTTP, where S3 has another name for it."""

_Context = Mapping[str, Sequence[str]]

_ASKED: ContextVar[tuple[_Context, str | None] | None] = ContextVar("asked", default=None)


@contextmanager
def asked(method: str, headers: Any, query: Container[str]) -> Iterator[None]:
    """Let policies know the request for as long as the block lasts."""
    context: dict[str, Sequence[str]] = {"aws:securetransport": ["true"]}
    for key, header in _HEADERS.items():
        value = headers.get(header)
        if value is not None:
            context[key] = [str(value)]
    in_parts = "uploads" in query or "partNumber" in query
    if method in ("PUT", "POST"):
        context["s3:objectcreationoperation"] = ["false" if in_parts else "true"]
    token = _ASKED.set((context, _named(method, query)))
    try:
        yield
    finally:
        _ASKED.reset(token)


def _named(method: str, query: Container[str]) -> str | None:
    """Return the action where the query decides it."""
    if "uploadId" in query and method in ("GET", "DELETE"):
        return "s3:ListMultipartUploadParts" if method == "GET" else "s3:AbortMultipartUpload"
    if "versionId" in query and method in ("GET", "HEAD", "DELETE"):
        return "s3:DeleteObjectVersion" if method == "DELETE" else "s3:GetObjectVersion"
    return None


class PolicedBucket(FakeBucket):
    """moto's bucket, whose policy's conditions count."""

    def get_permission(self, action: str, resource: str) -> Any:
        """Return whether the policy permits, denies or does not say."""
        if self.policy is None:
            return PermissionResult.NEUTRAL
        context, named = _ASKED.get() or ({}, None)
        wanted = named or _ACTIONS.get(action, action)
        document = json.loads(self.policy.decode())
        found = [_decided(one, wanted, resource, context) for one in _statements(document)]
        if EXPLICIT_DENY in found:
            return PermissionResult.DENIED
        return PermissionResult.PERMITTED if ALLOWED in found else PermissionResult.NEUTRAL


def _statements(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = document.get("Statement", [])
    for statement in [found] if isinstance(found, Mapping) else found:
        principal = statement.get("Principal")
        if isinstance(principal, Mapping):
            principal = principal.get("AWS")
        if principal in ("*", ["*"]):
            yield statement


def _decided(
    statement: Mapping[str, Any], action: str, resource: str, context: _Context
) -> str | None:
    policy = Policy(name="bucket", kind="resource", document=json.dumps({"Statement": statement}))
    try:
        return decide([policy], action, resource, context).outcome
    except UnknownCondition:
        return None
