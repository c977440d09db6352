"""Storage Transfer Service: copies from S3, or from another bucket, that pass no machine of ours.

A copy is a job of the service's with a name that tells what it is, so that whoever repeats it
finds it, and that goes with its end. It copies just the objects that are asked for, overwrites
none and deletes none.

Sources: https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferJobs,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/TransferSpec,
https://cloud.google.com/storage-transfer/docs/reference/rest/v1/transferOperations
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cloudreg.errors import AlreadyExists, CloudregError, Conflict, NotFound, Unsupported
from cloudreg.holding import still_held
from cloudreg.types import OperationState, OperationStatus
from cloudreg_vertex.abilities import NO_ROLE
from cloudreg_vertex.errors import refusal, translated
from cloudreg_vertex.gcs import retrying

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

HOST = "https://storagetransfer.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

MAX_PREFIXES = 1000
"""Of one job: ``includePrefixes`` of ObjectConditions."""

ATTEMPTS = 50
"""Names that are tried: one that was used is not free again."""

_TIMEOUT = (10, 60)
_SAMPLES = 5
"""Errors that are told of a copy that failed."""


class StorageTransfers:
    """The transfers into the bucket of a target."""

    service = "Storage Transfer Service"

    def __init__(self, settings: VertexSettings, *, target: str) -> None:
        """Remember where to; credentials are looked for with the first copy."""
        self._settings = settings
        self._target = target
        self._lock = threading.Lock()
        self._made: Any = None

    def start(self, name: str, source: str, keys: Sequence[str]) -> Transfer:
        spec = self._spec(source)
        # A job takes so many prefixes: what is left goes by the next.
        parts = [keys[at : at + MAX_PREFIXES] for at in range(0, len(keys), MAX_PREFIXES)]
        jobs = [
            self._begun(f"cloudreg-{name}-{number}", spec, part)
            for number, part in enumerate(parts)
        ]
        return Transfer(self, jobs, source=source)

    def operation(self, name: str) -> dict[str, Any]:
        """Return an operation as the service shows it."""
        return self._send("GET", name, what="transfer")

    def end(self, job: str) -> None:
        """Remove a job that is over."""
        body = {
            "projectId": self._settings.project,
            "transferJob": {"status": "DELETED"},
            "updateTransferJobFieldMask": "status",
        }
        with suppress(NotFound, Conflict):  # another process that watches it was faster
            self._send("PATCH", job, what=job, body=body)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._made is not None:
                self._made.close()
            self._made = None

    def _spec(self, source: str) -> dict[str, Any]:
        """Return where from and where to, as a TransferSpec has it."""
        scheme, _, rest = source.partition("://")
        bucket, _, path = rest.partition("/")
        _, _, to = self._settings.uri("").removeprefix("gs://").partition("/")
        sink = {"bucketName": self._settings.bucket, "path": to}
        # What is there stays: it is hashed afterwards, wherever it came from.
        common = {"gcsDataSink": sink, "transferOptions": {"overwriteWhen": "NEVER"}}
        if scheme == "gs":
            return {**common, "gcsDataSource": {"bucketName": bucket, "path": path}}
        if scheme == "s3" and self._settings.transfer_role is not None:
            role = self._settings.transfer_role
            found = {"bucketName": bucket, "path": path, "roleArn": role}
            return {**common, "awsS3DataSource": found}
        raise Unsupported(
            f"no service copies {source or 'from this machine'} to {self._settings.bucket}",
            target=self._target,
            hint=NO_ROLE.partition(": ")[2] if scheme == "s3" else None,
        )

    def _begun(self, name: str, spec: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, str]:
        """Return a job and its operation, begun now or before."""
        for attempt in range(ATTEMPTS):
            job = f"transferJobs/{name}-{attempt}"
            there = self._job(job)
            if there is None:
                self._create(job, spec, keys)
            elif there.get("status") != "ENABLED":
                continue  # it is over, and its name is not free again
            elif there.get("latestOperationName"):
                latest = str(there["latestOperationName"])
                if not self.operation(latest).get("done"):
                    return job, latest
            return job, self._run(job)
        raise Conflict(f"transfer {name}: {ATTEMPTS} copies of it failed", target=self._target)

    def _job(self, job: str) -> dict[str, Any] | None:
        try:
            return self._send("GET", job, what=job, params={"projectId": self._settings.project})
        except NotFound:
            return None

    def _create(self, job: str, spec: Mapping[str, Any], keys: Sequence[str]) -> None:
        body = {
            "name": job,
            "description": "cloudreg: one version of a model",
            "projectId": self._settings.project,
            "status": "ENABLED",
            "transferSpec": {**spec, "objectConditions": {"includePrefixes": list(keys)}},
        }
        with suppress(AlreadyExists):  # a lost answer, or another process with the same copy
            self._send("POST", "transferJobs", what=job, body=body)

    def _run(self, job: str) -> str:
        body = {"projectId": self._settings.project}
        try:
            return str(self._send("POST", f"{job}:run", what=job, body=body)["name"])
        except Conflict:
            # Its answer was lost, or another process was faster: one operation at a time.
            there = self._job(job)
            if there is None or not there.get("latestOperationName"):
                raise
            return str(there["latestOperationName"])

    def _send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        if method != "GET":
            still_held()
        url = f"{self._settings.address or HOST}/v1/{quote(path, safe='/:')}"
        with translated(what, target=self._target):
            answer = self._session().request(
                method, url, json=body, params=params, timeout=_TIMEOUT
            )
        if answer.status_code >= 400:
            raise self._refused(answer, what)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def _refused(self, answer: Any, what: str) -> CloudregError:
        try:
            error = answer.json()["error"]
            status, message = str(error["status"]), str(error["message"])
        except (ValueError, KeyError, TypeError):
            status, message = "UNAVAILABLE", f"{answer.status_code} {answer.reason}"
        return refusal(status, message, what, target=self._target)

    def _session(self) -> Any:
        with self._lock:
            if self._made is None:
                with translated(self.service, target=self._target):
                    self._made = self._make()
            return self._made

    def _make(self) -> Any:
        import requests

        from cloudreg_vertex.connections import mounted

        if self._settings.is_emulated:
            session: Any = requests.Session()
        else:
            import google.auth
            from google.auth.transport.requests import AuthorizedSession

            credentials, _ = google.auth.default(scopes=SCOPES)
            session = AuthorizedSession(credentials)
        # Every request can come twice: a job has a name, and one operation at a time.
        return mounted(session, connections=4, retries=retrying())


class Transfer:
    """A copy, of one job or more."""

    def __init__(
        self, transfers: StorageTransfers, jobs: list[tuple[str, str]], *, source: str
    ) -> None:
        """Watch *jobs*, each with its operation."""
        self._transfers = transfers
        self._jobs = jobs
        self._source = source
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"{self._transfers.service} from {self._source}"

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        shown = [self._transfers.operation(operation) for _, operation in self._jobs]
        found = sum(_counted(one, "bytesFoundFromSource") for one in shown)
        moved = sum(
            _counted(one, "bytesCopiedToSink") + _counted(one, "bytesFromSourceSkippedBySync")
            for one in shown
        )
        if not all(one.get("done") for one in shown):
            return OperationStatus(
                state=OperationState.RUNNING,
                message=f"{moved:,} of {found:,} bytes",
                progress=min(moved / found, 1.0) if found else None,
            )
        # A copy that is repeated is a new job: nothing of this one is left, whatever it came to.
        for job, _ in self._jobs:
            self._transfers.end(job)
        failed = [one for one in shown if _why(one)]
        if failed:
            self._done = OperationStatus(
                state=OperationState.FAILED,
                message="; ".join(_why(one) for one in failed),
                logs=tuple(line for one in failed for line in _samples(one)),
            )
        else:
            self._done = OperationStatus(
                state=OperationState.SUCCEEDED, message=f"{moved:,} bytes", progress=1.0
            )
        return self._done


def _counted(operation: Mapping[str, Any], name: str) -> int:
    return int(operation.get("metadata", {}).get("counters", {}).get(name, 0))


def _why(operation: Mapping[str, Any]) -> str:
    """Return why an operation that is done did not copy all; "" where it did."""
    if "error" in operation:
        return str(operation["error"].get("message") or operation["error"].get("code"))
    status = str(operation.get("metadata", {}).get("status", ""))
    if status != "SUCCESS":
        return f"it ended as {status or 'nothing'}"
    failed = _counted(operation, "objectsFromSourceFailed")
    return f"{failed} objects were not copied" if failed else ""


def _samples(operation: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind in operation.get("metadata", {}).get("errorBreakdowns", ()):
        for entry in kind.get("errorLogEntries", ()):
            details = "; ".join(entry.get("errorDetails", ()))
            lines.append(f"{kind.get('errorCode')}: {entry.get('url')}: {details}")
    return lines[:_SAMPLES]
