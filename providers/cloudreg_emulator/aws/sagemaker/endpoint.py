"""One endpoint: what it serves, what is being done to it, and how it is described."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudreg_emulator.aws.sagemaker.course import Course, Steps, begun
from cloudreg_emulator.aws.sagemaker.generation import Generation
from cloudreg_emulator.aws.sagemaker.place import now, without_empty
from cloudreg_emulator.aws.sagemaker.routes import Route

__all__ = ["Endpoint"]

_FROM_CONFIG = (
    "AsyncInferenceConfig",
    "ExplainerConfig",
    "MetricsConfig",
    "CrossRegionTrafficConfig",
)


class Endpoint:
    """An endpoint.

    Attributes:
        name: Its name.
        arn: Its ARN.
        config_name: The endpoint configuration that it serves, or tries to.
        status: ``EndpointStatus``.
        failure: ``FailureReason``; may be absent after a rollback, as on AWS.
        capture: The DataCaptureConfig in force.
        deployment: ``LastDeploymentConfig``.
        blue: What serves.
        green: What shall serve.
        pending: The configuration of ``green``.
        share: Of the traffic on ``green``.
        stage: ``VariantStatus`` of ``green``.
        gone: Whether it is deleted.
    """

    def __init__(self, *, name: str, arn: str, config_name: str) -> None:
        """Begin as being created."""
        self.name = name
        self.arn = arn
        self.config_name = config_name
        self.created: datetime = now()
        self.modified = self.created
        self.status = "Creating"
        self.failure: str | None = None
        self.capture: Mapping[str, Any] | None = None
        self.deployment: Mapping[str, Any] | None = None
        self.blue: Generation | None = None
        self.green: Generation | None = None
        self.pending: Mapping[str, Any] | None = None
        self.pending_since: datetime = self.created
        self.share = 0.0
        self.stage = "Creating"
        self.gone = False
        self._course: Course | None = None

    def begin(self, operation: str, steps: Steps, status: str) -> None:
        """Let something be done that takes time."""
        self.become(status)
        self._course = begun(operation, steps)
        self.advance()

    def become(self, status: str) -> None:
        """Change the status."""
        self.status = status
        self.modified = now()

    def advance(self, *, described: bool = False) -> None:
        """Take the steps whose time has come."""
        if self._course is not None:
            self._course.advance(described=described)
            if self._course.done:
                self._course = None

    def see(self) -> None:
        """Count that a describe showed the present state."""
        if self._course is not None:
            self._course.see()

    def prepare(self, green: Generation) -> None:
        """Take the generation that shall serve."""
        if self.green is not None:
            # Left over from an update whose rollback failed.
            self.green.stop()
        self.green = green
        self.pending = green.config
        self.pending_since = now()
        self.share = 0.0
        self.stage = "Creating"

    def forget(self) -> None:
        """Drop the generation that should have served, or serves now."""
        self.green = self.pending = None
        self.share = 0.0

    def stop(self) -> None:
        """End every instance, in the background."""
        for generation in (self.blue, self.green):
            if generation is not None:
                generation.stop()

    @property
    def is_serving(self) -> bool:
        """Whether requests are answered."""
        return self.blue is not None and self.status not in ("Creating", "Deleting", "Failed")

    def routes(self) -> list[Route]:
        """Return where requests go now, shadows included; nowhere where it does not serve."""
        if not self.is_serving:
            return []
        found: list[Route] = []
        for generation, share in ((self.blue, 1.0 - self.share), (self.green, self.share)):
            if generation is None or share <= 0:
                continue
            total = sum(one.weight for one in generation.production)
            for one in generation.servings:
                if one.group is None:
                    continue
                found.append(
                    Route(
                        variant=one.name,
                        weight=share * one.weight / total if total and not one.shadow else 0.0,
                        group=one.group,
                        model_name=one.config.get("ModelName"),
                        config=one.config,
                        shadow=one.shadow,
                    )
                )
        return found

    def summary(self) -> dict[str, Any]:
        """Return it as ListEndpoints shows it."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "EndpointStatus": self.status,
        }

    def describe(self) -> dict[str, Any]:
        """Return it as DescribeEndpoint shows it."""
        body = {
            **self.summary(),
            "EndpointConfigName": self.config_name,
            "FailureReason": self.failure,
            "DataCaptureConfig": _capture(self.capture),
            "LastDeploymentConfig": self.deployment,
        }
        if self.blue is not None and self.status not in ("Creating", "Failed"):
            body |= {key: self.blue.config.get(key) for key in _FROM_CONFIG}
            body["ProductionVariants"] = self.blue.summaries()
            body["ShadowProductionVariants"] = self.blue.summaries(shadow=True) or None
        if self.green is not None and self.pending is not None and self.blue is not None:
            body["PendingDeploymentSummary"] = without_empty(
                {
                    "EndpointConfigName": self.pending["EndpointConfigName"],
                    "StartTime": self.pending_since,
                    "ProductionVariants": self.green.summaries(status=self.stage),
                    "ShadowProductionVariants": self.green.summaries(shadow=True) or None,
                }
            )
        return without_empty(body)


def _capture(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    enabled = config.get("EnableCapture", False)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
