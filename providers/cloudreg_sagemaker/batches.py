"""Data sets that are scored: batch transform jobs.

A transform job takes a model whose files are one ``.tar.gz``, and none below a prefix: it is made
once for each version, inside this process but a block at a time. The model is the job's own and
goes when the job is over; the job itself stays in SageMaker's list, where nothing removes it.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform.html
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudreg.errors import (
    AlreadyExists,
    CloudregError,
    ConfigError,
    Conflict,
    InvalidRequest,
    NotFound,
    Unsupported,
)
from cloudreg.jobs import BatchSpec
from cloudreg.objects.packing import archive_key, pack
from cloudreg.provider import LINES, ObjectStore, Operation
from cloudreg.types import ModelVersion, OperationState, OperationStatus
from cloudreg_sagemaker import checks, images, packages
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.logs import JobLogs
from cloudreg_sagemaker.machines import machine_for
from cloudreg_sagemaker.requests import NEEDED, check_environment

if TYPE_CHECKING:
    from cloudreg.capabilities import Capabilities
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.settings import SageMakerSettings

PAYLOAD_MB = 6
"""MaxPayloadInMB; SageMaker fills each request with as many lines as fit."""

CONCURRENT = 4
"""Requests in flight for each instance, so that its model server is never idle.

The service model of CreateTransformJob: this times the payload cannot exceed 100 MB.
"""

TIMEOUT_S = 3600
RETRIES = 3
"""Of ModelClientConfig, in botocore's service model: the most of each."""

MAX_REPLICAS = 100
"""InstanceCount of TransformResources in the service model: "the maximum is 100"."""

LAST_LINES = 20

_STATES = {
    "InProgress": OperationState.RUNNING,
    "Stopping": OperationState.RUNNING,
    "Completed": OperationState.SUCCEEDED,
    "Failed": OperationState.FAILED,
    "Stopped": OperationState.FAILED,
}


