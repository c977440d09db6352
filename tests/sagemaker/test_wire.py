"""What SageMaker reports, as nouns: what is in force, whoever changed it."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.names import sha256
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    Scaling,
    ScalingMetric,
    ScalingStep,
    Variant,
)
from cloudreg_sagemaker import wire

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
SPEC = EndpointSpec(
    name="churn-prod",
    stage="prod",
    variants=(
        Variant(name="primary", model="churn", number=1, digest=sha256(b"1"), weight=75),
        Variant(
            name="canary",
            model="churn",
            number=2,
            digest=sha256(b"2"),
            weight=25,
            scaling=Scaling(min_replicas=1, max_replicas=4, target=2.0),
        ),
    ),
)
FOLLOWS = wire.Bound(
    least=1,
    most=4,
    metric=ScalingMetric.CONCURRENCY,
    target=2.0,
    scale_out_cooldown_s=60,
    scale_in_cooldown_s=300,
)


def units(_: Variant, metric: ScalingMetric) -> int:
    return 4 if metric.is_percent else 1


def seen(
    status: str = "InService", *, weights: tuple[float, float] = (75, 25), **more: Any
) -> dict[str, Any]:
    return {
        "EndpointName": "churn-prod",
        "EndpointArn": "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/churn-prod",
        "EndpointConfigName": "churn-prod-a-b",
        "EndpointStatus": status,
        "CreationTime": NOW,
        "LastModifiedTime": NOW,
        "ProductionVariants": [
            {
                "VariantName": name,
                "DesiredWeight": weight,
                "CurrentWeight": weight,
                "CurrentInstanceCount": 1,
                "DesiredInstanceCount": 1,
            }
            for name, weight in zip(("primary", "canary"), weights, strict=True)
        ],
        **more,
    }


def read(
    answer: dict[str, Any],
    spec: EndpointSpec | None = SPEC,
    bounds: dict[str, wire.Bound] | None = None,
    digests: dict[str, str] | None = None,
) -> Endpoint:
    return wire.endpoint_from(
        answer,
        spec,
        name="churn-prod",
        region="eu-central-1",
        bounds={"canary": FOLLOWS} if bounds is None else bounds,
        units=units,
        digests=digests,
    )


def test_as_asked() -> None:
    """An endpoint that is what was asked for shows exactly that."""
    found = read(seen())

    assert found.spec == SPEC
    assert found.status is EndpointStatus.READY
    assert found.since == "2026-01-02T03:04:05.678Z"
    assert [(v.name, v.digest, v.weight) for v in found.variants] == [
        ("primary", sha256(b"1"), 75),
        ("canary", sha256(b"2"), 25),
    ]
    assert found.native_id == seen()["EndpointArn"]


@pytest.mark.parametrize(
    ("native", "status"),
    [
        ("Creating", EndpointStatus.CREATING),
        ("Updating", EndpointStatus.UPDATING),
        ("SystemUpdating", EndpointStatus.UPDATING),
        ("RollingBack", EndpointStatus.UPDATING),
        ("InService", EndpointStatus.READY),
        ("Deleting", EndpointStatus.DELETING),
        ("Failed", EndpointStatus.FAILED),
        ("OutOfService", EndpointStatus.DEGRADED),
        ("UpdateRollbackFailed", EndpointStatus.DEGRADED),
        ("SomethingNew", EndpointStatus.DEGRADED),
    ],
)
def test_status(native: str, status: EndpointStatus) -> None:
    """Every status of SageMaker's, and one it may get, has a word of ours."""
    assert read(seen(native, FailureReason="why")).status is status
    assert read(seen(native, FailureReason="why")).message == "why"


