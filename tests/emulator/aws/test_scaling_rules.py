"""Targets and policies: what Application Auto Scaling takes, and what it refuses in which words.

Where a case names no source it is the service model's documentation of the member.
"""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.faults import Fault

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
RESOURCE = "endpoint/churn/variant/main"
TARGET = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE, "ScalableDimension": INSTANCES}
PER_INSTANCE = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
TRACKING = {"TargetValue": 70.0, "PredefinedMetricSpecification": PER_INSTANCE}
STEP = {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}
STEPS = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [STEP]}


@pytest.fixture
def scaling(live):
    """The client; there is an endpoint ``churn`` with a variant ``main``."""
    live.doubling()
    return live.client("application-autoscaling")


@pytest.fixture
def registered(scaling):
    """The client; the variant is registered from 1 to 3."""
    scaling.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=3)
    return scaling


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]


def put(scaling, name="p", kind="TargetTrackingScaling", **config):
    asked = config or {"TargetTrackingScalingPolicyConfiguration": TRACKING}
    return scaling.put_scaling_policy(PolicyName=name, PolicyType=kind, **TARGET, **asked)


def test_register(scaling):
    """A variant is registered, shown with all its fields, changed in part, and gone again."""
    arn = scaling.register_scalable_target(
        **TARGET, MinCapacity=1, MaxCapacity=3, RoleARN="arn:aws:iam::123456789012:role/ignored"
    )["ScalableTargetARN"]
    again = scaling.register_scalable_target(**TARGET, MaxCapacity=5)
    (shown,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]

    assert again["ScalableTargetARN"] == shown["ScalableTargetARN"] == arn
    assert (shown["MinCapacity"], shown["MaxCapacity"]) == (1, 5)
    assert shown["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert shown["SuspendedState"] == {
        "DynamicScalingInSuspended": False,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": False,
    }
    scaling.deregister_scalable_target(**TARGET)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [({"MinCapacity": 4}, "ValidationException", "cannot be greater than maximum"),
     ({"MinCapacity": 0}, "ValidationException", "cannot be 0"),
     ({"MinCapacity": -1}, "ValidationException", "cannot be negative"),
     ({"MinCapacity": None}, "ValidationException", "are required"),
     ({"MaxCapacity": None}, "ValidationException", "are required"),
     ({"ScalableDimension": "sagemaker:variant:Nonsense"}, "ValidationException",
      "at 'scalableDimension' failed to satisfy constraint: Member must satisfy enum value set"),
     ({"ServiceNamespace": "nonsense"}, "ValidationException", "at 'serviceNamespace'"),
     ({"ScalableDimension": "ecs:service:DesiredCount"}, "ValidationException",
      "Unsupported service namespace, resource type or scalable dimension"),
     ({"ScalableDimension": COPIES}, "ValidationException", "Unsupported service namespace"),
     ({"ResourceId": "endpoint/churn"}, "ValidationException", "Unsupported service namespace"),
     ({"ResourceId": "churn/main"}, "ValidationException", "Unsupported service namespace"),
     ({"ResourceId": "endpoint/ghost/variant/main"}, "ValidationException",
      'Could not find endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/ghost"'),
     ({"ResourceId": "endpoint/churn/variant/ghost"}, "ValidationException", "does not exist"),
     ({"ResourceId": "inference-component/ghost", "ScalableDimension": COPIES},
      "ValidationException", "Could not find inference component"),
     ({"ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency"},
      "ValidationException", "The emulator does not scale")],
)  # fmt: skip
def test_register_refuses(scaling, change, code, words):
    """A target that could not be scaled is not registered."""
    asked = {**TARGET, "MinCapacity": 1, "MaxCapacity": 3, **change}
    error = refused(
        scaling.register_scalable_target, **{k: v for k, v in asked.items() if v is not None}
    )

    assert error["Code"] == code
    assert words in error["Message"]
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_asynchronous_endpoints_go_to_zero(live):
    """An asynchronous endpoint may have no instance."""
    live.doubling(AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://models/out"}})
    scaling = live.client("application-autoscaling")

    assert scaling.register_scalable_target(**TARGET, MinCapacity=0, MaxCapacity=1)


def test_deregister_takes_everything_along(live, registered):
    """A target's policies and their alarms go with it; twice is refused."""
    put(registered)
    registered.deregister_scalable_target(**TARGET)
    error = refused(registered.deregister_scalable_target, **TARGET)

    assert (
        registered.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    )
    assert live.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert error["Code"] == "ObjectNotFoundException"
    assert "No scalable target found for service namespace: sagemaker" in error["Message"]


def test_deleting_an_endpoint_deregisters(live, registered):
    """With an endpoint its targets go, and its alarms."""
    put(registered)
    live.sagemaker.delete_endpoint(EndpointName="churn")

    targets = registered.describe_scalable_targets(ServiceNamespace="sagemaker")
    assert targets["ScalableTargets"] == []
    assert live.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


def test_target_tracking(live, registered):
    """A policy brings two alarms that nobody has to make, on the metric that it tracks."""
    made = put(registered)
    shown = live.client("cloudwatch").describe_alarms()["MetricAlarms"]
    high, low = sorted(shown, key=lambda alarm: alarm["AlarmName"])

    assert {a["AlarmName"] for a in made["Alarms"]} == {high["AlarmName"], low["AlarmName"]}
    assert high["AlarmName"].startswith(f"TargetTracking-{RESOURCE}-AlarmHigh-")
    assert (high["Threshold"], high["EvaluationPeriods"], high["Period"]) == (70.0, 3, 60)
    assert (low["Threshold"], low["EvaluationPeriods"]) == (63.0, 15)
    assert (high["MetricName"], high["Statistic"]) == ("InvocationsPerInstance", "Sum")
    assert high["Dimensions"] == [
        {"Name": "EndpointName", "Value": "churn"},
        {"Name": "VariantName", "Value": "main"},
    ]
    assert made["PolicyARN"] in high["AlarmActions"]


def test_policy_is_replaced(live, registered):
    """The same name again replaces the policy: its ARN stays, its alarms are new."""
    first = put(registered)
    second = put(
        registered,
        TargetTrackingScalingPolicyConfiguration={
            **TRACKING, "TargetValue": 10.0, "DisableScaleIn": True
        },
    )  # fmt: skip
    (shown,) = registered.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    (alarm,) = live.client("cloudwatch").describe_alarms()["MetricAlarms"]

    assert first["PolicyARN"] == second["PolicyARN"] == shown["PolicyARN"]
    assert shown["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 10.0
    # Without scale-in there is no alarm for it.
    assert "-AlarmHigh-" in alarm["AlarmName"]
    assert shown["Alarms"][0]["AlarmARN"] == alarm["AlarmArn"]


def test_custom_metric(live, registered):
    """A metric of the user's own is tracked under its own name: GPU utilisation is one."""
    custom = {
        "MetricName": "GPUUtilization",
        "Namespace": "/aws/sagemaker/Endpoints",
        "Dimensions": [{"Name": "EndpointName", "Value": "churn"}],
        "Statistic": "Average",
    }
    put(
        registered,
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 60.0, "CustomizedMetricSpecification": custom
        },
    )  # fmt: skip
    alarms = live.client("cloudwatch").describe_alarms()["MetricAlarms"]

    assert {alarm["MetricName"] for alarm in alarms} == {"GPUUtilization"}
    assert {alarm["Namespace"] for alarm in alarms} == {"/aws/sagemaker/Endpoints"}


def tracking(**change):
    config = {k: v for k, v in {**TRACKING, **change}.items() if v is not None}
    return {"TargetTrackingScalingPolicyConfiguration": config}


def steps(*intervals, **change):
    adjustments = [
        {
            "ScalingAdjustment": 1,
            **({"MetricIntervalLowerBound": low} if low is not None else {}),
            **({"MetricIntervalUpperBound": high} if high is not None else {}),
        }
        for low, high in intervals
    ]
    config = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": adjustments, **change}
    return {"StepScalingPolicyConfiguration": {k: v for k, v in config.items() if v is not None}}


CUSTOM = {"MetricName": "m", "Namespace": "n", "Statistic": "Average"}


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [("TargetTrackingScaling", tracking(TargetValue=0.0), "must be greater than 0"),
     ("TargetTrackingScaling", tracking(ScaleInCooldown=-1), "ScaleInCooldown"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification=None), "Specify one of"),
     ("TargetTrackingScaling", tracking(CustomizedMetricSpecification=CUSTOM), "Specify one of"),
     ("TargetTrackingScaling",
      tracking(PredefinedMetricSpecification={"PredefinedMetricType": "Nonsense"}),
      "Member must satisfy enum value set"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification={
         "PredefinedMetricType": "ECSServiceAverageCPUUtilization"}), "is not supported for"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification={
         "PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"}),
      "is not supported for"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification={
         **PER_INSTANCE, "ResourceLabel": "x"}), "ResourceLabel cannot be specified"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification=None,
      CustomizedMetricSpecification={"MetricName": "m", "Namespace": "n"}),
      "Statistic is required"),
     ("TargetTrackingScaling", tracking(PredefinedMetricSpecification=None,
      CustomizedMetricSpecification={"Metrics": [{"Id": "m", "Expression": "1"}]}),
      "does not run metric math"),
     ("TargetTrackingScaling", {}, "needs TargetTrackingScalingPolicyConfiguration"),
     ("TargetTrackingScaling", steps((0, None)), "needs TargetTrackingScalingPolicyConfiguration"),
     ("StepScaling", tracking(), "needs StepScalingPolicyConfiguration"),
     ("StepScaling", {**tracking(), **steps((0, None))}, "nothing beside it"),
     ("PredictiveScaling", {}, "does not run PredictiveScaling"),
     ("Nonsense", tracking(), "at 'policyType'"),
     (None, tracking(), "PolicyType is required"),
     ("StepScaling", steps(), "At least one StepAdjustment"),
     ("StepScaling", steps((0, None), AdjustmentType=None), "AdjustmentType is required"),
     ("StepScaling", steps((0, 10), (20, None)), "must touch"),
     ("StepScaling", steps((0, 20), (10, None)), "must touch"),
     ("StepScaling", steps((10, 10)), "below its upper bound"),
     ("StepScaling", steps((0, None), (0, None)), "must touch"),
     ("StepScaling", steps((0, None), Cooldown=-1), "Cooldown cannot be negative"),
     ("StepScaling", steps((0, None), MinAdjustmentMagnitude=2), "MinAdjustmentMagnitude")],
)  # fmt: skip
def test_policy_refused(live, registered, kind, config, words):
    """A policy that could not be run is not put, and leaves no alarm."""
    asked = {"PolicyName": "p", **TARGET, **config}
    error = refused(
        registered.put_scaling_policy, **asked, **({"PolicyType": kind} if kind else {})
    )

    assert error["Code"] == "ValidationException"
    assert words in error["Message"]
    assert (
        registered.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    )
    assert live.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


