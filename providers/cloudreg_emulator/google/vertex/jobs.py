"""JobService: batch prediction jobs, each with model servers of its own.

A job is queued, pending while its machines start, and running while they are asked. Time passes
as it does for operations: a job is queued for as many looks as the world says, and whoever does
not look waits two seconds.

Sources: the documentation of JobService, BatchPredictionJob and JobState in the SDK's protos.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf import empty_pb2, timestamp_pb2

from cloudreg_emulator.faults import When
from cloudreg_emulator.google.vertex import jobs_data, managed, protos, reasons
from cloudreg_emulator.google.vertex.deployments import Deployment, Deployments
from cloudreg_emulator.google.vertex.jobs_rules import check_job, completed
from cloudreg_emulator.google.vertex.jobs_work import Work
from cloudreg_emulator.google.vertex.listing import listed
from cloudreg_emulator.google.vertex.masks import masked
from cloudreg_emulator.google.vertex.names import Name, parse, place_of
from cloudreg_emulator.google.vertex.operations import PATIENCE_S, Operations, Steps, Wait, after
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.refusals import Refused, invalid, missing, precondition
from cloudreg_emulator.google.vertex.services import SERVICE, Call, Service
from cloudreg_emulator.google.vertex.versions import Registry
from cloudreg_emulator.google.world import World

__all__ = ["Jobs"]

QUEUED_S = 5.0
PENDING_S = 30.0
CANCELLING_S = 5.0
DELETE_S = 2.0
"""Emulated seconds, beside those that processes take."""

MAX_FAILURES = 20
"""BatchPredictionJob.partial_failures: "This field never exceeds 20 entries."."""

_CREATE = "CreateBatchPredictionJob"
_FILTERS = {
    "display_name": "display_name",
    "state": "state",
    "create_time": "create_time",
    "labels": "labels",
}
_OVER = ("SUCCEEDED", "FAILED", "CANCELLED")
_OUTPUT_ONLY = (
    "name",
    "model_version_id",
    "output_info",
    "state",
    "error",
    "partial_failures",
    "resources_consumed",
    "completion_stats",
    "create_time",
    "start_time",
    "end_time",
    "update_time",
    "satisfies_pzs",
    "satisfies_pzi",
)
"""What a client may send and the service passes over: https://google.aip.dev/203"""


