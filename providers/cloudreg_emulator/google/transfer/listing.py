"""Lists of jobs and operations: a filter in JSON, and pages.

Sources: https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferJobs/list,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferOperations/list
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cloudreg_emulator.google.http import Request
from cloudreg_emulator.google.transfer.rules import invalid, only

__all__ = ["JOBS", "OPERATIONS", "page", "read_filter"]

JOBS = {"jobNames", "jobStatuses"}
OPERATIONS = {"jobNames", "operationNames", "transferStatuses"}
"""What is filtered by, beside the project; each a list."""

MAX_PAGE = 256


def read_filter(request: Request, names: set[str]) -> Mapping[str, Any]:
    """Return the filter of a request, with its project, which it has to have."""
    try:
        found = json.loads(request.arg("filter") or "")
    except ValueError as error:
        raise invalid("filter must be JSON.") from error
    if not isinstance(found, dict):
        raise invalid("filter must be a JSON object.")
    only(found, {"projectId", *names}, "filter")
    for name in names & set(found):
        if not isinstance(found[name], list):
            raise invalid(f"filter.{name} must be an array.")
    return found


def page(request: Request, kind: str, found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the page that is asked for, by names."""
    size, token = request.arg("pageSize") or "", request.arg("pageToken") or ""
    if not (size.isdigit() or not size) or int(size or 0) > MAX_PAGE:
        raise invalid(f"pageSize must be {MAX_PAGE} at most.")
    items = sorted((one for one in found if one["name"] > token), key=lambda one: one["name"])
    shown = items[: int(size or 0) or MAX_PAGE]
    answer: dict[str, Any] = {kind: shown} if shown else {}
    if len(items) > len(shown):
        answer["nextPageToken"] = shown[-1]["name"]
    return answer
