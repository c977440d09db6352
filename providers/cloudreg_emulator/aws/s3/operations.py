"""Which operation a request is: faults are asked for by the API's own names."""

from __future__ import annotations

from collections.abc import Container

_SUBRESOURCES = {
    "accelerate": "BucketAccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCors",
    "encryption": "BucketEncryption",
    "inventory": "BucketInventoryConfiguration",
    "lifecycle": "BucketLifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotificationConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "PublicAccessBlock",
    "replication": "BucketReplication",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
_OBJECT_SUBRESOURCES = {
    "acl": "ObjectAcl",
    "attributes": "ObjectAttributes",
    "legal-hold": "ObjectLegalHold",
    "retention": "ObjectRetention",
    "tagging": "ObjectTagging",
}
_VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}


def operation(
    method: str, *, bucket: str, key: str, query: Container[str], copies: bool = False
) -> str:
    """Return the operation's name, such as ``PutObject``.

    Args:
        method: Of HTTP.
        bucket: The bucket's name; empty for the service itself.
        key: The object's key; empty for the bucket itself.
        query: The names of the query's parameters.
        copies: Whether a source is named in the headers.
    """
    if not bucket:
        return "ListBuckets"
    if key:
        return _of_object(method, query, copies=copies)
    for name, resource in _SUBRESOURCES.items():
        if name in query and method in _VERBS:
            return f"{_VERBS[method]}{resource}"
    if method == "GET":
        for name, listing in (
            ("uploads", "ListMultipartUploads"),
            ("versions", "ListObjectVersions"),
            ("list-type", "ListObjectsV2"),
        ):
            if name in query:
                return listing
        return "ListObjects"
    return {
        "HEAD": "HeadBucket",
        "PUT": "CreateBucket",
        "DELETE": "DeleteBucket",
        "POST": "DeleteObjects" if "delete" in query else "PostObject",
    }.get(method, method)


def _of_object(method: str, query: Container[str], *, copies: bool) -> str:
    if "uploadId" in query:
        return {
            "PUT": "UploadPartCopy" if copies else "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }.get(method, method)
    for name, resource in _OBJECT_SUBRESOURCES.items():
        if name in query and method in _VERBS:
            return f"{_VERBS[method]}{resource}"
    if method == "POST":
        for name, verb in (
            ("uploads", "CreateMultipartUpload"),
            ("restore", "RestoreObject"),
            ("select", "SelectObjectContent"),
        ):
            if name in query:
                return verb
    return {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "CopyObject" if copies else "PutObject",
        "DELETE": "DeleteObject",
    }.get(method, method)
