"""Batch transform jobs: a data set in the user's bucket, run through real containers."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from moto.s3.models import s3_backends

from cloudreg_emulator.aws.sagemaker.course import Course, Failed, Steps, Wait, begun
from cloudreg_emulator.aws.sagemaker.errors import Refused, invalid, not_found
from cloudreg_emulator.aws.sagemaker.generation import launch_of, the_container
from cloudreg_emulator.aws.sagemaker.hosting import Hosting
from cloudreg_emulator.aws.sagemaker.place import Place, now, without_empty
from cloudreg_emulator.aws.sagemaker.shelf import Shelf
from cloudreg_emulator.aws.sagemaker.tagging import Tags
from cloudreg_emulator.aws.world import current
from cloudreg_emulator.fleet import FleetError, Group, Launch

__all__ = ["Transforms"]

Request = Mapping[str, Any]

MEGABYTE = 1024 * 1024
PAYLOAD_MB = 6
"""MaxPayloadInMB of CreateTransformJob in the service model: "The default value is 6 MB"."""

MOST_PAYLOAD_MB = 100
MOST_INSTANCES = 100
"""InstanceCount of TransformResources in the service model: "the maximum is 100"."""

TIMEOUT_S = 600.0
"""InvocationsTimeoutInSeconds of ModelClientConfig: "The default value is 600"."""


class Job:
    """A transform job.

    Attributes:
        name: Its name.
        body: Its request.
        status: ``TransformJobStatus``.
        gone: Whether somebody stopped it.
    """

    def __init__(self, request: Request, *, arn: str, launch: Launch) -> None:
        """Begin as in progress."""
        self.name = str(request["TransformJobName"])
        self.arn = arn
        self.body = {key: value for key, value in request.items() if key != "Tags"}
        self.launch = launch
        self.status = "InProgress"
        self.failure: str | None = None
        self.created: datetime = now()
        self.modified = self.created
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.group: Group | None = None
        self.stopped = threading.Event()
        self.course: Course | None = None

    def become(self, status: str) -> None:
        """Change the status."""
        self.status = status
        self.modified = now()
        if status in ("Completed", "Failed", "Stopped"):
            self.ended = self.modified
            if self.group is not None:
                self.group.stop()

    def summary(self) -> dict[str, Any]:
        """Return it as ListTransformJobs shows it."""
        return without_empty(
            {
                "TransformJobName": self.name,
                "TransformJobArn": self.arn,
                "CreationTime": self.created,
                "TransformEndTime": self.ended,
                "LastModifiedTime": self.modified,
                "TransformJobStatus": self.status,
                "FailureReason": self.failure,
            }
        )

    def describe(self) -> dict[str, Any]:
        """Return it as DescribeTransformJob shows it."""
        body = {**self.body, **self.summary(), "TransformStartTime": self.started}
        body.pop("LastModifiedTime")
        return without_empty(body)


class Transforms:
    """Transform jobs of one account in one region; none is ever deleted."""

    def __init__(self, place: Place, tags: Tags, hosting: Hosting) -> None:
        """Begin with none."""
        self.shelf = Shelf()
        self._place = place
        self._tags = tags
        self._hosting = hosting
        self._jobs: dict[str, Job] = {}

    def create(self, request: Request) -> str:
        """Begin a job and return its ARN."""
        name = request["TransformJobName"]
        arn = self._place.arn("transform-job", name)
        if name in self._jobs:
            # https://github.com/SuperCowPowers/workbench/issues/384 quotes this of training jobs.
            raise Refused(
                "ResourceInUse",
                "Transform job names must be unique within an AWS account and region, and a "
                f"transform job with this name already exists ({arn})",
            )
        _check(request)
        model = request["ModelName"]
        container = the_container(self._hosting.containers(model), model)
        if container.get("ModelDataSource"):
            # ModelDataSource of ContainerDefinition in the service model: "Currently you cannot
            # use ModelDataSource in conjunction with SageMaker batch transform". Unquoted.
            raise invalid(
                "Model with containers that use ModelDataSource is not supported for batch "
                "transform."
            )
        environment = {**(container.get("Environment") or {}), **(request.get("Environment") or {})}
        launch = launch_of(
            {**container, "Environment": environment},
            arn=arn,
            endpoint=name,
            variant="transform",
            instance_type=request["TransformResources"]["InstanceType"],
            timeouts={},
        )
        launch = replace(launch, job=True)
        self._tags.begin(arn, request.get("Tags"))
        job = self._jobs[name] = Job(request, arn=arn, launch=launch)
        job.course = begun("CreateTransformJob", self._running(job))
        self._record(job)
        return arn

    def get(self, name: str, *, described: bool = False) -> Job:
        """Return a job as it is now.

        Args:
            name: Its name.
            described: Whether DescribeTransformJob asks.
        """
        job = self._jobs.get(name)
        if job is None:
            # ResourceNotFound is modelled for these operations. Unquoted.
            raise not_found(
                f"Could not find transform job: {self._place.arn('transform-job', name)}"
            )
        self._advance(job, described=described)
        return job

    def describe(self, name: str) -> dict[str, Any]:
        """Return DescribeTransformJob's answer; a transition that it shows counts as seen."""
        job = self.get(name, described=True)
        body = job.describe()
        if job.course is not None:
            job.course.see()
        return body

    def end(self, name: str) -> None:
        """Begin to stop a job: Stopping, then Stopped, and nothing is stored."""
        job = self.get(name)
        if job.status != "InProgress":
            raise invalid(f"Transform job {job.arn} is in status {job.status}.")  # unquoted
        job.stopped.set()
        job.become("Stopping")
        job.course = Course(_stopping(job))
        self._record(job)

    def advance(self) -> None:
        """Take every step whose time has come."""
        for job in list(self._jobs.values()):
            self._advance(job)

    def stop(self) -> None:
        """End every instance, in the background."""
        for job in self._jobs.values():
            job.stopped.set()
            if job.group is not None:
                job.group.stop()

    def _advance(self, job: Job, *, described: bool = False) -> None:
        if job.course is not None:
            job.course.advance(described=described)
            if job.course.done:
                job.course = None
        self._record(job)

    def _record(self, job: Job) -> None:
        summary = job.summary()
        if self.shelf.get(job.name) != summary:
            self.shelf.put(job.name, summary)

    def _running(self, job: Job) -> Steps:
        work = _Work(job, self._place)
        try:
            count = job.body["TransformResources"]["InstanceCount"]
            group = job.group = current().fleet.start(job.launch, count)
            yield Wait(until=lambda: _ready(group))
            job.started = now()
            work.start()
            yield Wait(until=work.done)
        except Failed as error:
            job.failure = str(error)
            job.become("Failed")
            return
        job.become("Completed")


