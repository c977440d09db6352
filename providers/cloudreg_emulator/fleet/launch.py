"""What a container is started with, and what comes back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cloudreg_emulator.fleet.contract import SAGEMAKER, Contract


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One variant's container.

    Attributes:
        endpoint: The endpoint's name.
        variant: The variant's name.
        image: The image's URI; the fleet maps it to a command.
        environment: What the user put into the container's environment.
        bucket: Of the model data; None where the container brings its own.
        key: Of the model data: one object, or the prefix of many.
        kind: Which of the two.
        compressed: Whether the one object is a tar.gz that is unpacked.
        instance_type: What the user pays for.
        startup_timeout_s: Emulated seconds from the start to the first good health check.
        download_timeout_s: Emulated seconds for the model data.
        account: Whose endpoint it is; logs go there.
        region: Where it is.
        contract: How the cloud starts it, and what it asks of it.
        job: Whether it is a batch job's and no endpoint's.
        component: The inference component that brings it; empty where the variant does.
    """

    endpoint: str
    variant: str
    image: str
    environment: Mapping[str, str]
    bucket: str | None
    key: str | None
    kind: Literal["prefix", "object"]
    compressed: bool
    instance_type: str
    startup_timeout_s: float
    download_timeout_s: float
    account: str = "123456789012"
    region: str = "us-east-1"
    contract: Contract = SAGEMAKER
    job: bool = False
    component: str = ""

    @property
    def uri(self) -> str:
        """Return where the model data lies."""
        return f"s3://{self.bucket}/{self.key or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a container answered.

    Attributes:
        status: Of HTTP.
        headers: With names in lower case.
        body: All of it.
        latency_s: From the first byte sent to the last one received.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_s: float


class FleetError(Exception):
    """No answer came."""


class NoInstance(FleetError):
    """No instance of the group is ready."""


class TimedOut(FleetError):
    """The container did not answer in time."""


class Broken(FleetError):
    """The connection ended before the answer did."""
