"""Every call that cloudreg makes beside S3, as the actions that an IAM policy has to allow.

The tests record what the provider really sends and compare it with this list: no call that is
missing here, and nothing here that is never called.
"""

from __future__ import annotations

ACTIONS = frozenset(
    {
        # the registry
        "sagemaker:CreateModelPackage",
        "sagemaker:CreateModelPackageGroup",
        "sagemaker:DeleteModelPackage",
        "sagemaker:DescribeModelPackage",
        "sagemaker:DescribeModelPackageGroup",
        "sagemaker:ListModelPackages",
        "sagemaker:UpdateModelPackage",
        # endpoints
        "sagemaker:CreateEndpoint",
        "sagemaker:CreateEndpointConfig",
        "sagemaker:CreateModel",
        "sagemaker:DeleteEndpoint",
        "sagemaker:DeleteEndpointConfig",
        "sagemaker:DeleteModel",
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:DescribeModel",
        "sagemaker:InvokeEndpoint",
        "sagemaker:ListTags",
        "sagemaker:UpdateEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        # how many instances there are
        "application-autoscaling:DeregisterScalableTarget",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:RegisterScalableTarget",
        # what is seen of them
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "logs:DescribeLogStreams",
        "logs:GetLogEvents",
    }
)

GRANTED_WITH = {
    "iam:PassRole": "CreateModel hands the role of the model servers on",
    "sagemaker:AddTags": "what is made is made with its tags",
    "iam:CreateServiceLinkedRole": "the first scalable target of an account makes a role",
    "cloudwatch:PutMetricAlarm": "a scaling policy makes its alarms in the caller's name",
    "cloudwatch:DeleteAlarms": "and removes them with itself",
}
"""Actions that are no calls of their own, and what checks them."""

_PREFIXES = {"monitoring": "cloudwatch"}
"""Names that sign a request, where IAM has another one for the service."""


def action(signing_name: str, operation: str) -> str:
    """Return the action that allows an operation of a service."""
    return f"{_PREFIXES.get(signing_name, signing_name)}:{operation}"
