"""Buckets in the JSON API.

Source: https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import base64
import binascii

from cloudreg_emulator.google.http import Response
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.listing import MOST
from cloudreg_emulator.google.storage.nouns import document, flag, number
from cloudreg_emulator.google.storage.refusals import Refused, invalid, not_emulated, required


def insert(call: Call) -> Response:
    """Make a bucket."""
    project = call.needed("project")
    asked = document(call.request)
    name = asked.get("name")
    if not isinstance(name, str) or not name:
        raise required("name")
    return call.answer(call.shown_bucket(call.storage.create_bucket(name, asked, project=project)))


def list_(call: Call) -> Response:
    """Return a page of buckets."""
    call.needed("project")
    if flag(call.request, "softDeleted"):
        raise not_emulated("buckets.list with softDeleted")
    prefix = call.request.arg("prefix") or ""
    behind = _behind(call.request.arg("pageToken"))
    most = number(call.request, "maxResults")
    if most is not None and most <= 0:
        raise invalid(f"Invalid value for maxResults: {most}")
    most = min(most or MOST, MOST)
    found = [
        bucket
        for bucket in call.storage.buckets()
        if bucket.name.startswith(prefix) and bucket.name > behind
    ]
    shown: dict[str, object] = {"kind": "storage#buckets"}
    if found:
        shown["items"] = [call.shown_bucket(bucket) for bucket in found[:most]]
    if len(found) > most:
        shown["nextPageToken"] = base64.urlsafe_b64encode(found[most - 1].name.encode()).decode()
    return call.answer(shown)


def get(call: Call) -> Response:
    """Describe a bucket."""
    found = call.storage.bucket(call.bucket)
    call.conditions.check(found, reads=True)
    return call.answer(call.shown_bucket(found))


def patch(call: Call) -> Response:
    """Change some of what a bucket says of itself."""
    made = call.storage.change_bucket(call.bucket, document(call.request), call.conditions)
    return call.answer(call.shown_bucket(made))


def update(call: Call) -> Response:
    """Replace what a bucket says of itself."""
    made = call.storage.change_bucket(
        call.bucket, document(call.request), call.conditions, whole=True
    )
    return call.answer(call.shown_bucket(made))


def delete(call: Call) -> Response:
    """Delete an empty bucket."""
    call.storage.delete_bucket(call.bucket, call.conditions)
    return Response(status=204)


def get_policy(call: Call) -> Response:
    """Return who may do what."""
    return _policy(call, dict(call.storage.bucket(call.bucket).policy))


def set_policy(call: Call) -> Response:
    """Replace who may do what."""
    return _policy(call, dict(call.storage.set_policy(call.bucket, document(call.request))))


def test_permissions(call: Call) -> Response:
    """Everybody may do everything here: what is asked for is granted, if it is a permission."""
    call.storage.bucket(call.bucket)
    asked = call.request.query.get("permissions", ())
    if not asked:
        raise required("permissions")
    for permission in asked:
        if not permission.startswith("storage."):
            raise invalid(f"Invalid permission: {permission}")
    return call.answer({"kind": "storage#testIamPermissionsResponse", "permissions": list(asked)})


def caches(call: Call) -> Response:
    """Return a bucket's caches in other zones: there are none here, and none can be made.

    Terraform's provider asks before it empties a bucket.
    Source: https://cloud.google.com/storage/docs/json_api/v1/anywhere_caches/list
    """
    call.storage.bucket(call.bucket)
    return call.answer({"kind": "storage#anywhereCaches"})


def service_account(call: Call) -> Response:
    """Return the account that may use keys of Cloud KMS for the service."""
    # The path's first part, which is a bucket's name elsewhere.
    if not call.storage.is_project(call.bucket):
        raise Refused(
            403, "forbidden", f"Permission 'resourcemanager.projects.get' denied on {call.bucket}."
        )
    address = f"service-{call.storage.project_number}@gs-project-accounts.iam.gserviceaccount.com"
    return call.answer({"kind": "storage#serviceAccount", "email_address": address})


def _policy(call: Call, policy: dict[str, object]) -> Response:
    policy.pop("number")
    resource = f"projects/_/buckets/{call.bucket}"
    return call.answer({"kind": "storage#policy", "resourceId": resource, **policy})


def _behind(token: str | None) -> str:
    if token is None:
        return ""
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid page token {token!r}") from error
