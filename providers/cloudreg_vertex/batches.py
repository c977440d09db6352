"""Data sets that are scored: batch prediction jobs.

Vertex AI names jobs by itself and keeps no order, so what a job is stands beside the artifacts::

    vertex/<location>/batch/<name>/job            what was asked for, once the input is there
    vertex/<location>/batch/<name>/input/1/…      the records, with their keys
    vertex/<location>/batch/<name>/output/1/…     what Vertex AI wrote
    vertex/<location>/batch/<name>/runs/1         the job's own name: only one can be first
    vertex/<location>/batch/<name>/stopped        somebody asked it to end
    vertex/<location>/batch/<name>/end            how it ended; this and ``job`` are left then

Instances are sent in batches, and what is sent together fails together. So there may be a second
run: records that got no prediction are asked again, each alone.

Each poll looks once; the one that finds a job done also fetches its output and writes the answers,
which takes as long as the data set is large. Nothing is remembered, so that whoever takes over goes
on.

Source: https://cloud.google.com/vertex-ai/docs/predictions/get-batch-predictions
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    Conflict,
    IntegrityError,
    InvalidRequest,
    NotFound,
    Unsupported,
)
from cloudreg.jobs import BatchSpec
from cloudreg.names import canonical_json
from cloudreg.objects.layout import lay_out
from cloudreg.provider import ObjectStore, Operation
from cloudreg.types import ModelVersion, OperationState, OperationStatus
from cloudreg_vertex import labels, models
from cloudreg_vertex.batching import requested
from cloudreg_vertex.gathering import Gathering
from cloudreg_vertex.hosting import Hosting
from cloudreg_vertex.lines import BARE, Line, Shape, lines
from cloudreg_vertex.logs import JobLogs

if TYPE_CHECKING:
    from cloudreg.capabilities import Capabilities
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings

NAME = "cloudreg-batch"
RUN = "cloudreg-run"
"""Labels of a job: whose it is, and which run."""

MAX_ALONE = 100_000
"""Records that are asked again, each alone; of more, the whole batches have failed."""

PAGE = 100
LAST_LINES = 20
_SEVERAL, _ALONE = 1, 2

_RUNNING = {
    "JOB_STATE_QUEUED": "queued",
    "JOB_STATE_PENDING": "starting machines",
    "JOB_STATE_CANCELLING": "stopping",
}
_OVER = {
    "JOB_STATE_SUCCEEDED",
    "JOB_STATE_PARTIALLY_SUCCEEDED",
    "JOB_STATE_FAILED",
    "JOB_STATE_CANCELLED",
    "JOB_STATE_EXPIRED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for.

    Attributes:
        spec: By the caller.
        request: The BatchPredictionJob, as far as all runs share it.
        version: Of the API.
        kind: Of the records' shape.
        width: Of the records' shape.
        objects: Keys of the input.
        records: How many are to be sent.
    """

    spec: BatchSpec
    request: Mapping[str, Any]
    version: str
    kind: str
    width: int
    objects: tuple[str, ...]
    records: int

    @property
    def shape(self) -> Shape:
        """How the records are dressed."""
        return Shape(kind=self.kind, width=self.width)