def test_policy_needs_a_target(scaling):
    """Without a target there is no policy. Source: ansible/ansible#35632."""
    error = refused(
        scaling.put_scaling_policy,
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        **TARGET,
        TargetTrackingScalingPolicyConfiguration=TRACKING,
    )

    assert error["Code"] == "ObjectNotFoundException"
    assert error["Message"] == (
        "No scalable target registered for service namespace: sagemaker, resource ID: "
        f"{RESOURCE}, scalable dimension: {INSTANCES}"
    )


def test_one_policy_for_a_metric(registered):
    """Two policies that track the same metric would fight."""
    put(registered)
    error = refused(put, scaling=registered, name="q")

    assert error["Message"].startswith("Only one TargetTrackingScaling policy for a given metric")


def test_type_of_a_policy_stays(registered):
    """A policy does not become one of another type; without a type it stays what it is."""
    put(registered)
    error = refused(
        registered.put_scaling_policy, PolicyName="p", PolicyType="StepScaling", **TARGET,
        StepScalingPolicyConfiguration=STEPS,
    )  # fmt: skip
    registered.put_scaling_policy(
        PolicyName="p", **TARGET, TargetTrackingScalingPolicyConfiguration=TRACKING
    )

    assert "cannot be changed from TargetTrackingScaling to StepScaling" in error["Message"]


