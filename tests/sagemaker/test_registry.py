"""What a console, an IAM condition and another client see of versions, and what repairs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import AlreadyExists, ConfigError, NotFound
from cloudreg.testing.base import fresh, make_version
from cloudreg.types import FileEntry, Manifest, ModelVersion
from cloudreg_emulator.faults import Fault, Kind

BUCKET = "our-models"


def raw(desk: Any, made: ModelVersion) -> dict[str, Any]:
    """Return the package as any client sees it."""
    (shown,) = [p for p in desk.registry.published(made.model) if p.digest == made.digest]
    return dict(desk.client.describe_model_package(ModelPackageName=shown.native_id))


def stage(desk: Any, made: ModelVersion) -> tuple[str, str, str]:
    package = raw(desk, made)
    cycle = package["ModelLifeCycle"]
    return cycle["Stage"], cycle["StageStatus"], package["ModelApprovalStatus"]


def shown(desk: Any, model: str) -> dict[int, tuple[str, ...]]:
    return {p.number: p.stages for p in desk.registry.published(model)}


@pytest.fixture
def versions(desk: Any, model: str) -> list[ModelVersion]:
    made = [desk.version(number, model=model) for number in (1, 2)]
    for one in made:
        desk.registry.publish(one)
    return made


NEW = ("Proposal", "PendingApproval", "PendingManualApproval")
IN_PROD = ("Production", "Approved", "Approved")
RETIRED = ("Archived", "Retired", "PendingManualApproval")


def test_package(desk: Any, model: str) -> None:
    """A package names image, files and identity: whoever deploys it by hand gets the version."""
    made = desk.version(7, model=model)
    desk.registry.publish(made)
    package = raw(desk, made)
    (container,) = package["InferenceSpecification"]["Containers"]
    source = container["ModelDataSource"]["S3DataSource"]
    prefix = f"team/churn/versions/{made.digest.removeprefix('sha256:')}/"
    listed = desk.cloud.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]

    assert source["S3Uri"] == f"s3://{BUCKET}/{prefix}"
    assert (source["S3DataType"], source["CompressionType"]) == ("S3Prefix", "None")
    assert [o["Key"].removeprefix(prefix) for o in listed] == [
        ".cloudreg/manifest.json",
        "weights.txt",
    ]
    assert container["Environment"]["CLOUDREG_DIGEST"] == made.digest
    assert package["CustomerMetadataProperties"]["cloudreg.digest"] == made.digest
    assert package["CustomerMetadataProperties"]["cloudreg.number"] == "7"
    assert package["ModelPackageDescription"] == f"cloudreg {model}:7 {made.digest}"
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    tags = desk.client.list_tags(
        ResourceArn=desk.client.describe_model_package_group(ModelPackageGroupName=model)[
            "ModelPackageGroupArn"
        ]
    )["Tags"]
    assert {"Key": "cloudreg", "Value": model} in tags


def test_console_after_promotion_and_rollback(desk: Any, versions: list[ModelVersion]) -> None:
    """Stage, status and approval are right after every move, forwards and backwards."""
    one, two = versions
    assert stage(desk, one) == NEW
    desk.registry.point(one.model, "prod", one.digest)
    assert stage(desk, one) == IN_PROD
    desk.registry.point(one.model, "prod", two.digest)
    assert (stage(desk, one), stage(desk, two)) == (RETIRED, IN_PROD)
    desk.registry.point(one.model, "prod", one.digest)
    assert (stage(desk, one), stage(desk, two)) == (IN_PROD, RETIRED)
    desk.registry.point(one.model, "prod", None)
    assert (stage(desk, one), stage(desk, two)) == (RETIRED, RETIRED)


def test_highest_stage_shows(desk: Any, versions: list[ModelVersion]) -> None:
    """Of several stages the console shows the highest; the metadata name them all."""
    one, _ = versions
    for name in ("prod", "dev", "staging"):
        desk.registry.point(one.model, name, one.digest)

    assert stage(desk, one) == IN_PROD
    assert raw(desk, one)["CustomerMetadataProperties"]["cloudreg.stages"] == "dev staging prod"
    desk.registry.point(one.model, "prod", None)
    assert stage(desk, one)[0] == "PreProduction"


@pytest.mark.parametrize(
    "edit",
    [
        {"ModelApprovalStatus": "Rejected"},
        {"ModelLifeCycle": {"Stage": "Archived", "StageStatus": "Retired"}},
        {"ModelLifeCycle": {"Stage": "Development", "StageStatus": "Approved"}},
    ],
)
def test_edited_holder(desk: Any, versions: list[ModelVersion], edit: dict[str, Any]) -> None:
    """A holder that somebody changed by hand is seen to differ, and pointing repairs it."""
    one, _ = versions
    desk.registry.point(one.model, "prod", one.digest)
    desk.client.update_model_package(ModelPackageArn=raw(desk, one)["ModelPackageArn"], **edit)
    assert "prod" not in shown(desk, one.model)[1]

    desk.registry.point(one.model, "prod", one.digest)
    assert stage(desk, one) == IN_PROD
    assert shown(desk, one.model) == {2: (), 1: ("prod",)}


def test_promoted_by_hand(desk: Any, versions: list[ModelVersion]) -> None:
    """A second version that somebody put into production by hand is seen, and put back."""
    one, two = versions
    desk.registry.point(one.model, "prod", one.digest)
    desk.client.update_model_package(
        ModelPackageArn=raw(desk, two)["ModelPackageArn"],
        ModelApprovalStatus="Approved",
        ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"},
    )
    assert shown(desk, one.model) == {2: ("prod",), 1: ("prod",)}

    desk.registry.point(one.model, "prod", one.digest)
    assert shown(desk, one.model) == {2: (), 1: ("prod",)}


def test_deleted_by_hand(desk: Any, versions: list[ModelVersion]) -> None:
    """A package that somebody deleted cannot be pointed to; published again, it is there again."""
    one, _ = versions
    arn = raw(desk, one)["ModelPackageArn"]
    desk.client.delete_model_package(ModelPackageName=arn)
    with pytest.raises(NotFound):
        desk.registry.point(one.model, "prod", one.digest)
    assert shown(desk, one.model) == {2: ()}

    assert desk.registry.publish(one).native_id != arn
    desk.registry.point(one.model, "prod", one.digest)
    assert shown(desk, one.model) == {2: (), 1: ("prod",)}


def test_group_deleted_by_hand(desk: Any, model: str) -> None:
    """A group that somebody deleted, empty as it must be, is made again with the next version."""
    one = desk.version(1, model=model)
    desk.registry.publish(one)
    desk.registry.withdraw(model, one.digest)
    desk.client.delete_model_package_group(ModelPackageGroupName=model)

    desk.registry.publish(one)
    assert shown(desk, model) == {1: ()}


def test_foreign_group(desk: Any, model: str) -> None:
    """A group that cloudreg did not make is left alone, until its owner tags it."""
    arn = desk.client.create_model_package_group(ModelPackageGroupName=model)[
        "ModelPackageGroupArn"
    ]
    one = desk.version(1, model=model)
    with pytest.raises(AlreadyExists, match="did not make it") as caught:
        desk.registry.publish(one)
    assert f"add-tags --resource-arn {arn}" in str(caught.value.hint)
    assert (
        desk.client.list_model_packages(ModelPackageGroupName=model)["ModelPackageSummaryList"]
        == []
    )

    desk.client.add_tags(ResourceArn=arn, Tags=[{"Key": "cloudreg", "Value": model}])
    assert desk.registry.publish(one).number == 1


def test_packages_of_others(desk: Any, versions: list[ModelVersion]) -> None:
    """A package that somebody else put into the group is not shown, and not touched."""
    one, _ = versions
    foreign = desk.client.create_model_package(
        ModelPackageGroupName=one.model,
        ModelPackageDescription="by hand",
        ModelApprovalStatus="Approved",
        ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"},
        InferenceSpecification={
            "Containers": [{"Image": "repo/serve:1", "ModelDataUrl": f"s3://{BUCKET}/x.tar.gz"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )["ModelPackageArn"]
    desk.registry.point(one.model, "prod", one.digest)

    assert shown(desk, one.model) == {2: (), 1: ("prod",)}
    after = desk.client.describe_model_package(ModelPackageName=foreign)
    assert after["ModelLifeCycle"]["Stage"] == "Production"


@pytest.mark.parametrize("status", [500, 503, 0])
def test_lost_answer(desk: Any, model: str, status: int) -> None:
    """A package whose answer was lost is not made twice."""
    one = desk.version(1, model=model)
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.LOST, service="sagemaker", operation="CreateModelPackage", status=status)
    )
    desk.registry.publish(one)

    assert armed.struck == 1
    listed = desk.client.list_model_packages(ModelPackageGroupName=model)
    assert len(listed["ModelPackageSummaryList"]) == 1


def test_crash_before_the_record(desk: Any, model: str) -> None:
    """A package that nobody wrote down, because its maker died, is found and not doubled."""
    one = desk.version(1, model=model)
    said = desk.registry.publish(one)
    desk.registry.point(model, "prod", one.digest)
    digest = one.digest.removeprefix("sha256:")
    desk.provider.store.delete(f"sagemaker/us-east-1/registry/{model}/digests/{digest}")

    again = desk.registry.publish(one)
    assert (again.native_id, again.stages) == (said.native_id, ("prod",))
    assert list(desk.registry.published(model)) == [again]


def test_stale_lists(desk: Any, model: str) -> None:
    """Listings that show what was a minute ago mislead nobody: one version ends in production."""
    one, two = (desk.version(number, model=model) for number in (1, 2))
    armed = desk.cloud.faults.arm(
        Fault(kind=Kind.STALE, service="sagemaker", operation="List*", count=50, seconds=3600.0)
    )
    for made in (one, two):
        desk.registry.publish(made)
        desk.registry.point(model, "prod", made.digest)
    assert armed.struck > 0
    desk.cloud.faults.disarm()

    assert shown(desk, model) == {2: ("prod",), 1: ()}
    assert stage(desk, one) == RETIRED


def test_lists_from_before_a_move(desk: Any, versions: list[ModelVersion]) -> None:
    """A listing from before the last move does not leave two versions in production."""
    one, two = versions
    gap_s = 1.0
    time.sleep(gap_s)  # the age of what the listing shows is what this is about
    began = time.monotonic()
    desk.registry.point(one.model, "prod", one.digest)
    armed = desk.cloud.faults.arm(
        Fault(
            kind=Kind.STALE,
            service="sagemaker",
            operation="List*",
            count=50,
            seconds=time.monotonic() - began + gap_s,
        )
    )
    desk.registry.point(one.model, "prod", two.digest)
    assert armed.struck > 0
    desk.cloud.faults.disarm()

    assert (stage(desk, one), stage(desk, two)) == (RETIRED, IN_PROD)


def test_no_image(opened: Callable[..., Any], model: str) -> None:
    """A version without any image is refused, with the line to write, and nothing is made."""
    desk = opened(image=None)
    with pytest.raises(ConfigError, match="no container image") as caught:
        desk.registry.publish(desk.version(1, model=model))

    assert str(caught.value.hint).startswith("image = ")
    assert list(desk.registry.published(model)) == []


def test_missing_file(desk: Any, model: str) -> None:
    """A version whose file is not in the store is not shown."""
    one = make_version(desk.provider.store, 1, model=model, lost=model.encode())
    desk.provider.store.delete(one.manifest.files[0].key)
    with pytest.raises(NotFound, match="is not in the store"):
        desk.registry.publish(one)

    assert list(desk.registry.published(model)) == []


def test_strange_file(desk: Any, model: str) -> None:
    """What somebody put beside a version's files would be served with them: it is refused."""
    one = make_version(desk.provider.store, 1, model=model, w=fresh("w").encode())
    prefix = f"versions/{one.digest.removeprefix('sha256:')}/"
    desk.provider.store.put(b"import os", f"{prefix}code/sitecustomize.py")
    with pytest.raises(Exception, match=r"sitecustomize\.py is no file of it"):
        desk.registry.publish(one)

    assert list(desk.registry.published(model)) == []


