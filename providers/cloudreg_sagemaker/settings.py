"""What a target's section may say beside ``provider = "sagemaker"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from cloudreg.errors import ConfigError, InvalidRequest
from cloudreg.names import check_stage
from cloudreg_sagemaker import checks, images

STAGE_NAMES = {"dev": "Development", "staging": "PreProduction", "prod": "Production"}
"""Stage to what ``ModelLifeCycle.Stage`` shows; AWS's own words.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-staging-construct.html
"""

UNSTAGED = "Proposal"
RETIRED = "Archived"

CPU = "cpu"
"""The key of ``machines`` for replicas without a GPU."""

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d$")]
Account = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
Bucket = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


def _as(shape: str) -> AfterValidator:
    """Check a value as SageMaker will check the field of that shape."""

    def check(value: str) -> str:
        try:
            return checks.check_value(shape, value)
        except InvalidRequest as error:
            raise ValueError(error.message) from error

    return AfterValidator(check)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VpcSettings(_Section):
    """Where model servers have their network interfaces.

    Attributes:
        subnets: At least one; two zones survive the loss of one.
        security_groups: At least one.
    """

    subnets: tuple[Annotated[str, _as("SubnetId")], ...] = Field(min_length=1, max_length=16)
    security_groups: tuple[Annotated[str, _as("SecurityGroupId")], ...] = Field(
        min_length=1, max_length=5
    )


class CaptureSettings(_Section):
    """Requests and answers that SageMaker keeps in the bucket.

    Attributes:
        sample_percent: How many of a hundred.
        prefix: Where, below the target's own prefix.
    """

    sample_percent: int = Field(ge=0, le=100)
    prefix: str = Field(default="capture", pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")


class DeploymentSettings(_Section):
    """How SageMaker replaces instances where one variant keeps its name.

    Other changes, such as a second variant that comes or goes, are always all at once: SageMaker
    accepts nothing else there.

    Attributes:
        strategy: ``rolling`` needs little spare capacity; ``all_at_once``, ``canary`` and
            ``linear`` are blue/green and need twice the instances for a while. ``auto`` is
            rolling for GPU variants of several replicas, which are scarce, else all at once.
        step_percent: Of the capacity: the canary's size (50 at most), a linear step (10 to 50)
            or a rolling batch (5 to 50).
        wait_s: Seconds between two steps.
        termination_wait_s: Seconds that the old instances of a blue/green change stay.
        max_s: Seconds after which SageMaker gives up.
        alarms: CloudWatch alarms that undo a change; they must exist and not be in ALARM.
    """

    strategy: Literal["auto", "all_at_once", "canary", "linear", "rolling"] = "auto"
    step_percent: int | None = Field(default=None, ge=1, le=50)
    wait_s: int = Field(default=60, ge=0, le=3600)
    termination_wait_s: int = Field(default=0, ge=0, le=3600)
    max_s: int | None = Field(default=None, ge=600, le=28800)
    alarms: tuple[Annotated[str, _as("AlarmName")], ...] = Field(default=(), max_length=10)

    @model_validator(mode="after")
    def _check_step(self) -> DeploymentSettings:
        # Not in the service model: the documentation of CapacitySize says it.
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_TrafficRoutingConfig.html
        least = {"linear": 10, "rolling": 5, "auto": 5}.get(self.strategy, 1)
        if self.step_percent is not None:
            if self.strategy == "all_at_once":
                raise ValueError("step_percent: all_at_once has no steps")
            if self.step_percent < least:
                raise ValueError(
                    f"step_percent: {self.step_percent} is not {least} to 50 "
                    f'with strategy = "{self.strategy}"'
                )
        if self.strategy == "rolling" and self.termination_wait_s:
            raise ValueError("termination_wait_s: a rolling change has no second fleet that waits")
        return self


class SageMakerSettings(_Section):
    """A SageMaker target. Credentials come from AWS's own chain, never from here.

    Attributes:
        region: Of everything.
        bucket: Where artifacts, and a home's ledger, are kept; it exists, and is never derived.
        prefix: Keys start with it and a slash; empty for none.
        account: Whose account it must be; without it, that of the credentials.
        kms_key: Encrypts objects, package groups' data and instances' volumes.
        role: ARN of the role that model servers get; endpoints need it.
        image: Container image of versions that name none of their own; ``aws:pytorch:2.6.0`` is
            one of AWS's.
        vpc: Network interfaces of the model servers.
        network_isolation: Whether containers have no network at all.
        health_check_timeout_s: Until a container must answer its health check.
        download_timeout_s: Until the model's files must be on the instance.
        inference_ami: GPU driver of the instances; without it, what the image's CUDA needs.
        data_capture: What is kept of requests and answers; without it, nothing.
        deployment: How instances are replaced.
        machines: GPU class with count (``L4``, ``T4:4``, ``cpu``) to instance type, where the
            default does not fit.
        stage_names: Stage to what ``ModelLifeCycle.Stage`` shows; in the order of the stages.
        native: Whose objects ``native()`` returns: ``boto3``'s answers, or the resources of the
            SageMaker SDK, which takes seconds to import.
        endpoint_url: Where all AWS services answer, for emulators.
    """

    region: Region
    bucket: Bucket
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$")
    account: Account | None = None
    kms_key: Annotated[str, _as("KmsKeyId")] | None = Field(default=None, min_length=1)
    role: Annotated[str, _as("RoleArn")] | None = None
    image: Annotated[str, _as("ContainerImage")] | None = Field(default=None, min_length=1)
    vpc: VpcSettings | None = None
    network_isolation: bool = False
    health_check_timeout_s: int = Field(default=600, ge=60, le=3600)
    download_timeout_s: int = Field(default=1200, ge=60, le=3600)
    inference_ami: Annotated[str, _as("ProductionVariantInferenceAmiVersion")] | None = None
    data_capture: CaptureSettings | None = None
    deployment: DeploymentSettings = DeploymentSettings()
    machines: Mapping[str, Annotated[str, _as("ProductionVariantInstanceType")]] = Field(
        default_factory=dict
    )
    stage_names: Mapping[str, Annotated[str, _as("EntityName")]] = Field(
        default_factory=lambda: dict(STAGE_NAMES)
    )
    native: Literal["boto3", "sdk"] = "boto3"
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/?$")

    def uri(self, key: str) -> str:
        """Return the ``s3://`` address of a key of the store."""
        return (
            f"s3://{self.bucket}/{self.prefix}/{key}"
            if self.prefix
            else f"s3://{self.bucket}/{key}"
        )

    @model_validator(mode="after")
    def _check_account(self) -> SageMakerSettings:
        # A role is passed within its account only: what Terraform or a file says of it may be old.
        of_role = (self.role or "").split(":")[4:5]
        if self.account is not None and of_role and of_role != [self.account]:
            raise ValueError(f"role: it is of account {of_role[0]}, the target is {self.account}")
        return self

    @model_validator(mode="after")
    def _check_image(self) -> SageMakerSettings:
        if self.image is not None and self.image.startswith(images.SCHEME):
            try:
                images.resolve(self.image, region=self.region)
            except ConfigError as error:
                raise ValueError(f"{error.message} ({error.hint})") from error
        return self

    @field_validator("native")
    @classmethod
    def _check_native(cls, value: str) -> str:
        if value == "sdk" and images.folder() is None:
            raise ValueError(f"native: the SageMaker SDK is not installed ({images.EXTRA})")
        return value

    @field_validator("prefix", "machines")
    @classmethod
    def _check_parts(cls, value: object) -> object:
        for problem in _problems(value):
            raise ValueError(problem)
        return value

    @field_validator("stage_names")
    @classmethod
    def _check_stages(cls, names: Mapping[str, str]) -> Mapping[str, str]:
        for stage in names:
            try:
                check_stage(stage)
            except InvalidRequest as error:
                raise ValueError(error.message) from error
        shown = list(names.values())
        taken = {name for name in shown if shown.count(name) > 1 or name in (UNSTAGED, RETIRED)}
        if taken:
            raise ValueError(
                f"{', '.join(sorted(taken))}: each stage needs a name of its own, and "
                f"{UNSTAGED} and {RETIRED} are for versions without a stage"
            )
        return names


def _problems(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if any(part in (".", "..") for part in value.split("/")):
            yield "a prefix has no . and .. parts"
    elif isinstance(value, Mapping):
        from cloudreg.types import Resources

        for key in value:
            if key == CPU:
                continue
            try:
                Resources.parse(key)
            except InvalidRequest as error:
                yield error.message
