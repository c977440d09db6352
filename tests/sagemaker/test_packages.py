"""Versions as model packages: what is sent is allowed, and what is shown is read back."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudreg.types import FileEntry, Lineage, Manifest, ModelCard, ModelVersion
from cloudreg_sagemaker import checks, packages
from cloudreg_sagemaker.settings import STAGE_NAMES

ARN = "arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn/3"
STAGES = ("dev", "qa", "staging", "prod")


def version(**manifest: Any) -> ModelVersion:
    made = Manifest(files=(FileEntry(path="w", size=3, sha256="0" * 64),), **manifest)
    return ModelVersion(
        model="churn",
        number=7,
        digest=made.digest,
        manifest=made,
        author="Ada, of »Analytics«",
        created_at="2026-01-01T00:00:00Z",
    )


def request(made: ModelVersion, **options: Any) -> dict[str, Any]:
    built = packages.package_from(
        made,
        image="repo/serve:1",
        data="s3://our-models/versions/1/",
        names=STAGE_NAMES,
        kms_key=options.pop("kms_key", None),
    )
    return {**built, "ClientToken": packages.token("churn", made.digest, withdrawn=0)}


def shown(made: ModelVersion, **fields: Any) -> dict[str, Any]:
    built = request(made)
    listed = ("ModelPackageDescription", "ModelApprovalStatus", "ModelLifeCycle")
    return {**{key: built[key] for key in listed}, "ModelPackageArn": ARN, **fields}


def test_round_trip() -> None:
    """What a listing shows of a new version is the version, without a stage."""
    made = version()
    read = packages.published_from(shown(made), STAGE_NAMES)

    assert read is not None
    assert (read.model, read.number, read.digest) == ("churn", 7, made.digest)
    assert (read.stages, read.native_id) == ((), ARN)


@given(stages=st.sets(st.sampled_from(STAGES)))
def test_stages_round_trip(stages: set[str]) -> None:
    """Whatever stages a package is made to show are read back, and nothing more is to change."""
    change = packages.change_for(ARN, stages, STAGE_NAMES, retired=False)
    checks.check_request("sagemaker", "UpdateModelPackage", change)
    package = {**shown(version()), **change}
    read = packages.published_from(package, STAGE_NAMES)

    assert read is not None
    assert set(read.stages) == stages
    assert packages.is_shown(package, stages, STAGE_NAMES)
    for other in (stages | {"other"}, set(list(stages)[1:]) if stages else {"prod"}):
        assert not packages.is_shown(package, other, STAGE_NAMES)


@pytest.mark.parametrize(
    ("stages", "stage", "status", "approval"),
    [
        ((), "Proposal", "PendingApproval", "PendingManualApproval"),
        (("dev",), "Development", "Approved", "Approved"),
        (("prod", "dev"), "Production", "Approved", "Approved"),
        (("dev", "staging"), "PreProduction", "Approved", "Approved"),
        (("qa",), "qa", "Approved", "Approved"),
        (("dev", "qa"), "Development", "Approved", "Approved"),
    ],
)
def test_console(stages: Iterable[str], stage: str, status: str, approval: str) -> None:
    """A console shows the highest stage, in AWS's words where it has some, and the approval."""
    change = packages.change_for(ARN, stages, STAGE_NAMES, retired=False)
    cycle = change["ModelLifeCycle"]

    assert (cycle["Stage"], cycle["StageStatus"]) == (stage, status)
    assert change["ModelApprovalStatus"] == approval


def test_retired() -> None:
    """A version that lost its last stage is archived, and nobody's approval lets it be deployed."""
    change = packages.change_for(ARN, (), STAGE_NAMES, retired=True)

    assert change["ModelLifeCycle"]["Stage"] == "Archived"
    assert change["ModelApprovalStatus"] == "PendingManualApproval"
    package = {**shown(version()), **change}
    assert packages.was_staged(package)
    assert packages.is_shown(package, (), STAGE_NAMES)