def test_weights_by_hand() -> None:
    """Weights that somebody moved are shown as they are, not as they were asked for."""
    found = read(seen(weights=(1, 3)))

    assert [v.weight for v in found.spec.variants] == [25, 75]
    assert [v.weight for v in found.variants] == [25, 75]


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=10))
def test_shares_sum_to_a_hundred(weights: list[float]) -> None:
    """Whatever the weights are, the shares are whole percents and leave nothing over."""
    answer = {
        "ProductionVariants": [
            {"VariantName": f"v{index}", "DesiredWeight": weight}
            for index, weight in enumerate(weights)
        ]
    }
    shares = wire.shares_of(answer)
    total = sum(weights)

    assert sum(shares.values()) == 100
    for index, weight in enumerate(weights):
        assert abs(shares[f"v{index}"] - 100 * weight / total) < 1


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({}, {"min_replicas": 1, "max_replicas": 1}),
        ({"canary": FOLLOWS}, {"min_replicas": 1, "max_replicas": 4}),
        (
            {
                "canary": replace(
                    FOLLOWS,
                    least=2,
                    most=9,
                    metric=ScalingMetric.CPU_UTILIZATION,
                    target=200.0,
                    steps=(ScalingStep(at=300.0, add=2),),
                    scale_out_cooldown_s=20,
                    scale_in_cooldown_s=60,
                )
            },
            {
                "min_replicas": 2,
                "max_replicas": 9,
                "metric": ScalingMetric.CPU_UTILIZATION,
                "target": 50.0,
                "steps": (ScalingStep(at=75.0, add=2),),
                "scale_out_cooldown_s": 20,
                "scale_in_cooldown_s": 60.0,
            },
        ),
        # Bounds with which nothing moves the number are no autoscaling.
        ({"canary": wire.Bound(least=1, most=4)}, {"min_replicas": 1, "max_replicas": 1}),
    ],
)
def test_scaling_by_hand(bounds: dict[str, wire.Bound], wanted: dict[str, Any]) -> None:
    """Bounds and policy that are in force are shown; without any, the number is fixed."""
    scaling = read(seen(), bounds=bounds).spec.variants[1].scaling

    assert {key: getattr(scaling, key) for key in wanted} == wanted


def test_fixed_count_by_hand() -> None:
    """A fixed number of instances that somebody changed is shown as it is."""
    answer = seen()
    answer["ProductionVariants"][0]["DesiredInstanceCount"] = 3
    scaling = read(answer).spec.variants[0].scaling

    assert (scaling.min_replicas, scaling.max_replicas) == (3, 3)


def test_cooldown_between_seconds() -> None:
    """A cooldown with a fraction is read back as it was asked for; AWS keeps whole seconds."""
    asked = Scaling(
        min_replicas=1, max_replicas=4, scale_out_cooldown_s=7.2, scale_in_cooldown_s=10.5
    )
    variant = replace(SPEC.variants[0], scaling=asked)
    bound = wire.bound_for(variant, units)

    assert (bound.scale_out_cooldown_s, bound.scale_in_cooldown_s) == (7, 10)
    assert wire.scaling_from(variant, 1, bound, units) == asked


def test_while_it_changes() -> None:
    """During a change scalable targets may be gone: that is no news of the spec."""
    assert read(seen("Updating"), bounds={}).spec == SPEC


def test_before_it_has_variants() -> None:
    """While SageMaker shows no variants yet, the spec is what was asked for."""
    answer = seen("Creating")
    del answer["ProductionVariants"]
    found = read(answer)

    assert (found.spec, found.variants) == (SPEC, ())


def test_foreign_configuration() -> None:
    """A configuration that cloudreg did not make equals nothing that was asked for, and says so."""
    found = read(seen(), spec=None)

    assert found.status is EndpointStatus.DEGRADED
    assert "churn-prod-a-b was not made by cloudreg" in found.message
    assert found.spec != SPEC
    assert {v.digest for v in found.variants} == {""}


def test_what_runs() -> None:
    """A variant whose model says something else runs that, whatever was asked for."""
    found = read(seen(), digests={"primary": sha256(b"9")})

    assert [v.digest for v in found.variants] == [sha256(b"9"), ""]


def test_nothing_in_service() -> None:
    """An endpoint in service with a variant that has no instance is degraded."""
    answer = seen()
    answer["ProductionVariants"][1]["CurrentInstanceCount"] = 0
    found = read(answer)

    assert found.status is EndpointStatus.DEGRADED
    assert "canary" in found.message
