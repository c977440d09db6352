"""The deployer's policy: what it allows, on what, and what a stage keeps out."""

from __future__ import annotations

import json
from typing import Any

from cloudreg.provider import Deployed
from cloudreg_emulator.aws.iam.policies import ALLOWED, EXPLICIT_DENY, Policy, decide
from cloudreg_sagemaker import PLUGIN, actions

AT = "arn:aws:sagemaker:us-east-1:123456789012:"
CHURN = Deployed(models=("churn",), endpoints=("churn-prod",), stages=("dev", "staging", "prod"))
STAGING = Deployed(models=("churn",), stages=("dev", "staging"), others=("prod",))


def outcome(document: Any, action: str, resource: str, **context: str) -> str:
    policy = Policy(name="deployer", kind="role", document=json.dumps(document))
    given = {key.replace("__", ":").lower(): [value] for key, value in context.items()}
    return decide([policy], action, resource, given).outcome


def policy(cloud: Any, deployed: Deployed, **more: Any) -> Any:
    assert PLUGIN.policy is not None
    return PLUGIN.policy(PLUGIN.settings()(**{**cloud.section, **more}), deployed)


def test_every_action_is_in_it(cloud: Any) -> None:
    """The policy has every action that is called or checked, no other, and fits into IAM."""
    document = policy(cloud, CHURN, kms_key="alias/models")
    found = {action for one in document["Statement"] for action in one["Action"]}

    assert found == actions.ACTIONS | set(actions.GRANTED_WITH)
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144


def test_only_what_is_configured(cloud: Any) -> None:
    """Other people's models, endpoints, objects and roles are out of reach."""
    document = policy(cloud, CHURN)
    for action, ours, theirs in (
        ("sagemaker:DeleteEndpoint", f"{AT}endpoint/churn-prod", f"{AT}endpoint/other"),
        ("sagemaker:DeleteModelPackage", f"{AT}model-package/churn/7", f"{AT}model-package/x/7"),
        ("s3:PutObject", "arn:aws:s3:::our-models/team/churn/a", "arn:aws:s3:::our-models/a"),
    ):
        assert outcome(document, action, ours) == ALLOWED, action
        assert outcome(document, action, theirs) != ALLOWED, action
    role = cloud.section["role"]
    passed = {"iam__PassedToService": "sagemaker.amazonaws.com"}
    assert outcome(document, "iam:PassRole", role, **passed) == ALLOWED
    assert outcome(document, "iam:PassRole", role) != ALLOWED
    assert outcome(document, "iam:PassRole", f"{role}-admin", **passed) != ALLOWED


def test_a_stage_is_a_limit(cloud: Any) -> None:
    """Who deploys up to staging shows nothing in production, in the registry or beside it."""
    document = policy(cloud, STAGING)
    package = f"{AT}model-package/churn/7"
    for stage, wanted in (("PreProduction", True), ("Archived", True), ("Production", False)):
        said = outcome(
            document,
            "sagemaker:UpdateModelPackage",
            package,
            sagemaker__ModelLifeCycle__stage=stage,
        )
        assert (said == ALLOWED) is wanted, stage
    pointer = "arn:aws:s3:::our-models/team/churn/sagemaker/us-east-1/registry/churn/stages/"
    assert outcome(document, "s3:PutObject", f"{pointer}staging/000001-{64 * 'a'}") == ALLOWED
    assert outcome(document, "s3:PutObject", f"{pointer}prod/000001-{64 * 'a'}") == EXPLICIT_DENY


def test_endpoints_of_other_stages(cloud: Any) -> None:
    """Who deploys up to staging, where nothing is deployed, cannot touch production's endpoint."""
    document = policy(cloud, STAGING)

    assert outcome(document, "sagemaker:DeleteEndpoint", f"{AT}endpoint/churn-prod") != ALLOWED
    assert outcome(document, "sagemaker:CreateModel", f"{AT}model/churn-1") == ALLOWED