def _stopping(job: Job) -> Steps:
    yield Wait()
    job.become("Stopped")


def _ready(group: Group) -> bool:
    if group.ready:
        return True
    if group.failure is not None:
        raise Failed(group.failure)
    return False


class _Work:
    """The requests of a job, in a thread of their own."""

    def __init__(self, job: Job, place: Place) -> None:
        self._job = job
        self._store = s3_backends[place.account][place.partition]
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name=job.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def done(self) -> bool:
        """Return whether everything is stored.

        Raises:
            Failed: Something could not be done.
        """
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise Failed(self._failure)
        return True

    def _run(self) -> None:
        try:
            results = dict(self._results())
            for key, data in results.items():
                if self._job.stopped.is_set():
                    return
                self._store.put_object(_bucket(self._output), key, data)
        except (Failed, FleetError) as error:
            self._failure = str(error) or type(error).__name__
        except Exception as error:
            # A thread has no caller: what goes wrong here becomes the reason of the job.
            self._failure = f"{type(error).__name__}: {error}"

    @property
    def _output(self) -> str:
        return str(self._job.body["TransformOutput"]["S3OutputPath"])

    def _results(self) -> Iterator[tuple[str, bytes]]:
        """Yield the key and the content of each output, which are stored when all are there."""
        asked = self._job.body
        source = asked["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, prefix = _bucket(source), _key(source)
        keys = self._store.get_bucket(bucket).keys
        names = sorted(name for name in keys if name.startswith(prefix))
        if not names:
            raise Failed(f"No S3 objects found under S3 URL {source!r}.")
        folder = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0] + "/"
        line = asked["TransformOutput"].get("AssembleWith") == "Line"
        for name in names:
            if self._job.stopped.is_set():
                return
            data = keys[name].value
            if asked["TransformInput"].get("CompressionType") == "Gzip":
                data = gzip.decompress(data)
            answers = [self._ask(payload) for payload in _payloads(asked, data)]
            joined = (
                b"".join(a.rstrip(b"\n") + b"\n" for a in answers) if line else b"".join(answers)
            )
            relative = name.removeprefix(folder if folder != "/" else "")
            yield f"{_key(self._output).rstrip('/')}/{relative}.out".lstrip("/"), joined

    def _ask(self, payload: bytes) -> bytes:
        asked = self._job.body
        client = asked.get("ModelClientConfig") or {}
        headers = {
            "Content-Type": asked["TransformInput"].get("ContentType") or "application/json",
            "Accept": asked["TransformOutput"].get("Accept") or "*/*",
        }
        timeout_s = float(client.get("InvocationsTimeoutInSeconds") or TIMEOUT_S)
        group = self._job.group
        assert group is not None
        left = client.get("InvocationsMaxRetries") or 0
        while True:
            answer = group.invoke(payload, headers, timeout_s=timeout_s)
            if answer.status == 200:
                return answer.body
            if answer.status < 500 or left <= 0:
                words = answer.body[:200].decode(errors="replace")
                raise Failed(f"AlgorithmError: See job logs for more information: {words}")
            left -= 1


