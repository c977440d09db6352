"""One inference component: what it runs, how many copies, and how it is described."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudreg_emulator.aws.sagemaker.course import Course
from cloudreg_emulator.aws.sagemaker.place import now, without_empty
from cloudreg_emulator.fleet import Group

__all__ = ["Component"]


class Component:
    """An inference component with its copies.

    Attributes:
        name: Its name.
        arn: Its ARN.
        endpoint: The endpoint's name.
        endpoint_arn: The endpoint's ARN.
        variant: The production variant that hosts it.
        specification: ``Specification``, as it was asked for.
        copies: How many copies there should be.
        group: The copies; None before they are started.
        status: ``InferenceComponentStatus``.
        failure: ``FailureReason``.
        deployment: ``LastDeploymentConfig``.
        gone: Whether it is deleted.
        course: What is being done to it.
    """

    def __init__(
        self, request: Mapping[str, Any], *, arn: str, endpoint_arn: str, variant: str, copies: int
    ) -> None:
        """Begin as being created."""
        self.name = str(request["InferenceComponentName"])
        self.arn = arn
        self.endpoint = str(request["EndpointName"])
        self.endpoint_arn = endpoint_arn
        self.variant = variant
        self.specification: Mapping[str, Any] = request["Specification"]
        self.copies = copies
        self.group: Group | None = None
        self.status = "Creating"
        self.failure: str | None = None
        self.deployment: Mapping[str, Any] | None = None
        self.created: datetime = now()
        self.modified = self.created
        self.gone = False
        self.course: Course | None = None

    @property
    def devices(self) -> float:
        """Accelerators that one copy needs."""
        needs = self.specification.get("ComputeResourceRequirements") or {}
        return float(needs.get("NumberOfAcceleratorDevicesRequired") or 0)

    def become(self, status: str) -> None:
        """Change the status."""
        self.status = status
        self.modified = now()

    def advance(self, *, described: bool = False) -> None:
        """Take the steps whose time has come."""
        if self.course is not None:
            self.course.advance(described=described)
            if self.course.done:
                self.course = None

    def summary(self) -> dict[str, Any]:
        """Return it as ListInferenceComponents shows it."""
        return {
            "InferenceComponentName": self.name,
            "InferenceComponentArn": self.arn,
            "EndpointName": self.endpoint,
            "EndpointArn": self.endpoint_arn,
            "VariantName": self.variant,
            "InferenceComponentStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }

    def describe(self) -> dict[str, Any]:
        """Return it as DescribeInferenceComponent shows it."""
        specification = dict(self.specification)
        container = specification.pop("Container", None)
        if container:
            shown = {k: v for k, v in container.items() if k != "Image"}
            specification["Container"] = {
                **shown,
                "DeployedImage": {"SpecifiedImage": container.get("Image")},
            }
        return without_empty(
            {
                **self.summary(),
                "FailureReason": self.failure,
                "Specification": specification,
                "LastDeploymentConfig": self.deployment,
                "RuntimeConfig": {
                    "DesiredCopyCount": self.copies,
                    "CurrentCopyCount": self.group.ready if self.group else 0,
                },
            }
        )
