"""``SimulatePrincipalPolicy`` decides as IAM does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cloudreg_emulator.aws import aws
from cloudreg_emulator.aws.iam.policies import Policy, UnknownCondition, decide

BUCKET = "arn:aws:s3:::artifacts"
ANY = "*"

# One session for all: what it costs to make a client is mostly reading the service's model.
SESSION = boto3.session.Session(
    aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = ANY, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = ANY, **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "outcome"),
    [
        ([], "s3:GetObject", ANY, "implicitDeny"),
        ([allow("s3:GetObject")], "s3:GetObject", f"{BUCKET}/k", "allowed"),
        ([allow("s3:getobject")], "s3:GetObject", ANY, "allowed"),
        ([allow("s3:Get*")], "s3:GetObject", ANY, "allowed"),
        ([allow("s3:GetObjec?")], "s3:GetObject", ANY, "allowed"),
        ([allow("*")], "iam:PassRole", ANY, "allowed"),
        ([allow("s3:Put*")], "s3:GetObject", ANY, "implicitDeny"),
        ([allow(["a:B", "s3:GetObject"])], "s3:GetObject", ANY, "allowed"),
        ([allow("s3:*", f"{BUCKET}/*")], "s3:GetObject", f"{BUCKET}/k", "allowed"),
        ([allow("s3:*", f"{BUCKET}/*")], "s3:GetObject", "arn:aws:s3:::other/k", "implicitDeny"),
        ([allow("s3:*", BUCKET.upper())], "s3:GetObject", BUCKET, "implicitDeny"),
        ([allow("s3:*", f"{BUCKET}/[k]")], "s3:GetObject", f"{BUCKET}/k", "implicitDeny"),
        ([allow("s3:*"), deny("s3:Delete*")], "s3:DeleteObject", ANY, "explicitDeny"),
        ([deny("s3:Delete*"), allow("s3:*")], "s3:DeleteObject", ANY, "explicitDeny"),
        (
            [{"Effect": "Allow", "NotAction": "iam:*", "Resource": ANY}],
            "s3:GetObject",
            ANY,
            "allowed",
        ),
        (
            [{"Effect": "Allow", "NotAction": "iam:*", "Resource": ANY}],
            "iam:PassRole",
            ANY,
            "implicitDeny",
        ),
        (
            [{"Effect": "Allow", "Action": "s3:*", "NotResource": f"{BUCKET}/*"}],
            "s3:GetObject",
            f"{BUCKET}/k",
            "implicitDeny",
        ),
    ],
)
def test_statements(
    statements: list[dict[str, Any]], action: str, resource: str, outcome: str
) -> None:
    """A deny beats an allow, and what nobody allows is denied."""
    policy = Policy(name="p", kind="user", document=document(*statements))

    assert decide([policy], action, resource, {}).outcome == outcome


STAGE = "sagemaker:ModelLifeCycle:stage"


@pytest.mark.parametrize(
    ("condition", "given", "holds"),
    [
        ({"StringEquals": {STAGE: "Production"}}, ["Production"], True),
        ({"StringEquals": {STAGE: ["Development", "Production"]}}, ["Production"], True),
        ({"StringEquals": {STAGE: "Production"}}, ["production"], False),
        ({"StringEqualsIgnoreCase": {STAGE: "Production"}}, ["production"], True),
        ({"StringEquals": {STAGE: "Production"}}, None, False),
        ({"StringEqualsIfExists": {STAGE: "Production"}}, None, True),
        ({"StringNotEquals": {STAGE: "Production"}}, ["Development"], True),
        ({"StringNotEquals": {STAGE: "Production"}}, ["Production"], False),
        ({"StringNotEquals": {STAGE: "Production"}}, None, True),
        ({"StringLike": {STAGE: "Prod*"}}, ["Production"], True),
        ({"ArnLike": {STAGE: "arn:aws:iam::*:role/x"}}, ["arn:aws:iam::1:role/x"], True),
        ({"Bool": {STAGE: True}}, ["true"], True),
        ({"Bool": {STAGE: "true"}}, ["false"], False),
        ({"Null": {STAGE: "true"}}, None, True),
        ({"Null": {STAGE: "false"}}, None, False),
        ({"NumericLessThanEquals": {STAGE: "5"}}, ["5"], True),
        ({"NumericGreaterThan": {STAGE: 5}}, ["5"], False),
        ({"ForAllValues:StringEquals": {STAGE: ["a", "b"]}}, ["a", "b"], True),
        ({"ForAllValues:StringEquals": {STAGE: ["a"]}}, ["a", "b"], False),
        ({"ForAllValues:StringEquals": {STAGE: ["a"]}}, None, True),
        ({"ForAnyValue:StringEquals": {STAGE: ["a"]}}, ["a", "b"], True),
        ({"StringEquals": {STAGE: "a", "x:y": "b"}}, ["a"], False),
    ],
)
def test_conditions(condition: dict[str, Any], given: list[str] | None, holds: bool) -> None:
    """A condition holds as its operator says, also where the key was not given."""
    policy = Policy(name="p", kind="user", document=document(allow("*", Condition=condition)))
    context = {} if given is None else {STAGE.lower(): given}

    decision = decide([policy], "sagemaker:UpdateModelPackage", ANY, context)

    assert decision.outcome == ("allowed" if holds else "implicitDeny")
    assert (STAGE in decision.missing) == (given is None)


def test_unknown_operator() -> None:
    """An operator that is not emulated is refused, and never taken for one that holds."""
    statement = allow("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    policy = Policy(name="p", kind="user", document=document(statement))

    with pytest.raises(UnknownCondition, match="IpAddress"):
        decide([policy], "s3:GetObject", ANY, {})


@pytest.fixture
def iam() -> Iterator[Any]:
    """IAM in process."""
    with aws():
        yield SESSION.client("iam")


def decisions(iam: Any, arn: str, *actions: str, **more: Any) -> list[str]:
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=list(actions), **more)
    assert answer["IsTruncated"] is False
    return [result["EvalDecision"] for result in answer["EvaluationResults"]]


def test_role(iam: Any) -> None:
    """A role's inline and attached policies decide, and the answer names which."""
    trust = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}})
    role = iam.create_role(RoleName="r", Path="/ml/", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName="r", PolicyName="own", PolicyDocument=document(allow("s3:Get*")))
    managed = iam.create_policy(PolicyName="shared", PolicyDocument=document(deny("s3:Delete*")))
    iam.attach_role_policy(RoleName="r", PolicyArn=managed["Policy"]["Arn"])

    answer = iam.simulate_principal_policy(
        PolicySourceArn=role,
        ActionNames=["s3:GetObject", "s3:DeleteObject", "s3:PutObject"],
        ResourceArns=[f"{BUCKET}/k"],
    )["EvaluationResults"]

    assert [(r["EvalActionName"], r["EvalDecision"]) for r in answer] == [
        ("s3:GetObject", "allowed"),
        ("s3:DeleteObject", "explicitDeny"),
        ("s3:PutObject", "implicitDeny"),
    ]
    assert [s["SourcePolicyId"] for s in answer[1]["MatchedStatements"]] == ["shared"]
    assert {r["EvalResourceName"] for r in answer} == {f"{BUCKET}/k"}