@pytest.mark.parametrize(
    ("fields", "stages"),
    [
        ({"ModelApprovalStatus": "Rejected"}, ()),
        ({"ModelApprovalStatus": None}, ()),
        ({"ModelLifeCycle": {"Stage": "Archived", "StageStatus": "Retired"}}, ()),
        ({"ModelLifeCycle": {"Stage": "Production", "StageStatus": "OnHold"}}, ()),
        ({"ModelLifeCycle": {"Stage": "Production", "StageStatus": "Approved"}}, ("prod",)),
        ({"ModelLifeCycle": {"Stage": "Elsewhere", "StageStatus": "Approved"}}, ()),
        (
            {
                "ModelLifeCycle": {
                    "Stage": "Development",
                    "StageStatus": "Approved",
                    "StageDescription": "cloudreg stages: dev, prod",
                }
            },
            ("dev",),
        ),
        ({"ModelLifeCycle": None}, ()),
    ],
)
def test_changed_by_hand(fields: dict[str, Any], stages: tuple[str, ...]) -> None:
    """After somebody's hand, what a console and an IAM condition show is what counts."""
    change = packages.change_for(ARN, ("staging", "prod"), STAGE_NAMES, retired=False)
    package = {**shown(version()), **change, **fields}
    read = packages.published_from(package, STAGE_NAMES)

    assert read is not None
    assert read.stages == stages
    assert not packages.is_shown(package, ("staging", "prod"), STAGE_NAMES)


@pytest.mark.parametrize(
    "description",
    [None, "", "a model", "cloudreg churn:0 sha256:" + "0" * 64, "cloudreg churn:7 sha256:abc"],
)
def test_not_ours(description: str | None) -> None:
    """A package that cloudreg did not describe is not shown."""
    package = shown(version(), ModelPackageDescription=description)

    assert packages.published_from(package, STAGE_NAMES) is None


@given(
    author=st.text(min_size=1, max_size=300),
    metric=st.text(string.printable, min_size=1, max_size=100).filter(str.isprintable),
    words=st.text(max_size=5000),
)
def test_any_words_are_allowed(author: str, metric: str, words: str) -> None:
    """Whatever people write, SageMaker's own description of its fields allows the request."""
    made = version(
        metrics={metric: 0.5},
        card=ModelCard(intended_use=words, limits=words, bias=words, data=words, owners=words),
        lineage=Lineage(git_commit="0" * 40, git_remote=words or None),
    )
    made = ModelVersion(**{**_fields(made), "author": author})
    built = request(made, kms_key="alias/ours")
    checks.check_request("sagemaker", "CreateModelPackage", built)
    properties = built["CustomerMetadataProperties"]

    assert all(packages.plain(text) == text for text in [*properties, *properties.values()])
    assert all(0 < len(value) <= 256 for value in properties.values())
    assert len(properties) <= 50
    assert len(built["ModelCard"]["ModelCardContent"]) <= 100_000
    assert "\n" not in built["ModelCard"]["ModelCardContent"]


def _fields(made: ModelVersion) -> dict[str, Any]:
    return {name: getattr(made, name) for name in ModelVersion.__slots__}


def test_many_metrics() -> None:
    """More metrics than a package has room for are cut, never ours."""
    made = version(metrics={f"m{n:03}": float(n) for n in range(200)})
    built = request(made)
    checks.check_request("sagemaker", "CreateModelPackage", built)

    assert built["CustomerMetadataProperties"]["cloudreg.digest"] == made.digest
    assert built["CustomerMetadataProperties"]["metric.m001"] == "1.0"


def test_card() -> None:
    """The model card says what people must know, in SageMaker's schema for packages."""
    made = version(
        metrics={"auc": 0.9},
        card=ModelCard(intended_use="churn", limits="not for credit", bias="none found"),
    )
    card = json.loads(packages.card(made))

    assert card["intended_uses"]["intended_uses"] == "churn"
    assert card["additional_information"]["caveats_and_recommendations"] == "not for credit"
    assert card["additional_information"]["ethical_considerations"] == "none found"
    assert card["evaluation_details"][0]["metric_groups"][0]["metric_data"] == [
        {"name": "auc", "type": "number", "value": 0.9}
    ]
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageModelCard.html
    assert set(card["model_overview"]) <= {"model_creator", "model_artifact"}


def test_token() -> None:
    """The token is the version's alone, the same for everybody, and another after a withdrawal."""
    first = packages.token("churn", "sha256:1", withdrawn=0)

    assert first == packages.token("churn", "sha256:1", withdrawn=0)
    others = {
        packages.token("churn", "sha256:2", withdrawn=0),
        packages.token("fraud", "sha256:1", withdrawn=0),
        packages.token("churn", "sha256:1", withdrawn=1),
    }
    assert len({first, *others}) == 4
    checks.check_value("ClientToken", first)
