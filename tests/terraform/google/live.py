"""Buckets and endpoints that are really made, in emulators of Cloud Storage and Vertex AI.

The addresses are those of the real provider: ``storage_custom_endpoint`` and
``vertex_ai_custom_endpoint``, or their variables.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

PATIENCE_S = 60.0


class Refused(Exception):
    """The emulator said no."""


def _asked(method: str, url: str, body: Any = None) -> Any:
    """Return the answer; None where there is nothing."""
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer emulated"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Refused(f"{method} {url}: {error.code} {error.read().decode()}") from error


def _one(state: Mapping[str, Any], block: str) -> Mapping[str, Any]:
    found = state.get(block)
    found = found[0] if isinstance(found, list) and found else found
    return found if isinstance(found, Mapping) else {}


class Buckets:
    """``google_storage_bucket``."""

    def __init__(self, url: str, project: str) -> None:
        self._url = url
        self._project = project

    def put(self, state: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        body = {
            "versioning": {"enabled": bool(_one(state, "versioning").get("enabled"))},
            "labels": dict(state.get("labels") or {}),
            "softDeletePolicy": {
                "retentionDurationSeconds": str(
                    int(_one(state, "soft_delete_policy").get("retention_duration_seconds") or 0)
                )
            },
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": bool(state["uniform_bucket_level_access"])},
                "publicAccessPrevention": state.get("public_access_prevention") or "inherited",
            },
        }
        name = state["name"]
        if prior is None:
            project = state.get("project") or self._project
            made = {"name": name, "location": state["location"], **body}
            _asked("POST", f"{self._url}b?project={project}", made)
        else:
            _asked("PATCH", f"{self._url}b/{name}", body)

    def read(self, state: dict[str, Any]) -> dict[str, Any] | None:
        seen = _asked("GET", f"{self._url}b/{state['name']}")
        if seen is None:
            return None
        state["labels"] = seen.get("labels") or (state.get("labels") and {})
        if state.get("versioning"):
            state["versioning"][0]["enabled"] = seen.get("versioning", {}).get("enabled", False)
        access = seen.get("iamConfiguration", {})
        state["public_access_prevention"] = access.get(
            "publicAccessPrevention", state["public_access_prevention"]
        )
        return state

    def remove(self, state: Mapping[str, Any]) -> None:
        name = state["name"]
        if state.get("force_destroy"):
            listed = f"{self._url}b/{name}/o?versions=true"
            while found := (_asked("GET", listed) or {}).get("items"):
                for one in found:
                    key = quote(one["name"], safe="")
                    _asked("DELETE", f"{self._url}b/{name}/o/{key}?generation={one['generation']}")
        _asked("DELETE", f"{self._url}b/{name}")


class Endpoints:
    """``google_vertex_ai_endpoint``."""

    def __init__(self, url: str, project: str) -> None:
        self._url = url
        self._project = project

    def _place(self, state: Mapping[str, Any]) -> str:
        project = state.get("project") or self._project
        return f"{self._url}projects/{project}/locations/{state['location']}/endpoints"

    def put(self, state: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        body = {"displayName": state["display_name"], "labels": dict(state.get("labels") or {})}
        if prior is not None:
            url = f"{self._place(state)}/{state['name']}?updateMask=displayName,labels"
            _asked("PATCH", url, body)
            return
        key = _one(state, "encryption_spec").get("kms_key_name")
        body |= {"encryptionSpec": {"kmsKeyName": key}} if key else {}
        if state.get("dedicated_endpoint_enabled"):
            body["dedicatedEndpointEnabled"] = True
        self._wait(_asked("POST", f"{self._place(state)}?endpointId={state['name']}", body))

    def _wait(self, operation: Mapping[str, Any] | None) -> None:
        until = time.monotonic() + PATIENCE_S
        while operation is not None and not operation.get("done"):
            if time.monotonic() > until:
                raise Refused(f"{operation['name']} does not end")
            time.sleep(0.05)
            operation = _asked("GET", f"{self._url}{operation['name']}")
        if operation is not None and "error" in operation:
            raise Refused(json.dumps(operation["error"]))

    def read(self, state: dict[str, Any]) -> dict[str, Any] | None:
        seen = _asked("GET", f"{self._place(state)}/{state['name']}")
        if seen is None:
            return None
        state["display_name"] = seen.get("displayName")
        # The provider shows the labels that the configuration names, and no others.
        known = state.get("labels") or {}
        there = seen.get("labels", {})
        state["labels"] = {key: there[key] for key in known if key in there} or None
        return state

    def remove(self, state: Mapping[str, Any]) -> None:
        self._wait(_asked("DELETE", f"{self._place(state)}/{state['name']}"))


_KINDS = {
    "google_storage_bucket": ("storage_custom_endpoint", Buckets),
    "google_vertex_ai_endpoint": ("vertex_ai_custom_endpoint", Endpoints),
}


def find(kind: str, config: Mapping[str, Any]) -> Buckets | Endpoints | None:
    """Return what makes resources of a kind; None where nothing stands for Google."""
    if kind not in _KINDS:
        return None
    argument, made = _KINDS[kind]
    url = config.get(argument) or os.environ.get(f"GOOGLE_{argument.upper()}")
    project = config.get("project") or os.environ.get("GOOGLE_PROJECT", "")
    return made(url, project) if url else None