class Jobs(Service):
    """All batch prediction jobs of one emulator.

    Attributes:
        records: By name.
    """

    service = "JobService"

    def __init__(
        self,
        world: World,
        operations: Operations,
        registry: Registry,
        deployments: Deployments,
    ) -> None:
        """Begin with none; their model servers are processes of *deployments*."""
        super().__init__(world)
        self.operations = operations
        self.registry = registry
        self.deployments = deployments
        self.records: Records[Any] = Records("batches", protos.message("BatchPredictionJob"))
        self._courses: dict[str, _Course] = {}

    def create_batch_prediction_job(self, request: Any, call: Call) -> Any:
        """Begin a job, which is queued at first."""
        place = parse(request.parent)
        assert place is not None
        job = protos.new("BatchPredictionJob")
        job.CopyFrom(request.batch_prediction_job)
        for field in _OUTPUT_ONLY:
            job.ClearField(field)
        check_job(self.world, job, place)
        job.name = f"{place.parent}/batchPredictionJobs/{self.world.number()}"
        if job.model:
            # An alias means what it means now.
            version = self._version(job.model, place)
            job.model, job.model_version_id = version.name, version.version_id
        else:
            container = job.unmanaged_container_model
            if container.artifact_uri:
                managed.keep(self.world, container.artifact_uri, job.name, "0", place.location)
        completed(job)
        job.create_time.CopyFrom(self._now())
        self._become(job, "QUEUED")
        self._begin(job)
        return self._view(job)

    def get_batch_prediction_job(self, request: Any, call: Call) -> Any:
        """Return a job as it is now."""
        job = self._found(request.name)
        course = self._courses.get(job.name)
        if course is not None:
            course.polls += 1
            self._go_on(job.name, course)
        return self._view(self._found(request.name))

    def list_batch_prediction_jobs(self, request: Any, call: Call) -> Any:
        """Return the jobs of a location, the newest first."""
        stale_s = self.world.stale_s("ListBatchPredictionJobs")
        there = list(self.records.under(f"{request.parent}/", stale_s=stale_s))
        there.sort(key=lambda job: job.create_time.ToNanoseconds(), reverse=True)
        page, token = listed(there, request, fields=_FILTERS, orders={})
        page = [masked(self._view(job), request.read_mask) for job in page]
        return protos.new(
            "ListBatchPredictionJobsResponse", batch_prediction_jobs=page, next_page_token=token
        )

    def cancel_batch_prediction_job(self, request: Any, call: Call) -> Any:
        """Begin to end a job; one that is over stays as it is."""
        job = self._found(request.name)
        if _state(job) not in (*_OVER, "CANCELLING"):
            course = self._courses.pop(job.name, None)
            if course is not None:
                course.close()
            self._become(job, "CANCELLING")
            self._courses[job.name] = _Course(self.world, self._cancelling(job))
        return empty_pb2.Empty()

    def delete_batch_prediction_job(self, request: Any, call: Call) -> Any:
        """Forget a job that is over; what it stored stays."""
        job = self._found(request.name)
        if _state(job) not in _OVER:
            # "Can only be called on jobs that already finished."
            raise precondition(  # unquoted
                f"The BatchPredictionJob {job.name} is in state JOB_STATE_{_state(job)} and cannot "
                "be deleted."
            )

        def remove() -> Any:
            self.records.pop(job.name)
            return empty_pb2.Empty()

        # The location's operation: the SDK's transports know none below a job.
        return self.operations.begin(call, place_of(job.name), after(remove, seconds=DELETE_S))

    def advance(self) -> None:
        """Let every job go on."""
        for name, course in list(self._courses.items()):
            self._go_on(name, course)

    def restart(self) -> None:
        """Begin anew what was under way when the last emulator ended."""
        for _, job in self.records.items():
            if _state(job) == "CANCELLING":
                self._courses[job.name] = _Course(self.world, self._cancelling(job))
            elif _state(job) not in _OVER:
                self._become(job, "QUEUED")
                self._begin(job)

    def close(self) -> None:
        """Ask nothing any more; jobs stay as they are."""
        for course in self._courses.values():
            course.close()

    def _begin(self, job: Any) -> None:
        course = self._courses[job.name] = _Course(self.world, self._running(job))
        self._go_on(job.name, course)

    def _go_on(self, name: str, course: _Course) -> None:
        if course.advance():
            self._courses.pop(name, None)

    def _running(self, job: Any) -> Steps:
        deployment: Deployment | None = None
        work: Work | None = None
        try:
            yield Wait(seconds=QUEUED_S)
            self._fail_on_demand(job)
            self._become(job, "PENDING")
            objects = self._objects(job)
            deployment = self._deployment(job)
            yield Wait(seconds=PENDING_S, until=deployment.is_up)
            job.start_time.CopyFrom(self._now())
            self._become(job, "RUNNING")
            folder = self._folder(job)
            work = Work(self.world, job, deployment.group, objects, folder)
            work.start()
            yield Wait(until=work.done)
            job.output_info.gcs_output_directory = folder
            self._end(job, "SUCCEEDED", work)
        except Refused as error:
            job.error.CopyFrom(error.status())
            self._end(job, "FAILED", work)
        finally:
            if work is not None:
                work.give_up()
            if deployment is not None:
                deployment.stop()

    def _cancelling(self, job: Any) -> Steps:
        yield Wait(seconds=CANCELLING_S)
        job.error.CopyFrom(Refused("CANCELLED", "The job was cancelled.").status())  # unquoted
        self._end(job, "CANCELLED", None)

    def _end(self, job: Any, state: str, work: Work | None) -> None:
        stats = job.completion_stats
        stats.successful_count = work.succeeded if work is not None else 0
        stats.failed_count = work.failed if work is not None else 0
        total = work.total if work is not None else -1
        done = stats.successful_count + stats.failed_count
        stats.incomplete_count = total - done if total >= 0 else -1
        job.end_time.CopyFrom(self._now())
        if job.HasField("start_time"):
            ran_s = (job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds()) / 1e9
            replicas = job.dedicated_resources.starting_replica_count
            job.resources_consumed.replica_hours = ran_s * replicas / 3600
        self._become(job, state)

    def _objects(self, job: Any) -> list[tuple[str, str]]:
        """Return what is to be read.

        Raises:
            Refused: NOT_FOUND, where there is nothing at all.
        """
        found: dict[tuple[str, str], None] = {}
        for uri in job.input_config.gcs_source.uris:
            there = jobs_data.matching(self.world.storage, uri)
            found.update(dict.fromkeys(there))
            if not there and len(job.partial_failures) < MAX_FAILURES:
                job.partial_failures.append(_no_input(uri).status())
        if not found:
            del job.partial_failures[:]
            raise _no_input(", ".join(job.input_config.gcs_source.uris))
        return list(found)

    def _deployment(self, job: Any) -> Deployment:
        """Start the job's model servers."""
        resources = job.dedicated_resources
        if job.model:
            version = self.registry.versions.get(f"{job.model}@{job.model_version_id}")
            if version is None:
                raise missing("Model Version", f"{job.model}@{job.model_version_id}")
        else:
            container = job.unmanaged_container_model
            version = protos.message("Model")(
                name=job.name,
                version_id="0",
                artifact_uri=container.artifact_uri,
                container_spec=container.container_spec,
            )
        deployed = protos.new(
            "DeployedModel", id=self.world.number(), model=version.name, model_version_id="0"
        )
        deployed.dedicated_resources.machine_spec.CopyFrom(resources.machine_spec)
        deployed.dedicated_resources.min_replica_count = resources.starting_replica_count
        # Whoever is there first begins.
        deployed.dedicated_resources.required_replica_count = 1
        return self.deployments.run(job.name, deployed, version)

    def _folder(self, job: Any) -> str:
        """Return the output's folder, as OutputConfig.gcs_destination documents its name."""
        kept = self.registry.models.get(job.model) if job.model else None
        title = kept.display_name if kept is not None else job.display_name
        made = job.create_time.ToDatetime(datetime.UTC)
        moment = made.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        prefix = job.output_config.gcs_destination.output_uri_prefix.rstrip("/")
        return f"{prefix}/prediction-{title}-{moment}"

    def _version(self, name: str, place: Name) -> Any:
        field = "batch_prediction_job.model"
        version = self.registry.resolve(self.canonical(name, field))
        parts = parse(version.name)
        if parts is None or parts.location != place.location:
            # "must share the same ancestor Location"
            raise invalid(field, f"The model {name!r} is not in {place.location}.")
        return version

    def _fail_on_demand(self, job: Any) -> None:
        fault = self.world.faults.strike(SERVICE, _CREATE, When.OPERATION)
        if fault is not None:
            raise reasons.refusal(fault.reason, job, self.world.place)

    def _become(self, job: Any, state: str) -> None:
        job.state = _ENUM.values_by_name[f"JOB_STATE_{state}"].number
        job.update_time.CopyFrom(self._now())
        self.records.put(job.name, job)

    def _found(self, name: str) -> Any:
        found = self.records.get(name)
        if found is None:
            raise missing("BatchPredictionJob", name)
        return found

    def _view(self, job: Any) -> Any:
        shown = type(job)()
        shown.CopyFrom(job)
        if shown.HasField("unmanaged_container_model"):
            # "Input only."
            shown.unmanaged_container_model.ClearField("container_spec")
        return shown

    def _now(self) -> timestamp_pb2.Timestamp:
        return self.registry.now()


