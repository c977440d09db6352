"""The IAM policy of a deployer: every action of `actions`, on what cloudreg makes and no more.

What has a name in the configuration is named. AWS lets some actions choose no resource; those
stand together, and where there is a condition that narrows them, it is set.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
and the pages beside it for S3, CloudWatch, Application Auto Scaling, IAM and KMS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg.provider import Deployed
from cloudreg_sagemaker import alarms, guards, waking
from cloudreg_sagemaker.actions import ACTIONS, GRANTED_WITH
from cloudreg_sagemaker.partitions import partition_of
from cloudreg_sagemaker.settings import RETIRED, UNSTAGED

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings

STEM = 40
"""Characters of an endpoint's name that its configurations' names begin with."""

_SCALING_ROLE = "role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/*"

_ANY = frozenset(
    {
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "sagemaker:ListEndpointConfigs",
        "sagemaker:ListEndpoints",
        "sagemaker:ListInferenceComponents",
        "sagemaker:ListModels",
        "sts:GetCallerIdentity",
    }
)
"""Actions that know no resource."""

_BUCKET = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})
_STAGED = frozenset({"sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"})
_TAGS = frozenset({"sagemaker:AddTags", "sagemaker:ListTags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    partition: str
    region: str
    account: str

    def arn(self, service: str, rest: str, *, account: str | None = None) -> str:
        """Return an ARN of the place; SageMaker writes the names in its own in lower case."""
        return f"arn:{self.partition}:{service}:{self.region}:{account or self.account}:{rest}"


def policy_for(settings: SageMakerSettings, deployed: Deployed) -> dict[str, Any]:
    """Return the policy of whoever deploys *deployed* to a target.

    Args:
        settings: The target's.
        deployed: What. Where stages are kept from the deployer, no package can be made to show
            them, and their pointers cannot be written.
    """
    place = _place(settings)
    statements = [
        *_registry(settings, deployed, place),
        *_endpoints(deployed, place),
        *_seen(place),
        *_role(settings, place),
        *_objects(settings, deployed, place),
        *_key(settings, place),
        _statement("Everywhere", _ANY, ["*"]),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(
    sid: str,
    actions: Iterable[str],
    resources: list[str],
    condition: Mapping[str, Any] | None = None,
    *,
    effect: str = "Allow",
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Sid": sid,
        "Effect": effect,
        "Action": sorted(actions),
        "Resource": resources,
    }
    return {**found, "Condition": dict(condition)} if condition is not None else found


def _of(service: str, *nouns: str) -> set[str]:
    """Return a service's actions whose names end with one of *nouns*."""
    return {
        action for action in ACTIONS if action.startswith(f"{service}:") and action.endswith(nouns)
    }


def _registry(
    settings: SageMakerSettings, deployed: Deployed, place: _Place
) -> Iterable[dict[str, Any]]:
    names = deployed.models or ("*",)
    groups = [place.arn("sagemaker", f"model-package-group/{name}") for name in names]
    packages = [place.arn("sagemaker", f"model-package/{name}/*") for name in names]
    rest = _of("sagemaker", "ModelPackage", "ModelPackageGroup", "ModelPackages") - _STAGED
    yield _statement("Registry", rest | _TAGS, [*groups, *packages])
    shown = None
    if deployed.others:
        known = settings.stage_names
        stages = [known.get(stage, stage) for stage in deployed.stages]
        shown = {"StringEquals": {"sagemaker:ModelLifeCycle:stage": [UNSTAGED, *stages, RETIRED]}}
    yield _statement("Stages", _STAGED, [*groups, *packages], shown)