def test_delete_policy(live, registered):
    """A policy goes with its alarms; what is not there is refused."""
    put(registered)
    registered.delete_scaling_policy(PolicyName="p", **TARGET)
    error = refused(registered.delete_scaling_policy, PolicyName="p", **TARGET)

    assert live.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert error["Code"] == "ObjectNotFoundException"


def test_describe_policies(registered):
    """Policies are filtered by name and resource, and come in pages."""
    put(registered)
    put(registered, "q", "StepScaling", StepScalingPolicyConfiguration=STEPS)

    def names(**asked):
        answer = registered.describe_scaling_policies(ServiceNamespace="sagemaker", **asked)
        return [policy["PolicyName"] for policy in answer["ScalingPolicies"]], answer

    first, answer = names(MaxResults=1)
    assert first == ["p"]
    assert names(NextToken=answer["NextToken"])[0] == ["q"]
    assert names(PolicyNames=["q"])[0] == ["q"]
    assert names(ResourceId="endpoint/other/variant/main")[0] == []
    error = refused(
        registered.describe_scaling_policies, ServiceNamespace="sagemaker", NextToken="nonsense"
    )
    assert error["Code"] == "InvalidNextTokenException"


def test_tags(scaling):
    """Tags come with a new target, and are changed by operations of their own."""
    arn = scaling.register_scalable_target(
        **TARGET, MinCapacity=1, MaxCapacity=3, Tags={"cloudreg": "churn"}
    )["ScalableTargetARN"]
    error = refused(
        scaling.register_scalable_target, **TARGET, MinCapacity=1, MaxCapacity=3, Tags={"a": "b"}
    )
    scaling.tag_resource(ResourceARN=arn, Tags={"team": "x"})
    scaling.untag_resource(ResourceARN=arn, TagKeys=["cloudreg"])

    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "x"}
    # https://github.com/terraform-aws-modules/terraform-aws-rds-aurora/pull/420
    assert error["Message"].startswith("The scalable target that you tried to tag already exists.")


