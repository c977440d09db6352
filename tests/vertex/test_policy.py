"""What a deployer must be permitted: no call is missing, and no permission is unused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cloudreg.names import sha256
from cloudreg.provider import Deployed
from cloudreg.testing.batches import job
from cloudreg.testing.serving import spec, variant
from cloudreg.types import ModelVersion, OperationState, Scaling, ScalingMetric
from cloudreg_vertex import PLUGIN
from cloudreg_vertex.policy import PERMISSIONS, TRANSFER, policy_for

RACED = {("jobs", "cancel_batch_prediction_job"), ("jobs", "delete_batch_prediction_job")}
"""Where two begin one job at once: `test_batches` makes them, and compares."""


def test_every_call_has_a_permission(desk: Any, cloud: Any, model: str) -> None:
    """The main job makes just the calls that the role allows."""
    begin = len(cloud.calls)
    registry, server = desk.registry, desk.server
    first, second = measured(desk, desk.version(1, model=model)), desk.version(2, model=model)
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
    scored = server.version(1)
    batch = job(scored)
    desk.provider.store.put(b"{}\n", f"{batch.input}0.jsonl")
    desk.wait(desk.provider.batch.start(batch, version=scored))
    desk.provider.batch.stop(batch.name)

    assert set(cloud.calls[begin:]) | RACED == set(PERMISSIONS)


def measured(desk: Any, version: ModelVersion) -> ModelVersion:
    """Return the version with metrics in its manifest: they become an evaluation."""
    manifest = replace(version.manifest, metrics={"auc": 0.9})
    data = manifest.encode()
    desk.provider.store.put(data, f"manifests/{sha256(data).removeprefix('sha256:')}")
    return replace(version, manifest=manifest, digest=manifest.digest)


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
        "cloudregLedger",
        "roles/iam.serviceAccountUser",
    ]
    assert "objects/team/" in found["bindings"][1]["condition"]["expression"]


def test_transfers_are_permitted_where_they_are_set_up() -> None:
    """Who may have copies made by a service has its permissions, and nobody else has."""
    section = {"project": "our-project", "location": "europe-west4", "bucket": "our-models"}
    settings = PLUGIN.settings()(**section)
    plain = policy_for(settings, Deployed())
    carried = policy_for(settings, Deployed(by_service=True))

    def permitted(found: Any) -> set[str]:
        return set(found["roles"]["cloudregDeployer"]["includedPermissions"])

    assert permitted(carried) - permitted(plain) == set(TRANSFER)


def test_an_entry_is_written_once() -> None:
    """Nobody who deploys may delete from the ledger, and so nobody may replace an entry."""
    settings = PLUGIN.settings()(
        project="our-project", location="europe-west4", bucket="our-models", prefix="team"
    )
    found = policy_for(settings, Deployed())
    ledger = 'resource.name.startsWith("projects/_/buckets/our-models/objects/team/ledger/")'

    assert "storage.objects.delete" not in found["roles"]["cloudregLedger"]["includedPermissions"]
    by_role = {one["role"]: one for one in found["bindings"]}
    assert by_role["cloudregLedger"]["condition"]["expression"] == ledger
    assert f"!{ledger}" in by_role["cloudregArtifacts"]["condition"]["expression"]