def test_newest_version_of_a_policy(iam: Any) -> None:
    """The default version of a managed policy decides."""
    trust = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}})
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(allow("s3:*")))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)

    iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=document(deny("s3:*")), SetAsDefault=True
    )

    assert decisions(iam, role, "s3:GetObject") == ["explicitDeny"]


def test_boundary(iam: Any) -> None:
    """A permissions boundary takes away, and gives nothing."""
    trust = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}})
    boundary = iam.create_policy(PolicyName="b", PolicyDocument=document(allow("s3:Get*")))
    role = iam.create_role(
        RoleName="r",
        AssumeRolePolicyDocument=trust,
        PermissionsBoundary=boundary["Policy"]["Arn"],
    )["Role"]["Arn"]
    iam.put_role_policy(RoleName="r", PolicyName="own", PolicyDocument=document(allow("s3:*Obj*")))

    asked = ("s3:GetObject", "s3:PutObject", "s3:GetBucketAcl")
    assert decisions(iam, role, *asked) == ["allowed", "implicitDeny", "implicitDeny"]


def test_user_and_group(iam: Any) -> None:
    """A user has the policies of the groups that it is in."""
    user = iam.create_user(UserName="u")["User"]["Arn"]
    iam.create_group(GroupName="g")
    iam.put_group_policy(GroupName="g", PolicyName="p", PolicyDocument=document(allow("s3:*")))
    assert decisions(iam, user, "s3:GetObject") == ["implicitDeny"]

    iam.add_user_to_group(GroupName="g", UserName="u")

    assert decisions(iam, user, "s3:GetObject") == ["allowed"]


def test_context_and_further_policies(iam: Any) -> None:
    """Context is compared without regard to case of its keys, and further policies count."""
    user = iam.create_user(UserName="u")["User"]["Arn"]
    only = allow("sagemaker:*", Condition={"StringEquals": {STAGE: "Development"}})

    for stage, outcome in (("Development", "allowed"), ("Production", "implicitDeny")):
        context = {
            "ContextKeyName": STAGE.upper(),
            "ContextKeyValues": [stage],
            "ContextKeyType": "string",
        }
        found = decisions(
            iam,
            user,
            "sagemaker:UpdateModelPackage",
            PolicyInputList=[document(only)],
            ContextEntries=[context],
        )
        assert found == [outcome]


def test_pages(iam: Any) -> None:
    """Answers come in pages."""
    user = iam.create_user(UserName="u")["User"]["Arn"]
    actions = [f"s3:Action{n}" for n in range(5)]

    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=user, ActionNames=actions, PaginationConfig={"PageSize": 2}
    )
    found = [[r["EvalActionName"] for r in page["EvaluationResults"]] for page in pages]

    assert found == [actions[:2], actions[2:4], actions[4:]]


@pytest.mark.parametrize(
    ("arn", "action", "code"),
    [
        ("arn:aws:iam::123456789012:role/absent", "s3:GetObject", "NoSuchEntity"),
        ("arn:aws:iam::123456789012:user/absent", "s3:GetObject", "NoSuchEntity"),
        ("arn:aws:iam::123456789012:policy/p", "s3:GetObject", "InvalidInput"),
        ("arn:aws:s3:::a-bucket-of-somebody", "s3:GetObject", "InvalidInput"),
        ("arn:aws:iam::123456789012:user/there", "GetObject", "InvalidInput"),
    ],
)
def test_refused(iam: Any, arn: str, action: str, code: str) -> None:
    """Whoever is not there has no policies."""
    iam.create_user(UserName="there")

    with pytest.raises(ClientError) as caught:
        decisions(iam, arn, action)

    assert caught.value.response["Error"]["Code"] == code
