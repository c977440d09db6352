"""What IAM has to allow for a request: actions, the resources that they are checked on, conditions.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/ on SageMaker AI,
Application Auto Scaling, CloudWatch, CloudWatch Logs, S3, IAM and KMS (2026-11). An action whose
row names no type of resource is checked on ``*``, and a statement with ARNs alone refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudreg_sagemaker import actions

AT = "us-east-1:123456789012"
SERVICE = "sagemaker.amazonaws.com"
SCALING = "sagemaker.application-autoscaling.amazonaws.com"
SCALING_ROLE = (
    f"arn:aws:iam::123456789012:role/aws-service-role/{SCALING}/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One check of IAM's.

    Attributes:
        action: Such as ``sagemaker:CreateModel``.
        resource: An ARN, or ``*``.
        context: Condition keys in small letters, with the value of each.
    """

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()

    @property
    def given(self) -> Mapping[str, Sequence[str]]:
        """The context as it is evaluated."""
        return {key: [value] for key, value in self.context}


_NAMED = {
    "EndpointConfigName": "endpoint-config/{}",
    "EndpointName": "endpoint/{}",
    "InferenceComponentName": "inference-component/{}",
    "ModelName": "model/{}",
    "ModelPackageGroupName": "model-package-group/{}",
    "TransformJobName": "transform-job/{}",
}
"""Parameters that name a resource of SageMaker."""

_WITHOUT = frozenset(
    {"ListEndpointConfigs", "ListEndpoints", "ListInferenceComponents", "ListModels"}
)
"""Listings that know no resource."""


def needs(service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[Need]:
    """Yield what a request of boto3's needs."""
    found = {
        "application-autoscaling": _scaling,
        "iam": _nothing,
        "logs": _logs,
        "monitoring": _alarms,
        "s3": _s3,
        "sagemaker": _sagemaker,
        "sts": _nothing,
    }[service](operation, parameters)
    for action in sorted(actions.actions_of(service, operation)):
        yield from (
            Need(action=action, resource=resource, context=context) for resource, context in found
        )
    yield from _beside(operation, parameters)


def objects(operation: str, touched: str) -> Iterator[Need]:
    """Yield what a request of S3 needs that touches a bucket, or ``bucket/key``."""
    for action in sorted(actions.actions_of("s3", operation)):
        yield Need(action=action, resource=f"arn:aws:s3:::{touched}")


_Found = list[tuple[str, tuple[tuple[str, str], ...]]]


def _nothing(_operation: str, _parameters: Mapping[str, Any]) -> _Found:
    return [("*", ())]


def _sagemaker(operation: str, parameters: Mapping[str, Any]) -> _Found:
    if operation in _WITHOUT:
        return [("*", ())]
    return [(arn, _stage(parameters)) for arn in _arns(operation, parameters)]


def _arns(operation: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    if operation == "ListTags":
        yield parameters["ResourceArn"]
        return
    group = parameters.get("ModelPackageGroupName")
    if operation in ("CreateModelPackage", "ListModelPackages"):
        yield f"arn:aws:sagemaker:{AT}:model-package/{group}/*"
        return
    for name in ("ModelPackageName", "ModelPackageArn"):
        if name in parameters:
            yield parameters[name]
    # To predict takes the endpoint; a component on it may be named, and is checked as well.
    for name, pattern in _NAMED.items():
        if name in parameters:
            yield f"arn:aws:sagemaker:{AT}:{pattern.format(parameters[name])}"


def _stage(parameters: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    cycle = parameters.get("ModelLifeCycle")
    return (("sagemaker:modellifecycle:stage", cycle["Stage"]),) if cycle else ()


def _scaling(operation: str, _parameters: Mapping[str, Any]) -> _Found:
    if operation.startswith("Describe"):
        return [("*", ())]
    namespace = (("application-autoscaling:service-namespace", "sagemaker"),)
    return [(f"arn:aws:application-autoscaling:{AT}:scalable-target/0123", namespace)]


def _alarms(operation: str, parameters: Mapping[str, Any]) -> _Found:
    if operation not in ("DeleteAlarms", "PutMetricAlarm"):
        return [("*", ())]
    names = parameters.get("AlarmNames") or [parameters["AlarmName"]]
    return [(f"arn:aws:cloudwatch:{AT}:alarm:{name}", ()) for name in names]


def _logs(operation: str, parameters: Mapping[str, Any]) -> _Found:
    group = f"arn:aws:logs:{AT}:log-group:{parameters['logGroupName']}"
    stream = parameters.get("logStreamName", "") if operation == "GetLogEvents" else ""
    return [(f"{group}:log-stream:{stream}", ())]


def _s3(operation: str, parameters: Mapping[str, Any]) -> _Found:
    key = f"/{parameters['Key']}" if "Key" in parameters else ""
    found: _Found = [(f"arn:aws:s3:::{parameters['Bucket']}{key}", ())]
    source = parameters.get("CopySource")
    if source is not None:
        found.append((f"arn:aws:s3:::{source['Bucket']}/{source['Key']}", ()))
    return found


def _beside(operation: str, parameters: Mapping[str, Any]) -> Iterator[Need]:
    """Yield what is checked together with a request, and is no request of its own."""
    role = parameters.get("ExecutionRoleArn")
    if role is not None:
        passed = (("iam:passedtoservice", SERVICE),)
        yield Need(action="iam:PassRole", resource=role, context=passed)
    if operation == "RegisterScalableTarget":
        made = (("iam:awsservicename", SCALING),)
        yield Need(action="iam:CreateServiceLinkedRole", resource=SCALING_ROLE, context=made)
    if parameters.get("Tags") and operation == "PutMetricAlarm":
        (alarm,) = _alarms(operation, parameters)
        yield Need(action="cloudwatch:TagResource", resource=alarm[0])
    elif parameters.get("Tags") and operation.startswith("Create"):
        own = operation.removeprefix("Create")
        arns = list(_arns(operation, parameters))
        noun = f":{_NAMED.get(f'{own}Name', 'model-package/{}').partition('/')[0]}/"
        yield from (Need(action="sagemaker:AddTags", resource=a) for a in arns if noun in a)
    yield from _keys(operation, parameters)


def _keys(operation: str, parameters: Mapping[str, Any]) -> Iterator[Need]:
    key = parameters.get("KmsKeyId")
    if operation == "CreateEndpointConfig" and key is not None:
        # Its id in whatever form; a grant lets SageMaker open volumes in its own time.
        yield Need(action="kms:DescribeKey", resource=key)
        grants = (("kms:grantisforawsresource", "true"),)
        yield Need(action="kms:CreateGrant", resource=key, context=grants)
    if "SSEKMSKeyId" in parameters:
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            yield Need(action=action, resource=parameters["SSEKMSKeyId"])