class SageMakerBatch:
    """The batch transform jobs of one account and region, as far as cloudreg made them."""

    def __init__(
        self,
        clients: Clients,
        store: ObjectStore,
        settings: SageMakerSettings,
        capabilities: Capabilities,
        *,
        target: str,
    ) -> None:
        """Use boto3's clients; nothing is sent."""
        self._clients = clients
        self._store = store
        self._settings = settings
        self._capabilities = capabilities
        self._target = target

    def start(self, spec: BatchSpec, *, version: ModelVersion) -> Operation:
        model, job = self._requests(spec, version)
        checks.check_request("sagemaker", "CreateModel", model)
        checks.check_request("sagemaker", "CreateTransformJob", job)
        pack(version, self._store, target=self._target)
        with suppress(AlreadyExists), self._translated(spec.name):
            self._client.create_model(**model)
        with suppress(AlreadyExists, Conflict), self._translated(spec.name):
            self._client.create_transform_job(**job)
        return Transform(self, spec.name)

    def find(self, name: str) -> Operation | None:
        return Transform(self, name) if self.look(name) is not None else None

    def stop(self, name: str) -> None:
        # A job that is over, or that nobody made, is stopped.
        with suppress(NotFound, Conflict, InvalidRequest), self._translated(name):
            self._client.stop_transform_job(TransformJobName=name)

    def look(self, name: str) -> Mapping[str, Any] | None:
        """Return DescribeTransformJob; None where there is none."""
        try:
            with self._translated(name):
                found: Mapping[str, Any] = self._client.describe_transform_job(
                    TransformJobName=name
                )
                return found
        except NotFound:
            return None

    def tidy(self, seen: Mapping[str, Any]) -> None:
        """Remove the model of a job that is over; absent is fine."""
        with suppress(NotFound), self._translated(seen["TransformJobName"]):
            self._client.delete_model(ModelName=seen["ModelName"])

    def last_words(self, seen: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the last log lines of a job."""
        with suppress(CloudregError):  # the reason matters more than the last words
            logs = JobLogs(self._clients["logs"], target=self._target)
            return tuple(logs.tail(seen["TransformJobName"], lines=LAST_LINES))
        return ()

    def _requests(
        self, spec: BatchSpec, version: ModelVersion
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return CreateModel and CreateTransformJob."""
        settings = self._settings
        check_environment(spec.env, target=self._target)
        image = images.image_for(version, settings, resources=spec.resources, target=self._target)
        for name, value in (("role", settings.role), ("image", image)):
            if value is None:
                raise ConfigError(
                    f"batch {spec.name}: the target's section names no {name}",
                    target=self._target,
                    hint=NEEDED[name],
                )
        tags = [
            {"Key": packages.TAG, "Value": spec.name},
            {"Key": f"{packages.TAG}:model", "Value": spec.model},
        ]
        own = packages.environment(spec.model, spec.number, spec.digest)
        model: dict[str, Any] = {
            "ModelName": spec.name,
            "PrimaryContainer": {
                "Image": image,
                "ModelDataUrl": settings.uri(archive_key(spec.digest)),
                "Environment": {**spec.env, **own},
            },
            "ExecutionRoleArn": settings.role,
            "EnableNetworkIsolation": settings.network_isolation,
            "Tags": tags,
        }
        if settings.vpc is not None:
            model["VpcConfig"] = {
                "Subnets": list(settings.vpc.subnets),
                "SecurityGroupIds": list(settings.vpc.security_groups),
            }
        output: dict[str, Any] = {
            "S3OutputPath": settings.uri(spec.output).rstrip("/"),
            "Accept": LINES,
            "AssembleWith": "Line",
        }
        resources: dict[str, Any] = {
            "InstanceType": self._machine(spec),
            "InstanceCount": spec.replicas,
        }
        if settings.kms_key is not None:
            output["KmsKeyId"] = settings.kms_key
        job: dict[str, Any] = {
            "TransformJobName": spec.name,
            "ModelName": spec.name,
            "BatchStrategy": "MultiRecord",
            "MaxPayloadInMB": PAYLOAD_MB,
            "MaxConcurrentTransforms": CONCURRENT,
            "ModelClientConfig": {
                "InvocationsTimeoutInSeconds": TIMEOUT_S,
                "InvocationsMaxRetries": RETRIES,
            },
            "TransformInput": {
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": settings.uri(spec.input),
                    }
                },
                "ContentType": LINES,
                "SplitType": "Line",
            },
            "TransformOutput": output,
            "TransformResources": resources,
            "Tags": tags,
        }
        return model, job

    def _machine(self, spec: BatchSpec) -> str:
        """Return the instance type: transform jobs have fewer than endpoints."""
        if spec.replicas > MAX_REPLICAS:
            raise Unsupported(
                f"batch {spec.name}: {spec.replicas} replicas, {MAX_REPLICAS} at most",
                target=self._target,
                hint=f"--replicas {MAX_REPLICAS}",
            )
        name = machine_for(spec.resources, self._settings.machines, target=self._target)
        known = checks.values_of("TransformInstanceType")
        if name not in known:
            raise Unsupported(
                f"batch {spec.name}: SageMaker has no transform jobs on {name}",
                target=self._target,
                hint="--gpu L4 is a class that it has them on",
            )
        return name

    @property
    def _client(self) -> Any:
        return self._clients["sagemaker"]

    def _translated(self, name: str) -> Any:
        return translated(f"batch {name}", target=self._target)


class Transform:
    """A job, watched."""

    def __init__(self, backend: SageMakerBatch, name: str) -> None:
        """Remember which job it is."""
        self._backend = backend
        self._job = name
        self._done: OperationStatus | None = None

    @property
    def name(self) -> str:
        return f"batch {self._job}"

    def poll(self) -> OperationStatus:
        if self._done is not None:
            return self._done
        seen = self._backend.look(self._job)
        if seen is None:
            # DescribeTransformJob is as eventually consistent as its siblings.
            return OperationStatus(state=OperationState.RUNNING, message="not shown yet")
        status = seen["TransformJobStatus"]
        state = _STATES.get(status, OperationState.RUNNING)
        if state is OperationState.RUNNING:
            words = "stopping" if status == "Stopping" else "scoring"
            return OperationStatus(state=state, message=words)
        with suppress(CloudregError):  # what is left costs nothing
            self._backend.tidy(seen)
        failed = state is OperationState.FAILED
        reason = str(seen.get("FailureReason", "")) or ("it was stopped" if failed else "")
        self._done = OperationStatus(
            state=state,
            message=reason,
            progress=None if failed else 1.0,
            logs=self._backend.last_words(seen) if failed else (),
        )
        return self._done