def test_tags_of_nothing(scaling):
    """Tags of what is not registered are not found."""
    arn = "arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target/ghost"

    error = refused(scaling.list_tags_for_resource, ResourceARN=arn)
    assert error["Code"] == "ResourceNotFoundException"


def test_other_services_are_motos(live):
    """What scales DynamoDB goes on as it was."""
    scaling = live.client("application-autoscaling")
    asked = {
        "ServiceNamespace": "dynamodb",
        "ResourceId": "table/t",
        "ScalableDimension": "dynamodb:table:ReadCapacityUnits",
    }
    scaling.register_scalable_target(**asked, MinCapacity=1, MaxCapacity=2)

    def count(service):
        return len(scaling.describe_scalable_targets(ServiceNamespace=service)["ScalableTargets"])

    assert (count("dynamodb"), count("sagemaker")) == (1, 0)
    scaling.deregister_scalable_target(**asked)
    assert count("dynamodb") == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [({"kind": "throttle"}, "ThrottlingException"), ({"kind": "error"}, "ServiceUnavailable"),
     ({"kind": "lost", "status": 500}, "InternalServiceException")],
)  # fmt: skip
def test_faults(live, scaling, fault, code):
    """Faults strike here, too; what is lost was done."""
    armed = live.emulator.faults.arm(
        Fault(service="application-autoscaling", operation="Register*", **fault)
    )
    error = refused(scaling.register_scalable_target, **TARGET, MinCapacity=1, MaxCapacity=3)
    shown = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]

    assert error["Code"] == code
    assert armed.struck == 1
    assert len(shown) == (fault["kind"] == "lost")
