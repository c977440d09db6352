"""Paths of the JSON API, and what answers there.

Source: https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import jsonbuckets, jsonobjects, jsonuploads, parameters
from cloudreg_emulator.google.storage.call import Call
from cloudreg_emulator.google.storage.refusals import Refused, not_emulated

if TYPE_CHECKING:
    from cloudreg_emulator.google.storage.storage import Storage

_PATH = re.compile(r"/(?:(?P<way>upload|resumable/upload|download)/)?storage/v1(?P<rest>/.*)")

_ROUTES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (verb, re.compile(pattern), method)
    for verb, pattern, method in (
        ("GET", r"/b", "buckets.list"),
        ("POST", r"/b", "buckets.insert"),
        ("GET", r"/b/([^/]+)", "buckets.get"),
        ("PATCH", r"/b/([^/]+)", "buckets.patch"),
        ("PUT", r"/b/([^/]+)", "buckets.update"),
        ("DELETE", r"/b/([^/]+)", "buckets.delete"),
        ("GET", r"/b/([^/]+)/iam", "buckets.getIamPolicy"),
        ("PUT", r"/b/([^/]+)/iam", "buckets.setIamPolicy"),
        ("GET", r"/b/([^/]+)/iam/testPermissions", "buckets.testIamPermissions"),
        ("GET", r"/b/([^/]+)/anywhereCaches", "anywhereCaches.list"),
        ("GET", r"/projects/([^/]+)/serviceAccount", "projects.serviceAccount.get"),
        ("GET", r"/b/([^/]+)/o", "objects.list"),
        ("GET", r"/b/([^/]+)/o/([^/]+)", "objects.get"),
        ("PATCH", r"/b/([^/]+)/o/([^/]+)", "objects.patch"),
        ("PUT", r"/b/([^/]+)/o/([^/]+)", "objects.update"),
        ("DELETE", r"/b/([^/]+)/o/([^/]+)", "objects.delete"),
        ("POST", r"/b/([^/]+)/o/([^/]+)/compose", "objects.compose"),
        ("POST", r"/b/([^/]+)/o/([^/]+)/copyTo/b/([^/]+)/o/([^/]+)", "objects.copy"),
        ("POST", r"/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", "objects.rewrite"),
        ("POST", r"/b/([^/]+)/o/([^/]+)/restore", "objects.restore"),
    )
)

_HANDLERS: Mapping[str, Callable[[Call], Response]] = {
    "buckets.list": jsonbuckets.list_,
    "buckets.insert": jsonbuckets.insert,
    "buckets.get": jsonbuckets.get,
    "buckets.patch": jsonbuckets.patch,
    "buckets.update": jsonbuckets.update,
    "buckets.delete": jsonbuckets.delete,
    "buckets.getIamPolicy": jsonbuckets.get_policy,
    "buckets.setIamPolicy": jsonbuckets.set_policy,
    "buckets.testIamPermissions": jsonbuckets.test_permissions,
    "anywhereCaches.list": jsonbuckets.caches,
    "projects.serviceAccount.get": jsonbuckets.service_account,
    "objects.list": jsonobjects.list_,
    "objects.insert": jsonuploads.insert,
    "objects.get": jsonobjects.get,
    "objects.patch": jsonobjects.patch,
    "objects.update": jsonobjects.update,
    "objects.delete": jsonobjects.delete,
    "objects.compose": jsonobjects.compose,
    "objects.copy": jsonobjects.copy,
    "objects.rewrite": jsonobjects.rewrite,
    "objects.restore": jsonobjects.restore,
}

METHODS = tuple(_HANDLERS)
"""What is emulated, as the JSON API names it."""


def call_of(storage: Storage, request: Request) -> Call:
    """Return what a request asks.

    Raises:
        Refused: 404 where nothing is, 405, or 501 where the service has something.
    """
    found = _PATH.fullmatch(request.path)
    if found is None:
        raise Refused(404, "notFound", "Not Found")
    rest = found["rest"].rstrip("/")
    if found["way"] in ("upload", "resumable/upload"):
        return _upload(storage, request, rest)
    known = False
    verb = "GET" if request.method == "HEAD" else request.method
    for method_verb, pattern, method in _ROUTES:
        match = pattern.fullmatch(rest)
        if match is None:
            continue
        known = True
        if method_verb == verb:
            names = [unquote(name) for name in match.groups()]
            fields = dict(zip(("bucket", "name", "to_bucket", "to_name"), names, strict=False))
            return Call(storage=storage, request=request, method=method, **fields)
    if known:
        raise Refused(405, "methodNotAllowed", f"{request.method} is not allowed here.")
    raise not_emulated(f"{request.method} {request.path}")


def _upload(storage: Storage, request: Request, rest: str) -> Call:
    match = re.fullmatch(r"/b/([^/]+)/o", rest)
    if match is None:
        raise Refused(404, "notFound", "Not Found")
    if request.method not in ("POST", "PUT", "DELETE"):
        raise Refused(405, "methodNotAllowed", f"{request.method} is not allowed here.")
    return Call(storage=storage, request=request, method="objects.insert", bucket=unquote(match[1]))


def answer(call: Call) -> Response:
    """Answer one request of the JSON API.

    Raises:
        Refused: What is wrong with it.
    """
    parameters.check(call.request, call.method)
    return _HANDLERS[call.method](call)