def _endpoints(deployed: Deployed, place: _Place) -> Iterable[dict[str, Any]]:
    # Who may not show every stage may not reach the endpoints of the others either.
    names = deployed.endpoints or (() if deployed.others else ("*",))
    models = [f"model/{name}-*" for name in deployed.models] or ["model/*"]
    jobs = [f"transform-job/{name[:24]}*" for name in deployed.models] or ["transform-job/*"]
    of_endpoints = {
        *(f"endpoint/{name}" for name in names),
        *(f"inference-component/{name}" for name in names),
        *(f"endpoint-config/{name[:STEM].rstrip('-')}-*" for name in names if name != "*"),
        *(["endpoint-config/*"] if names == ("*",) else []),
    }
    resources = sorted({*of_endpoints, *models, *jobs})
    rest = {a for a in ACTIONS if a.startswith("sagemaker:") and "ModelPackage" not in a}
    rest -= _TAGS | _ANY
    where = [place.arn("sagemaker", resource) for resource in resources]
    yield _statement("Endpoints", rest | _TAGS, where)
    scaling = {a for a in ACTIONS if a.startswith("application-autoscaling:")} - _ANY
    yield _statement(
        "Replicas",
        scaling,
        [place.arn("application-autoscaling", "scalable-target/*")],
        {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}},
    )


def _seen(place: _Place) -> Iterable[dict[str, Any]]:
    # A tracking policy makes its alarms in the caller's name, and removes them with itself.
    prefixes = (alarms.PREFIX, waking.PREFIX, guards.PREFIX, "TargetTracking-")
    ours = [f"alarm:{prefix}*" for prefix in prefixes]
    changing = {a for a in {*ACTIONS, *GRANTED_WITH} if a.startswith("cloudwatch:")} - _ANY
    yield _statement("Alarms", changing, [place.arn("cloudwatch", alarm) for alarm in ours])
    logs = {action for action in ACTIONS if action.startswith("logs:")}
    yield _statement("Logs", logs, [place.arn("logs", "log-group:/aws/sagemaker/*")])


def _role(settings: SageMakerSettings, place: _Place) -> Iterable[dict[str, Any]]:
    service = "sagemaker.amazonaws.com"
    if settings.role is not None:
        passed = {"StringEquals": {"iam:PassedToService": service}}
        yield _statement("Role", ["iam:PassRole"], [settings.role], passed)
    made = {"StringEquals": {"iam:AWSServiceName": f"sagemaker.application-autoscaling.{_AWS}"}}
    # IAM is of no region.
    where = f"arn:{place.partition}:iam::{place.account}:{_SCALING_ROLE}"
    yield _statement("ScalingRole", ["iam:CreateServiceLinkedRole"], [where], made)


_AWS = "amazonaws.com"


def _objects(
    settings: SageMakerSettings, deployed: Deployed, place: _Place
) -> Iterable[dict[str, Any]]:
    bucket = f"arn:{place.partition}:s3:::{settings.bucket}"
    below = f"{settings.prefix}/" if settings.prefix else ""
    # Without a condition on the prefix: HeadBucket, which checks the owner, has none.
    yield _statement("Bucket", _BUCKET, [bucket])
    objects = {action for action in ACTIONS if action.startswith("s3:")} - _BUCKET
    yield _statement("Objects", objects, [f"{bucket}/{below}*"])
    if deployed.others:
        pointers = f"{bucket}/{below}sagemaker/{settings.region}/registry/*/stages"
        yield _statement(
            "OtherStages",
            ["s3:DeleteObject", "s3:PutObject"],
            [f"{pointers}/{stage}/*" for stage in deployed.others],
            effect="Deny",
        )


def _key(settings: SageMakerSettings, place: _Place) -> Iterable[dict[str, Any]]:
    key = settings.kms_key
    if key is None:
        return
    actions = {action for action in GRANTED_WITH if action.startswith("kms:")}
    grants = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    named: dict[str, Any] = {}
    alias = key.rpartition(":")[2]
    if alias.startswith("alias/"):
        # A policy names a key by its id alone; its alias is a condition.
        arn = place.arn("kms", "key/*")
        named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}
    else:
        arn = key if key.startswith("arn:") else place.arn("kms", f"key/{key}")
    yield _statement("Key", actions - {"kms:CreateGrant"}, [arn], named or None)
    yield _statement("Grants", ["kms:CreateGrant"], [arn], {**named, **grants})


def _place(settings: SageMakerSettings) -> _Place:
    role = (settings.role or "").split(":")
    of_role = role[4] if len(role) > 4 else ""
    return _Place(
        partition=partition_of(settings.region).name,
        region=settings.region,
        account=settings.account or of_role or "*",
    )
