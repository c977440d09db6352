"""Lookups of a project: its number by its id, and the other way around.

Resource Manager has them, and Compute Engine, where Terraform's provider looks.

Sources: https://cloud.google.com/resource-manager/reference/rest/v3/projects/get,
https://cloud.google.com/resource-manager/reference/rest/v1/projects/get and
https://cloud.google.com/compute/docs/reference/rest/v1/projects/get
"""

from __future__ import annotations

import json
import re
from typing import Any

import grpc

from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.world import Place

__all__ = ["METHOD", "grpc_method", "handle", "is_for"]

METHOD = "/google.cloud.resourcemanager.v3.Projects/GetProject"

_PATH = re.compile(r"/(v3|v1|compute/v1)/(projects/[^/:]+)")


def is_for(path: str) -> bool:
    """Return whether a path is a project's own."""
    return _PATH.fullmatch(path) is not None


def handle(place: Place, request: Request) -> Response:
    """Answer over REST."""
    found = _PATH.fullmatch(request.path)
    assert found is not None
    if request.method != "GET":
        return _json(501, _error(501, "UNIMPLEMENTED", f"{request.method} is not emulated."))
    project = _project(place, found.group(2))
    if project is None:
        return _json(403, _error(403, "PERMISSION_DENIED", _DENIED))
    match found.group(1):
        case "v1":
            project = {
                "projectNumber": str(place.number),
                "projectId": place.project,
                "name": place.project,
                "lifecycleState": "ACTIVE",
            }
        case "compute/v1":
            project = {"kind": "compute#project", "name": place.project}
    return _json(200, project)


def grpc_method(place: Place, path: str) -> grpc.RpcMethodHandler | None:
    """Return what answers over gRPC; None for another method."""
    if path != METHOD:
        return None
    from google.cloud.resourcemanager_v3 import types

    def get(request: Any, context: grpc.ServicerContext) -> Any:
        project = _project(place, request.name)
        if project is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, _DENIED)
            raise AssertionError
        return types.Project.from_json(json.dumps(project))

    return grpc.unary_unary_rpc_method_handler(
        get,
        request_deserializer=types.GetProjectRequest.deserialize,
        response_serializer=types.Project.serialize,
    )


_DENIED = "The caller does not have permission"


def _project(place: Place, name: str) -> dict[str, str] | None:
    if not place.owns(name.removeprefix("projects/")):
        return None
    return {
        "name": f"projects/{place.number}",
        "projectId": place.project,
        "displayName": place.project,
        "state": "ACTIVE",
    }


def _error(code: int, status: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status}}


def _json(status: int, document: dict[str, Any]) -> Response:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return Response(status=status, headers=headers, body=json.dumps(document).encode())