class VertexBatch:
    """The batch prediction jobs of one project and location, as far as cloudreg made them."""

    def __init__(
        self,
        services: Services,
        store: ObjectStore,
        settings: VertexSettings,
        capabilities: Capabilities,
        *,
        target: str,
    ) -> None:
        """Use the SDK's clients; nothing is sent."""
        self._services = services
        self._store = store
        self._settings = settings
        self._capabilities = capabilities
        self._target = target
        self._hosting = Hosting(services, version="v1")
        self._logs = JobLogs(services, settings, target=target)

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> Operation:
        if self._get(spec.name, "job") is None:
            models.check_environment(spec.env, target=self._target)
            most = self._capabilities.max_replicas
            if most is not None and spec.replicas > most:
                raise Unsupported(
                    f"batch {spec.name}: {spec.replicas} replicas, {most} at most",
                    target=self._target,
                    hint=f"--replicas {most}",
                )
            request, api = requested(
                spec, version, self._settings, self._hosting, target=self._target
            )
            lay_out(version, self._store, target=self._target)
            asked = self._prepared(spec, request, api)
            with suppress(AlreadyExists):
                self._put(spec.name, "job", msgspec.json.encode(asked))
        operation = Scoring(self, spec.name)
        operation.poll()
        return operation

    def find(self, name: str) -> Operation | None:
        return Scoring(self, name) if self._get(name, "job") is not None else None

    def stop(self, name: str) -> None:
        if self._get(name, "job") is None or self._get(name, "end") is not None:
            return
        self._store.put(b"", self._key(name, "stopped"))
        for run in (_SEVERAL, _ALONE):
            job = self._get(name, f"runs/{run}")
            if job is not None:
                self._cancel(job.decode(), name)

    def look(self, job: str, name: str) -> Any:
        """Return the ``BatchPredictionJob``."""
        return self._call("get_batch_prediction_job", {"name": job}, name)

    def step(self, name: str) -> tuple[str, OperationStatus]:
        """Do what can be done now.

        Returns:
            The name of the job that runs, if one does, and how everything stands.
        """
        ended = self._ended(name)
        if ended is not None:
            self._tidy(name)
            return "", ended
        try:
            return self._step(self._asked(name))
        except NotFound:
            # Whoever is done first removes what the others read.
            ended = self._ended(name)
            if ended is None:
                raise
            return "", ended

    def _step(self, asked: Asked) -> tuple[str, OperationStatus]:
        name = asked.spec.name
        stopped = self._get(name, "stopped") is not None
        run = _ALONE if self._get(name, "alone") is not None else _SEVERAL
        if not asked.records:
            return "", self._finish(asked, [], stopped=stopped)
        job = self._job(asked, run, begin=not stopped)
        if job is None:
            return "", self._end(name, OperationState.FAILED, "it was stopped")
        seen = self.look(job, name)
        state = seen.state.name
        if state not in _OVER:
            return job, running(state)
        stopped = stopped or state == "JOB_STATE_CANCELLED"
        if not stopped and not _is_scored(seen):
            return "", self._failed(asked, seen)
        if not stopped and run == _SEVERAL and self._ask_alone(asked):
            job = self._job(asked, _ALONE, begin=True)
            return job or "", running("JOB_STATE_QUEUED")
        return "", self._finish(asked, list(range(_SEVERAL, run + 1)), stopped=stopped)

    def _prepared(self, spec: BatchSpec, request: Mapping[str, Any], api: str) -> Asked:
        """Write the records with their keys, and return what was asked for."""
        objects = tuple(stored.key for stored in self._store.list(spec.input))
        if not objects:
            raise InvalidRequest(
                f"batch {spec.name}: no object is below {spec.input}", target=self._target
            )
        shape, records = self._surveyed(objects)
        for index, key in enumerate(objects):
            self._store.put(
                self._dressed(shape, key, index), self._input(spec.name, _SEVERAL, index)
            )
        return Asked(
            spec=spec,
            request={**request, "instance_config": shape.config()},
            version=api,
            kind=shape.kind,
            width=shape.width,
            objects=objects,
            records=records,
        )

    def _surveyed(self, objects: tuple[str, ...]) -> tuple[Shape, int]:
        """Return the shape that all records have, and how many there are."""
        shapes: set[Shape] = set()
        records = 0
        for index, key in enumerate(objects):
            for line in self._lines(key, index):
                shapes.add(Shape.of(line.instance))
                records += 1
        return shapes.pop() if len(shapes) == 1 else Shape(kind=BARE), records

    def _dressed(self, shape: Shape, key: str, index: int) -> Iterator[bytes]:
        for line in self._lines(key, index):
            yield shape.dressed(line.instance, line.key)

    def _lines(self, key: str, index: int) -> Iterator[Line]:
        """Yield the lines of an object that are records."""
        with closing(self._store.open(key)) as reader:
            yield from (line for line in lines(iter(reader), index) if not line.error)

    def _job(self, asked: Asked, run: int, *, begin: bool) -> str | None:
        """Return the name of a run's job, made where it is missing; None where it may not be."""
        name = asked.spec.name
        known = self._get(name, f"runs/{run}")
        if known is not None:
            return known.decode()
        # Of somebody who was killed before he could write it down.
        found = self._jobs(name, run)
        job = found[0].name if found else None
        if job is None:
            if not begin:
                return None
            job = str(self._create(asked, run).name)
        try:
            self._put(name, f"runs/{run}", job.encode())
        except AlreadyExists:
            first = (self._get(name, f"runs/{run}") or b"").decode()
            if first != job:
                self._cancel(job, name)
            return first
        return job

    def _create(self, asked: Asked, run: int) -> Any:
        name = asked.spec.name
        folder = self._settings.uri(self._key(name, f"input/{run}/"))
        job: dict[str, Any] = {
            **asked.request,
            "display_name": name,
            "labels": {labels.MODEL: asked.spec.model, NAME: name, RUN: str(run)},
            "input_config": {
                "instances_format": "jsonl",
                "gcs_source": {"uris": [f"{folder}*.jsonl"]},
            },
            "output_config": {
                "predictions_format": "jsonl",
                "gcs_destination": {
                    "output_uri_prefix": self._settings.uri(self._key(name, f"output/{run}/"))
                },
            },
        }
        if run == _ALONE:
            job["manual_batch_tuning_parameters"] = {"batch_size": 1}
        request = {"parent": self._services.parent, "batch_prediction_job": job}
        return self._call("create_batch_prediction_job", request, name, version=asked.version)

    def _jobs(self, name: str, run: int | None = None) -> list[Any]:
        """Return the jobs of a name, the oldest first."""
        wanted = f"labels.{NAME}={name}" + (f" AND labels.{RUN}={run}" if run else "")
        found = self._services.pages(
            "jobs",
            "list_batch_prediction_jobs",
            {"parent": self._services.parent, "filter": wanted, "page_size": PAGE},
            what=f"batch {name}",
        )
        return sorted(found, key=lambda job: (job.create_time, job.name))

    def _ask_alone(self, asked: Asked) -> bool:
        """Write down the records that got no prediction, if each is to be asked alone."""
        name = asked.spec.name
        with Gathering(self._store, asked.shape) as gathered:
            gathered.take(self._key(name, f"output/{_SEVERAL}/"))
            if self._get(name, "end") is not None:
                return False
            missing = 0
            for index, key in enumerate(asked.objects):
                left = [
                    asked.shape.dressed(line.instance, line.key)
                    for line in gathered.lines(key, index)
                    if not gathered.is_answered(line)
                ]
                missing += len(left)
                if missing > MAX_ALONE:
                    return False
                if left:
                    self._store.put(iter(left), self._input(name, _ALONE, index))
        if missing:
            self._store.put(b"", self._key(name, "alone"))
        return missing > 0

    def _finish(self, asked: Asked, runs: list[int], *, stopped: bool) -> OperationStatus:
        """Write the answers, and the end."""
        name = asked.spec.name
        if stopped:
            return self._end(name, OperationState.FAILED, "it was stopped")
        with Gathering(self._store, asked.shape) as gathered:
            for run in runs:
                # A batch's error is no record's, once each was asked alone.
                gathered.take(self._key(name, f"output/{run}/"), errors=run == runs[-1])
            # Somebody else who is done removes what was read here: then it may be half of it.
            ended = self._ended(name)
            if ended is not None:
                return ended
            for index, key in enumerate(asked.objects):
                rest = key.removeprefix(asked.spec.input)
                self._store.put(
                    gathered.told(key, index, why="Vertex AI gave no prediction, and no reason"),
                    f"{asked.spec.output}{rest}.out",
                )
        return self._end(name, OperationState.SUCCEEDED, "")

    def _failed(self, asked: Asked, seen: Any) -> OperationStatus:
        last: tuple[str, ...] = ()
        with suppress(CloudregError):  # the reason matters more than the last words
            last = tuple(self._logs.tail(seen.name.rpartition("/")[2], lines=LAST_LINES))
        reason = seen.error.message or f"it ended as {seen.state.name}"
        return self._end(asked.spec.name, OperationState.FAILED, reason, logs=last)

    def _end(
        self, name: str, state: OperationState, message: str, *, logs: tuple[str, ...] = ()
    ) -> OperationStatus:
        document = {"state": state.value, "message": message, "logs": logs}
        with suppress(AlreadyExists):
            self._put(name, "end", canonical_json(document))
        self._tidy(name)
        ended = self._ended(name)
        assert ended is not None
        return ended

    def _ended(self, name: str) -> OperationStatus | None:
        found = self._get(name, "end")
        if found is None:
            return None
        said = json.loads(found)
        state = OperationState(said["state"])
        return OperationStatus(
            state=state,
            message=said["message"],
            progress=1.0 if state is OperationState.SUCCEEDED else None,
            logs=tuple(said["logs"]),
        )

    def _tidy(self, name: str) -> None:
        """Remove what a job that is over does not need; what is left is found the next time."""
        with suppress(CloudregError):
            for prefix in ("input/", "output/", "alone", "stopped"):
                for stored in list(self._store.list(self._key(name, prefix))):
                    self._store.delete(stored.key)
            for run in (_SEVERAL, _ALONE):
                mine = self._get(name, f"runs/{run}")
                if mine is None:
                    continue
                # Of those who began it at once, or were killed before they could know.
                others = [job for job in self._jobs(name, run) if job.name != mine.decode()]
                for job in others:
                    self._cancel(job.name, name)
                    with suppress(NotFound, Conflict):
                        self._call("delete_batch_prediction_job", {"name": job.name}, name)
                if not others:
                    self._store.delete(self._key(name, f"runs/{run}"))

    def _cancel(self, job: str, name: str) -> None:
        # A job that is over, or gone, is stopped.
        with suppress(NotFound, Conflict, InvalidRequest):
            self._call("cancel_batch_prediction_job", {"name": job}, name)

    def _asked(self, name: str) -> Asked:
        found = self._get(name, "job")
        try:
            return msgspec.json.decode(found or b"", type=Asked)
        except (msgspec.DecodeError, CloudregError) as error:
            key = self._key(name, "job")
            raise IntegrityError(f"{key} is no job: {error}", target=self._target) from error

    def _call(self, method: str, request: Mapping[str, Any], name: str, **more: Any) -> Any:
        return self._services.call("jobs", method, request, what=f"batch {name}", **more)

    def _input(self, name: str, run: int, index: int) -> str:
        return self._key(name, f"input/{run}/{index:05}.jsonl")

    def _key(self, name: str, rest: str) -> str:
        return f"vertex/{self._settings.location}/batch/{name}/{rest}"

    def _put(self, name: str, rest: str, data: bytes) -> None:
        self._store.put(data, self._key(name, rest), if_absent=True)

    def _get(self, name: str, rest: str) -> bytes | None:
        try:
            with closing(self._store.open(self._key(name, rest))) as reader:
                return reader.read()
        except NotFound:
            return None


class Scoring:
    """A job, watched."""

    def __init__(self, backend: VertexBatch, name: str) -> None:
        """Remember which job it is."""
        self._backend = backend
        self._name = name
        self._job = ""
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"batch {self._name}"

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        if self._job:
            state = self._backend.look(self._job, self._name).state.name
            if state not in _OVER:
                return running(state)
        self._job, status = self._backend.step(self._name)
        if status.state is not OperationState.RUNNING:
            self._done = status
        return status


def running(state: str) -> OperationStatus:
    """Return how a job in one of Vertex AI's states stands."""
    return OperationStatus(state=OperationState.RUNNING, message=_RUNNING.get(state, "scoring"))


def _is_scored(seen: Any) -> bool:
    """Whether the model was asked: a job with too many bad records may end as a failure."""
    return (
        seen.state.name in ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED")
        or seen.completion_stats.failed_count > 0
    )