def _payloads(asked: Request, data: bytes) -> Iterator[bytes]:
    """Yield the bodies of requests: the object, its lines, or as many lines as fit."""
    limit = (asked.get("MaxPayloadInMB") or PAYLOAD_MB) * MEGABYTE
    if asked["TransformInput"].get("SplitType") != "Line":
        if len(data) > limit:
            raise Failed(f"Payload of {len(data)} bytes is larger than MaxPayloadInMB.")
        yield data
        return
    batch = b""
    several = (asked.get("BatchStrategy") or "MultiRecord") == "MultiRecord"
    for line in data.splitlines(keepends=True):
        if len(line) > limit:
            raise Failed(f"A record of {len(line)} bytes is larger than MaxPayloadInMB.")
        if batch and (not several or len(batch) + len(line) > limit):
            yield batch
            batch = b""
        batch += line
    if batch:
        yield batch


def _check(request: Request) -> None:
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    for name, value in (
        ("DataProcessing", request.get("DataProcessing")),
        ("DataCaptureConfig", request.get("DataCaptureConfig")),
        (f"S3DataType {source['S3DataType']}", source["S3DataType"] != "S3Prefix"),
        ("SplitType", request["TransformInput"].get("SplitType") in ("RecordIO", "TFRecord")),
    ):
        if value:
            # AWS does. To accept it and not to do it would be a lie.
            raise invalid(f"The emulator does not run transform jobs with {name}.")
    payload = request.get("MaxPayloadInMB")
    if payload is not None and payload > MOST_PAYLOAD_MB:
        # MaxPayloadInMB in the service model: "cannot exceed 100 MB". Unquoted.
        raise invalid(f"MaxPayloadInMB {payload} must be at most {MOST_PAYLOAD_MB}.")
    concurrent = request.get("MaxConcurrentTransforms") or 0
    if concurrent * (PAYLOAD_MB if payload is None else payload) > MOST_PAYLOAD_MB:
        # As above: "(MaxConcurrentTransforms * MaxPayloadInMB) also cannot exceed 100 MB".
        raise invalid(
            f"MaxConcurrentTransforms {concurrent} times MaxPayloadInMB must be at most "
            f"{MOST_PAYLOAD_MB}."
        )
    if request["TransformResources"]["InstanceCount"] > MOST_INSTANCES:
        raise invalid(f"InstanceCount must be at most {MOST_INSTANCES}.")


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _key(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[2]