class _Course:
    """The steps of a job on their way.

    Attributes:
        polls: How often somebody looked.
    """

    def __init__(self, world: World, steps: Steps) -> None:
        self.polls = 0
        self._world = world
        self._steps = steps
        self._first = True
        self._began = self._entered = time.monotonic()
        self._over = False
        self._wait = Wait()
        self._take(partial(next, steps))

    def advance(self) -> bool:
        """Take the steps whose time has come, and return whether that was all."""
        while not self._over:
            try:
                if not self._ready():
                    break
            except Refused as error:
                step = partial(self._steps.throw, error)
            else:
                step = partial(next, self._steps)
            self._first = False
            self._take(step)
        return self._over

    def close(self) -> None:
        self._steps.close()
        self._over = True

    def _ready(self) -> bool:
        now = time.monotonic()
        seen = not self._first or self.polls >= self._world.polls or now - self._began >= PATIENCE_S
        met = self._wait.until()
        return met and seen and now - self._entered >= self._wait.seconds * self._world.scale

    def _take(self, step: Callable[[], Wait]) -> None:
        try:
            self._wait = step()
        except StopIteration:
            self._over = True
        self._entered = time.monotonic()


_ENUM = protos.message("BatchPredictionJob").DESCRIPTOR.fields_by_name["state"].enum_type


def _state(job: Any) -> str:
    name: str = _ENUM.values_by_number[job.state].name
    return name.removeprefix("JOB_STATE_")


def _no_input(uri: str) -> Refused:
    return Refused("NOT_FOUND", f"No files found that match {uri}.")  # unquoted
