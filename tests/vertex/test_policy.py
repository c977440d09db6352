"""What a deployer must be permitted: no call is missing, and no permission is unused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cloudreg.provider import Deployed
from cloudreg.testing.serving import spec, variant
from cloudreg.types import OperationState, Scaling, ScalingMetric
from cloudreg_vertex import PLUGIN
from cloudreg_vertex.policy import PERMISSIONS, policy_for

BATCH = {key for key in PERMISSIONS if key[0] == "jobs"}
"""What `test_batches` calls."""

EVALUATIONS = {key for key in PERMISSIONS if "evaluation" in key[1]}
"""What `test_workspace` calls, whose version has metrics."""


def test_every_call_has_a_permission(desk: Any, cloud: Any, model: str) -> None:
    """The main job makes just the calls that the role allows."""
    begin = len(cloud.calls)
    registry, server = desk.registry, desk.server
    first, second = desk.version(1, model=model), desk.version(2, model=model)
    for made in (first, second):
        registry.publish(made)
    registry.point(model, "prod", first.digest)
    asked = desk.start(spec(server.name(), variant("primary", server.version(1)), env={"A": "b"}))
    scaling = Scaling(max_replicas=2, metric=ScalingMetric.CPU_UTILIZATION, target=60.0)
    wanted = replace(asked, variants=(replace(asked.variants[0], scaling=scaling),))
    assert server.update(wanted).state is OperationState.SUCCEEDED
    other = replace(
        wanted,
        variants=(variant("primary", server.version(2)),),
    )
    assert server.update(other).state is OperationState.SUCCEEDED
    list(desk.endpoints.endpoints())
    assert server.delete(asked.name).state is OperationState.SUCCEEDED
    registry.point(model, "prod", None)
    registry.withdraw(model, second.digest)
    registry.withdraw(model, first.digest)

    called = set(cloud.calls[begin:])

    assert called - set(PERMISSIONS) == set()
    assert set(PERMISSIONS) - called - BATCH - EVALUATIONS == set()


def test_role(cloud: Any) -> None:
    """The role is small, and the bucket's is bound to cloudreg's own keys."""
    settings = PLUGIN.settings()(
        project="our-project",
        location="europe-west4",
        bucket="our-models",
        prefix="team",
        service_account="serve@our-project.iam.gserviceaccount.com",
    )
    found = policy_for(settings, Deployed(stages=("dev", "staging")))

    deployer = found["roles"]["cloudregDeployer"]["includedPermissions"]
    assert len(deployer) <= 25
    assert all("*" not in permission for permission in deployer)
    assert [b["role"] for b in found["bindings"]] == [
        "cloudregDeployer",
        "cloudregArtifacts",
        "roles/iam.serviceAccountUser",
    ]
    assert "objects/team/" in found["bindings"][1]["condition"]["expression"]