def test_metrics(desk: Any, model: str) -> None:
    """The metrics are where SageMaker looks for them, and in the metadata that people search."""
    content = make_version(desk.provider.store, 1, model=model)
    manifest = Manifest(
        files=(FileEntry(**_entry(content)),), metrics={"val_auc": 0.91}, labels={"a": model}
    )
    digest = manifest.digest.removeprefix("sha256:")
    desk.provider.store.put(manifest.encode(), f"manifests/{digest}")
    made = ModelVersion(
        model=model,
        number=1,
        digest=manifest.digest,
        manifest=manifest,
        author="ada",
        created_at="2026-01-01T00:00:00Z",
    )
    desk.registry.publish(made)
    package = raw(desk, made)
    uri = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    body = desk.cloud.client("s3").get_object(
        Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/")
    )["Body"]

    assert json.loads(body.read())["cloudreg_metrics"]["val_auc"]["value"] == 0.91
    assert package["CustomerMetadataProperties"]["metric.val_auc"] == "0.91"


def _entry(version: ModelVersion) -> dict[str, Any]:
    (entry,) = version.manifest.files
    return {"path": entry.path, "size": entry.size, "sha256": entry.sha256}


def test_a_listing_is_enough(desk: Any, model: str) -> None:
    """However many versions there are, pages of a listing show them all: no call for each."""
    desk.client.create_model_package_group(ModelPackageGroupName=model)
    for number in range(1, 121):
        desk.client.create_model_package(
            ModelPackageGroupName=model,
            ModelPackageDescription=f"cloudreg {model}:{number} sha256:{number:064x}",
            InferenceSpecification={
                "Containers": [{"Image": "repo/serve:1"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
        )
    with desk.cloud.noted() as calls:
        found = list(desk.registry.published(model))

    assert [p.number for p in found] == list(range(120, 0, -1))
    assert calls == ["ListModelPackages"] * 2


def test_published_again_asks_once(desk: Any, versions: list[ModelVersion]) -> None:
    """A version that is shown already costs one question."""
    with desk.cloud.noted() as calls:
        desk.registry.publish(versions[0])

    assert calls == ["DescribeModelPackage"]


def test_pointing_again_changes_nothing(desk: Any, versions: list[ModelVersion]) -> None:
    """A stage that is right already costs no change."""
    one, _ = versions
    desk.registry.point(one.model, "prod", one.digest)
    with desk.cloud.noted() as calls:
        desk.registry.point(one.model, "prod", one.digest)

    assert set(calls) == {"DescribeModelPackage", "ListModelPackages"}


def test_withdraw(desk: Any, versions: list[ModelVersion]) -> None:
    """A withdrawn version's package is gone for every client."""
    arn = raw(desk, versions[0])["ModelPackageArn"]
    desk.registry.withdraw(versions[0].model, versions[0].digest)

    with pytest.raises(desk.client.exceptions.ClientError, match="does not exist"):
        desk.client.describe_model_package(ModelPackageName=arn)


def test_native(desk: Any, versions: list[ModelVersion]) -> None:
    """The vendor's own object is handed over as boto3 returns it."""
    one = versions[0]
    native = desk.registry.native(one.model, one.digest)

    assert native["ModelPackageDescription"].endswith(one.digest)
    with pytest.raises(NotFound):
        desk.registry.native(one.model, "sha256:" + "0" * 64)
