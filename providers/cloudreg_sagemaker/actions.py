"""Every call that cloudreg makes, as the actions that an IAM policy has to allow.

The tests record what the provider really sends and compare it with this list: no call that is
missing here, and nothing here that is never called. `policy` says on which resources.
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
        "sagemaker:CreateInferenceComponent",
        "sagemaker:CreateModel",
        "sagemaker:DeleteEndpoint",
        "sagemaker:DeleteEndpointConfig",
        "sagemaker:DeleteInferenceComponent",
        "sagemaker:DeleteModel",
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:DescribeInferenceComponent",
        "sagemaker:DescribeModel",
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointAsync",
        "sagemaker:InvokeEndpointWithResponseStream",
        "sagemaker:ListEndpointConfigs",
        "sagemaker:ListEndpoints",
        "sagemaker:ListInferenceComponents",
        "sagemaker:ListModels",
        "sagemaker:ListTags",
        "sagemaker:UpdateEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "sagemaker:UpdateInferenceComponent",
        "sagemaker:UpdateInferenceComponentRuntimeConfig",
        # batch jobs
        "sagemaker:CreateTransformJob",
        "sagemaker:DescribeTransformJob",
        "sagemaker:StopTransformJob",
        # how many instances there are
        "application-autoscaling:DeleteScalingPolicy",
        "application-autoscaling:DeregisterScalableTarget",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:RegisterScalableTarget",
        # what is seen of them
        "cloudwatch:DeleteAlarms",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "cloudwatch:PutMetricAlarm",
        "logs:DescribeLogStreams",
        "logs:GetLogEvents",
        # bytes, and whose they are
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
        "sts:GetCallerIdentity",
    }
)

GRANTED_WITH = {
    "iam:PassRole": "CreateModel hands the role of the model servers on",
    "sagemaker:AddTags": "what is made is made with its tags",
    "iam:CreateServiceLinkedRole": "the first scalable target of an account makes a role",
    "cloudwatch:TagResource": "an alarm is made with its tag",
    "kms:CreateGrant": "SageMaker opens volumes later, in its own time",
    "kms:Decrypt": "what is read was encrypted",
    "kms:DescribeKey": "SageMaker looks at the key of a configuration",
    "kms:GenerateDataKey": "what is written is encrypted",
}
"""Actions that are no calls of their own, and what checks them."""

_PREFIXES = {"monitoring": "cloudwatch"}
"""Names that sign a request, where IAM has another one for the service."""

_S3 = {
    "AbortMultipartUpload": ("s3:AbortMultipartUpload",),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "CopyObject": ("s3:GetObject", "s3:PutObject"),
    "CreateMultipartUpload": ("s3:PutObject",),
    "DeleteObject": ("s3:DeleteObject",),
    "GetObject": ("s3:GetObject",),
    "HeadBucket": ("s3:ListBucket",),
    "HeadObject": ("s3:GetObject",),
    "ListMultipartUploads": ("s3:ListBucketMultipartUploads",),
    "ListObjectsV2": ("s3:ListBucket",),
    "ListParts": ("s3:ListMultipartUploadParts",),
    "PutObject": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "UploadPartCopy": ("s3:GetObject", "s3:PutObject"),
}
"""S3's operations have other names than its actions.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""


def actions_of(signing_name: str, operation: str) -> frozenset[str]:
    """Return the actions that allow an operation of a service."""
    if signing_name == "s3":
        return frozenset(_S3.get(operation, (f"s3:{operation}",)))
    return frozenset({f"{_PREFIXES.get(signing_name, signing_name)}:{operation}"})
