"""What a target's section may say beside ``provider = "vertex"``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from cloudreg.errors import InvalidRequest

CPU = "cpu"
"""The key of ``machines`` for replicas without a GPU."""

# https://cloud.google.com/resource-manager/docs/creating-managing-projects
Project = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
Location = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z]+\d+$")]
# https://cloud.google.com/storage/docs/buckets#naming
Bucket = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")]
KmsKey = Annotated[
    str,
    StringConstraints(pattern=r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$"),
]
Image = Annotated[str, StringConstraints(pattern=r"^[^\s]{1,512}$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+@[a-z0-9.-]+$")]
Reservation = Annotated[
    str,
    StringConstraints(pattern=r"^projects/[^/]+/zones/[^/]+/reservations/[^/]+$"),
]
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
Role = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$")
]
Address = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/?$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestLogSettings(_Section):
    """Requests and answers that Vertex AI keeps in BigQuery.

    Attributes:
        table: ``bq://project.dataset.table``, or a data set in which the table is made.
        sample_percent: How many of a hundred.
    """

    table: str = Field(pattern=r"^bq://[^\s.]+\.[^\s.]+(\.[^\s.]+)?$")
    sample_percent: float = Field(default=100.0, gt=0, le=100)


class VertexSettings(_Section):
    """A Vertex AI target. Credentials come from Google's own chain, never from here.

    Attributes:
        project: The project's id.
        location: Region of everything, the bucket's too.
        bucket: Where artifacts, and a home's ledger, are kept; it exists, and is never derived.
        prefix: Keys start with it and a slash; empty for none.
        project_number: Whose project's bucket it must be; without it, that of ``project``.
        kms_key: Encrypts objects, models and endpoints.
        service_account: Of the model servers; without it, the project's own.
        image: Container image of versions that name none of their own.
        dedicated: Whether an endpoint has an address of its own: 10 MB a request instead of 1.5,
            and longer answers.
        private_service_connect: Projects that may reach the endpoints privately; they have no
            public address then.
        request_log: What is kept of requests and answers; without it, nothing.
        deployment_timeout_s: Until Vertex AI gives a deployment up.
        health_check_timeout_s: Until a container must answer its health check.
        inference_timeout_s: Patience of a dedicated endpoint with an answer.
        machines: GPU class with count (``L4``, ``T4:4``, ``cpu``) to machine type, where the
            default does not fit.
        machine_check: Whether combinations of machine and GPU that are not known are refused;
            false leaves that to Google.
        spot: Whether machines may be taken back at any time, and cost less.
        reservation: A reservation whose machines are used.
        preview: Whether v1beta1 of the API may be used, for what v1 lacks: scale to zero.
        transport: How the SDK speaks with Vertex AI.
        native: Whose objects ``native()`` returns: the API's messages, or ``aiplatform.Model`` and
            ``aiplatform.Endpoint`` of the high-level SDK, which takes seconds to import.
        endpoint_url: Where Vertex AI answers, for emulators; ``VERTEX_EMULATOR_HOST`` says so too.
        transfer_role: ARN of the role of AWS's by which Storage Transfer Service reads buckets of
            S3, for what is above ``transfer_above``; it trusts the service's account.
        storage_url: Where Cloud Storage answers, for emulators; ``STORAGE_EMULATOR_HOST`` says
            so too.
        grpc_address: Where it answers gRPC without TLS, for emulators;
            ``VERTEX_EMULATOR_GRPC_HOST`` says so too.
    """

    project: Project
    location: Location
    bucket: Bucket
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$")
    project_number: int | None = Field(default=None, ge=1)
    kms_key: KmsKey | None = None
    service_account: Account | None = None
    image: Image | None = None
    dedicated: bool = True
    private_service_connect: tuple[Project, ...] = ()
    request_log: RequestLogSettings | None = None
    # https://cloud.google.com/vertex-ai/docs/reference/rest/v1/ModelContainerSpec: two hours
    deployment_timeout_s: int = Field(default=1800, ge=60, le=7200)
    health_check_timeout_s: int = Field(default=600, ge=10, le=7200)
    inference_timeout_s: int = Field(default=600, ge=1, le=3600)
    machines: Mapping[str, str] = Field(default_factory=dict)
    machine_check: bool = True
    spot: bool = False
    reservation: Reservation | None = None
    preview: bool = False
    transport: Literal["rest", "grpc"] = "rest"
    native: Literal["message", "sdk"] = "message"
    endpoint_url: Address | None = None
    transfer_role: Role | None = None
    storage_url: Address | None = None
    grpc_address: Address | None = None

    @property
    def is_emulated(self) -> bool:
        """Whether Vertex AI is not Google's: no credentials are looked for then."""
        return self.address is not None

    @property
    def address(self) -> str | None:
        """Where Vertex AI answers, if not at Google: the setting, or ``VERTEX_EMULATOR_HOST``."""
        found = self.endpoint_url or os.environ.get("VERTEX_EMULATOR_HOST")
        return found.rstrip("/") if found else None

    @property
    def grpc(self) -> str | None:
        """Where it answers gRPC without TLS, if anywhere: host and port."""
        found = self.grpc_address or os.environ.get("VERTEX_EMULATOR_GRPC_HOST")
        return found.removeprefix("http://").rstrip("/") if found else None

    def uri(self, key: str) -> str:
        """Return the ``gs://`` address of a key of the store."""
        return (
            f"gs://{self.bucket}/{self.prefix}/{key}"
            if self.prefix
            else f"gs://{self.bucket}/{key}"
        )

    @field_validator("prefix", "machines")
    @classmethod
    def _check_parts(cls, value: object) -> object:
        for problem in _problems(value):
            raise ValueError(problem)
        return value


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
