"""What Terraform's google provider may take over of a target, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg.provider import Deployed, PlannedChange
from cloudreg.types import EndpointSpec, Variant
from cloudreg_vertex.settings import VertexSettings
from cloudreg_vertex.terraform import ENDPOINT, Terraform

SETTINGS = VertexSettings(project="my-project", location="europe-west4", bucket="models")
DEPLOYED = Deployed(models=("churn",), endpoints=("churn-prod",), stages=("prod",))

SHELL = {"name": "123", "display_name": "churn-prod", "traffic_split": '{"1": 100}'}
OBJECT = "google_storage_bucket_object"
BUCKET = "google_storage_bucket"

OURS = [
    (ENDPOINT, SHELL, {}),
    (ENDPOINT, SHELL, {**SHELL, "traffic_split": None}),
    (ENDPOINT, {**SHELL, "name": "churn-prod", "display_name": "x"}, {}),
    (OBJECT, {}, {"bucket": "models", "name": "ledger/churn/1"}),
    (BUCKET, {"name": "models"}, {}),
]
OTHERS = [
    (ENDPOINT, {}, SHELL),
    (ENDPOINT, SHELL, {**SHELL, "description": "new"}),
    (ENDPOINT, {**SHELL, "display_name": "other"}, {}),
    (OBJECT, {}, {"bucket": "other", "name": "ledger/churn/1"}),
    (BUCKET, {"name": "other"}, {}),
    (BUCKET, {"name": "models"}, {"name": "models", "labels": {}}),
    ("google_service_account", {"name": "models"}, {}),
]


def claimed(type_: str, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    actions = ("create",) if not before else ("update",) if after else ("delete",)
    change = PlannedChange(
        address=f"{type_}.x", type=type_, actions=actions, before=before, after=after
    )
    return Terraform().claim(SETTINGS, DEPLOYED, change)


@pytest.mark.parametrize(("type_", "before", "after"), OURS)
def test_ours(type_: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Traffic, and what holds the history, is not Terraform's to change."""
    assert claimed(type_, before, after)


@pytest.mark.parametrize(("type_", "before", "after"), OTHERS)
def test_not_ours(type_: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """A shell may be made and described, and the rest is somebody else's."""
    assert claimed(type_, before, after) is None


def test_existing(desk: Any, model: str) -> None:
    """The bucket, and endpoints that somebody else made; those of ours stay with us."""
    version = desk.version(3, model=model)
    variant = Variant(name="v", model=model, number=3, digest=version.digest)
    spec = EndpointSpec(name=desk.server.name(), stage="prod", variants=(variant,))
    desk.server.artifacts[version.digest] = version
    serving = desk.start(spec)
    services = desk.provider.services
    request = {"parent": services.parent, "endpoint": {"display_name": "by hand"}}
    services.finish("endpoints", "create_endpoint", request, what="by hand")

    section = desk.provider.store._settings
    found = list(Terraform().existing(desk.provider, section, [model]))
    ours = next(one for one in found if one.id.endswith(f"/{serving.name}"))
    other = next(one for one in found if one.name == "by hand")
    assert (found[0].type, found[0].id) == (BUCKET, f"{section.project}/{section.bucket}")
    assert "numeric names" in ours.kept
    assert (other.kept, other.id.rpartition("/")[2].isdecimal()) == ("", True)
