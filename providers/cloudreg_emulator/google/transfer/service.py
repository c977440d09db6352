"""Jobs and operations of Storage Transfer Service, strict, over REST.

An operation copies when it has been asked for often enough; what it shows until then is what it
found. Nothing here is kept on disk between runs.

Sources: https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferJobs,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/TransferSpec,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/ObjectConditions,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferOperations,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/googleServiceAccounts
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudreg_emulator.faults import Fault, Kind, When
from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage.nouns import Conditions
from cloudreg_emulator.google.storage.refusals import Refused as StorageRefused
from cloudreg_emulator.google.transfer.listing import JOBS, OPERATIONS, page, read_filter
from cloudreg_emulator.google.transfer.rules import check_spec, invalid, only
from cloudreg_emulator.google.transfer.sources import S3, Gs, Source
from cloudreg_emulator.google.vertex.refusals import Refused
from cloudreg_emulator.google.world import World

__all__ = ["SERVICE", "Transfers"]

SERVICE = "storagetransfer"
"""What faults call it; operations are ``transferJobs.create`` and so on."""

_PATH = re.compile(
    r"/v1/(transferJobs|transferOperations|googleServiceAccounts)(?:/([^:]+))?(?::(run|cancel))?"
)
_JOB = re.compile(r"transferJobs/(?!OPI)[A-Za-z0-9\-._~]*[A-Za-z0-9]")
_LISTED = {"filter", "pageSize", "pageToken"}
_STATUSES = ("ENABLED", "DISABLED", "DELETED")


@dataclass(slots=True, kw_only=True)
class _Operation:
    """A run of a job."""

    name: str
    job: str
    spec: Mapping[str, Any]
    began: float
    polls: int
    stuck_until: float = 0.0
    ended: float | None = None
    is_cancelled: bool = False
    error: Refused | None = None
    counters: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.ended is None:
            return "IN_PROGRESS"
        if self.is_cancelled:
            return "ABORTED"
        return "FAILED" if self.error is not None or self.failures else "SUCCESS"


class Transfers:
    """The service of one project."""

    def __init__(self, world: World, *, s3: Callable[[], str | None]) -> None:
        """Begin without jobs.

        Args:
            world: Project, storage, faults, time.
            s3: Returns where an S3 answers; None for nowhere.
        """
        self._world = world
        self._s3 = s3
        self._jobs: dict[str, dict[str, Any]] = {}
        self._operations: dict[str, _Operation] = {}

    def is_for(self, path: str) -> bool:
        """Return whether a path is of this service."""
        return _PATH.fullmatch(path) is not None

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            with self._world.lock:
                return _json(self._answer(request))
        except Refused as error:
            if not error.http:
                return Response(status=0)
            return _json(error.as_json(), status=error.http)

    def _answer(self, request: Request) -> dict[str, Any]:
        found = _PATH.fullmatch(request.path)
        assert found is not None
        kind, rest, custom = found.groups()
        name = f"{kind}/{rest}" if rest else kind
        acts: dict[tuple[str, str, str], tuple[str, set[str], Callable[[], dict[str, Any]]]] = {
            ("transferJobs", "POST", ""): ("create", set(), lambda: self._create(request)),
            ("transferJobs", "GET", ""): ("list", _LISTED, lambda: self._list(request)),
            ("transferJobs", "GET", "one"): (
                *("get", {"projectId"}),
                lambda: self._get(name, request),
            ),
            ("transferJobs", "PATCH", "one"): ("patch", set(), lambda: self._patch(name, request)),
            ("transferJobs", "POST", "run"): ("run", set(), lambda: self._run(name, request)),
            ("transferOperations", "GET", ""): (
                *("list", _LISTED),
                lambda: self._list_operations(request),
            ),
            ("transferOperations", "GET", "one"): ("get", set(), lambda: self._poll(name)),
            ("transferOperations", "POST", "cancel"): (
                *("cancel", set()),
                lambda: self._cancel(name, request),
            ),
            ("googleServiceAccounts", "GET", "one"): ("get", set(), lambda: self._account(rest)),
        }
        which = (kind, request.method, (custom or "one") if rest else "")
        verb, parameters, act = acts.get(which, ("", set(), None))
        if act is None:
            raise Refused("UNIMPLEMENTED", f"{request.method} {request.path} is not emulated.")
        only(request.query, {*parameters, "alt", "prettyPrint"}, "query")
        return self._world.faults.guarded(SERVICE, f"{kind}.{verb}", act, spoiled=_spoiled)

    def _create(self, request: Request) -> dict[str, Any]:
        job = _read(request)
        only(job, {"name", "description", "projectId", "status", "transferSpec"}, "transferJob")
        self._check_project(job.get("projectId"))
        name = job.get("name") or f"transferJobs/{self._world.number()}"
        if len(name) > 128 or not _JOB.fullmatch(name):
            raise invalid(f"The job name {name!r} is invalid.")
        if job.get("status") not in _STATUSES:
            raise invalid("status must be specified: ENABLED or DISABLED.")
        check_spec(job.get("transferSpec"))
        if name in self._jobs:
            raise Refused("ALREADY_EXISTS", f"{name} already exists.")
        now = _time(self._world.clock())
        made = {**job, "name": name, "creationTime": now, "lastModificationTime": now}
        self._jobs[name] = made
        return made

    def _get(self, name: str, request: Request) -> dict[str, Any]:
        self._check_project(request.arg("projectId"))
        return self._job(name)

    def _list(self, request: Request) -> dict[str, Any]:
        asked = read_filter(request, JOBS)
        self._check_project(asked.get("projectId"))
        statuses = {str(status).upper() for status in asked.get("jobStatuses", _STATUSES)}
        names = asked.get("jobNames") or self._jobs
        found = (one for one in self._jobs.values() if one["name"] in names)
        return page(request, "transferJobs", (one for one in found if one["status"] in statuses))

    def _list_operations(self, request: Request) -> dict[str, Any]:
        asked = read_filter(request, OPERATIONS)
        self._check_project(asked.get("projectId"))
        found = list(self._operations.values())
        for key, name in (
            ("jobNames", "job"),
            ("operationNames", "name"),
            ("transferStatuses", "status"),
        ):
            if key in asked:
                found = [one for one in found if getattr(one, name) in asked[key]]
        return page(request, "operations", (self._shown(one) for one in found))

    def _cancel(self, name: str, request: Request) -> dict[str, Any]:
        """Stop an operation; one that is over stays what it was."""
        only(_read(request), set(), "request")
        found = self._operation(name)
        if found.ended is None:
            found.is_cancelled = True
            found.error = Refused("CANCELLED", "The transfer was cancelled.")
            found.ended = self._world.clock()
        return {}

    def _patch(self, name: str, request: Request) -> dict[str, Any]:
        asked = _read(request)
        only(asked, {"projectId", "transferJob", "updateTransferJobFieldMask"}, "request")
        self._check_project(asked.get("projectId"))
        job, change = self._job(name), asked.get("transferJob", {})
        if asked.get("updateTransferJobFieldMask") != "status":
            raise Refused("UNIMPLEMENTED", "Only the mask 'status' is emulated.")
        if change.get("status") not in _STATUSES:
            raise invalid(f"status {change.get('status')!r} is invalid.")
        if job["status"] == "DELETED":
            raise Refused("FAILED_PRECONDITION", f"{name} was deleted.")
        job["status"] = change["status"]
        job["lastModificationTime"] = _time(self._world.clock())
        return job

    def _run(self, name: str, request: Request) -> dict[str, Any]:
        asked = _read(request)
        only(asked, {"projectId"}, "request")
        self._check_project(asked.get("projectId"))
        job = self._job(name)
        if job["status"] != "ENABLED":
            raise Refused("FAILED_PRECONDITION", f"{name} is not enabled.")
        latest = self._operations.get(job.get("latestOperationName", ""))
        if latest is not None and latest.ended is None:
            raise Refused("FAILED_PRECONDITION", f"{name} has an active operation.")
        now = self._world.clock()
        made = _Operation(
            name=f"transferOperations/{name.replace('/', '-')}-{self._world.number()}",
            job=name,
            spec=job["transferSpec"],
            began=now,
            polls=self._world.polls,
        )
        fault = self._world.faults.strike(SERVICE, "transferJobs.run", When.PROGRESS)
        if fault is not None:
            made.stuck_until = now + fault.seconds * self._world.scale
        self._operations[made.name] = made
        job["latestOperationName"] = made.name
        return self._shown(made)

    def _poll(self, name: str) -> dict[str, Any]:
        found = self._operation(name)
        if found.ended is None:
            found.polls -= 1
            if found.polls < 0 and self._world.clock() >= found.stuck_until:
                self._finish(found)
        return self._shown(found)

    def _account(self, project: str | None) -> dict[str, Any]:
        """Return the account that a role of AWS's has to trust."""
        self._check_project(project)
        number = self._world.place.number
        return {
            "accountEmail": f"project-{number}@storage-transfer-service.iam.gserviceaccount.com",
            "subjectId": str(10**20 + number),
        }

    def _finish(self, operation: _Operation) -> None:
        try:
            fault = self._world.faults.strike(SERVICE, "transferJobs.run", When.OPERATION)
            if fault is None:
                self._copy(operation)
            else:
                operation.error = Refused("INTERNAL", f"The transfer failed: {fault.reason}.")
        except Refused as error:
            operation.error = error
        operation.ended = self._world.clock()

    def _copy(self, operation: _Operation) -> None:
        spec = operation.spec
        with self._source(spec) as source:
            self._copy_from(operation, source)

    def _copy_from(self, operation: _Operation, source: Source) -> None:
        spec, root = operation.spec, source.root
        conditions = spec.get("objectConditions", {})
        excluded = tuple(conditions.get("excludePrefixes", ()))
        for prefix in conditions.get("includePrefixes") or [""]:
            for name, size in source.names(root + prefix):
                below = name.removeprefix(root)
                if not (excluded and below.startswith(excluded)):
                    self._count(operation, "FoundFromSource", size)
                    what = self._one(operation, source, name, below)
                    self._count(operation, what, size)

    def _one(self, operation: _Operation, source: Source, name: str, below: str) -> str:
        """Copy an object, and return what became of it, as counters call it."""
        sink, storage = operation.spec["gcsDataSink"], self._world.storage
        bucket, to = sink["bucketName"], sink.get("path", "") + below
        when = operation.spec.get("transferOptions", {}).get("overwriteWhen", "DIFFERENT")
        with storage.lock:
            shelf = storage.shelves.get(bucket)
            if shelf is None:
                raise Refused("NOT_FOUND", f"The bucket {bucket} does not exist.")  # unquoted
            there = shelf.live.get(to)
        try:
            content = source.read(name)
        except Refused as refused:
            operation.failures.append((f"{source.url}{name}", refused.status().message))
            return "FromSourceFailed"
        is_same = there is not None and there.content.crc32c == content.crc32c
        if there is not None and (when == "NEVER" or (when == "DIFFERENT" and is_same)):
            return "FromSourceSkippedBySync"
        try:
            storage.objects.insert(bucket, to, content, {}, Conditions())
        except StorageRefused as refused:
            operation.failures.append((f"gs://{bucket}/{to}", str(refused)))
            return "FromSourceFailed"
        return "CopiedToSink"

    def _source(self, spec: Mapping[str, Any]) -> Source:
        aws = spec.get("awsS3DataSource")
        if aws is not None:
            return S3(self._s3(), aws)
        return Gs(self._world, spec["gcsDataSource"])

    @staticmethod
    def _count(operation: _Operation, what: str, size: int) -> None:
        for name, amount in ((f"objects{what}", 1), (f"bytes{what}", size)):
            operation.counters[name] = operation.counters.get(name, 0) + amount

    def _shown(self, operation: _Operation) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "@type": "type.googleapis.com/google.storagetransfer.v1.TransferOperation",
            "name": operation.name,
            "projectId": self._world.place.project,
            "transferSpec": operation.spec,
            "startTime": _time(operation.began),
            "status": operation.status,
            "counters": {name: str(count) for name, count in operation.counters.items()},
            "transferJobName": operation.job,
        }
        shown: dict[str, Any] = {"name": operation.name, "metadata": metadata}
        if operation.failures:
            metadata["errorBreakdowns"] = [
                {
                    "errorCode": "UNKNOWN",
                    "errorCount": str(len(operation.failures)),
                    "errorLogEntries": [
                        {"url": url, "errorDetails": [why]} for url, why in operation.failures[:5]
                    ],
                }
            ]
        if operation.ended is not None:
            shown["done"] = True
            metadata["endTime"] = _time(operation.ended)
            if operation.error is not None:
                status = operation.error.status()
                shown["error"] = {"code": status.code, "message": status.message}
            else:
                shown["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return shown

    def _operation(self, name: str) -> _Operation:
        found = self._operations.get(name)
        if found is None:
            raise Refused("NOT_FOUND", f"{name} was not found.")
        return found

    def _job(self, name: str) -> dict[str, Any]:
        found = self._jobs.get(name)
        if found is None:
            raise Refused("NOT_FOUND", f"{name} was not found.")
        return found

    def _check_project(self, project: Any) -> None:
        if not project:
            raise invalid("project_id is required.")
        if not self._world.place.owns(str(project)):
            raise Refused("PERMISSION_DENIED", f"Failed to find the project {project}.")


def _read(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(request.read() or b"{}")
    except ValueError as error:
        raise invalid("Invalid JSON payload received.") from error
    if not isinstance(found, dict):
        raise invalid("Invalid JSON payload received.")
    return found


_SPOILED = {
    Kind.THROTTLE: "RESOURCE_EXHAUSTED",
    Kind.EXPIRED: "UNAUTHENTICATED",
    Kind.DENIED: "PERMISSION_DENIED",
}


def _spoiled(fault: Fault) -> dict[str, Any]:
    code = _SPOILED.get(fault.kind)
    message = "The service is currently unavailable."
    raise Refused(code or "UNAVAILABLE", message, http=None if code else fault.status)


def _time(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(document: dict[str, Any], *, status: int = 200) -> Response:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return Response(status=status, headers=headers, body=json.dumps(document).encode())
