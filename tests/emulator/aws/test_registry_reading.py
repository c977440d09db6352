"""The registry is read in lists, pages, batches and searches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

REGION = "us-east-1"
ACCOUNT = "123456789012"
PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
PACKAGE = f"{PREFIX}:model-package/churn"
SUMMARIES = "ModelPackageSummaryList"


@pytest.fixture
def versions(client: Any, make: Any) -> list[str]:
    """Twelve versions, every third approved, the last in production, and one of another group."""
    make.group()
    make.group("other")
    arns = [
        make.package(
            ModelApprovalStatus="Approved" if number % 3 == 0 else "Rejected",
            ModelPackageDescription=f"churn:{number}",
            CustomerMetadataProperties={"number": str(number)},
            ModelLifeCycle={
                "Stage": "Production" if number == 12 else "Development",
                "StageStatus": "Approved",
            },
        )
        for number in range(1, 13)
    ]
    make.package("other")
    return arns


def listed(client: Any, **request: Any) -> list[int]:
    found = client.list_model_packages(ModelPackageGroupName="churn", **request)
    return [one["ModelPackageVersion"] for one in found[SUMMARIES]]


def test_lists(client: Any, versions: list[str]) -> None:
    """A list is of one group, ten a page, in the order of creation, and says what a list says."""
    assert listed(client) == list(range(1, 11))
    assert listed(client, MaxResults=100) == list(range(1, 13))
    assert listed(client, SortOrder="Descending", MaxResults=3) == [12, 11, 10]
    assert listed(client, ModelApprovalStatus="Approved") == [3, 6, 9, 12]
    assert listed(client, ModelPackageType="Unversioned") == []
    [last] = client.list_model_packages(
        ModelPackageGroupName="churn", SortOrder="Descending", MaxResults=1
    )[SUMMARIES]
    assert last["ModelPackageDescription"] == "churn:12"
    assert last["ModelLifeCycle"] == {"Stage": "Production", "StageStatus": "Approved"}
    assert last["ModelApprovalStatus"] == "Approved"
    # No summary says what the customer's metadata is. Source: ModelPackageSummary.
    assert "CustomerMetadataProperties" not in last


def test_versions_have_no_name_of_their_own(client: Any, make: Any) -> None:
    """A version shows the name of its group alone, and a package without a group its own."""
    make.group()
    arn = make.package()
    client.create_model_package(
        ModelPackageName="lone", InferenceSpecification=make.specification()
    )
    both = client.list_model_packages(ModelPackageType="Both")[SUMMARIES]
    found = client.search(Resource="ModelPackage")["Results"]

    described = client.describe_model_package(ModelPackageName=arn)
    assert (described["ModelPackageGroupName"], described["ModelPackageVersion"]) == ("churn", 1)
    assert "ModelPackageName" not in described
    assert [one.get("ModelPackageName") for one in both] == [None, "lone"]
    assert {one["ModelPackage"].get("ModelPackageName") for one in found} == {None, "lone"}
    # It is found by its group's name all the same.
    named = client.list_model_packages(NameContains="chu", ModelPackageType="Both")[SUMMARIES]
    assert [one["ModelPackageArn"] for one in named] == [arn]


def test_lists_by_time(client: Any, versions: list[str]) -> None:
    """A list is bounded by the time of creation."""
    now = datetime.now(UTC)

    assert listed(client, CreationTimeAfter=now - timedelta(hours=1), MaxResults=2) == [1, 2]
    assert listed(client, CreationTimeAfter=now + timedelta(hours=1)) == []
    assert listed(client, CreationTimeBefore=now - timedelta(hours=1)) == []


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_pages_hide_nothing(client: Any, make: Any, versions: list[str], order: str) -> None:
    """What is created and deleted between two pages neither repeats nor hides a version."""
    request = {"ModelPackageGroupName": "churn", "SortOrder": order, "MaxResults": 5}
    first = client.list_model_packages(**request)
    client.delete_model_package(ModelPackageName=first[SUMMARIES][0]["ModelPackageArn"])
    make.package()

    seen = [one["ModelPackageVersion"] for one in first[SUMMARIES]]
    token = first["NextToken"]
    while token:
        page = client.list_model_packages(**request, NextToken=token)
        seen += [one["ModelPackageVersion"] for one in page[SUMMARIES]]
        token = page.get("NextToken")

    wanted = list(range(1, 13))
    if order == "Ascending":
        assert seen == [*wanted, 13]
    else:
        assert seen == wanted[::-1]


def test_a_paginator_reads_all(client: Any, versions: list[str]) -> None:
    """boto3's own paginator reads every version once."""
    pages = client.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName="churn", PaginationConfig={"PageSize": 5}
    )

    found = [one["ModelPackageArn"] for page in pages for one in page[SUMMARIES]]
    assert found == versions


def test_groups_by_name(client: Any, make: Any) -> None:
    """Groups are found by a part of their name, in any case, and sorted by it."""
    for name in ("beta", "alpha", "gamma"):
        make.group(name)

    def names(**request: Any) -> list[str]:
        found = client.list_model_package_groups(**request)["ModelPackageGroupSummaryList"]
        return [one["ModelPackageGroupName"] for one in found]

    assert names() == ["beta", "alpha", "gamma"]
    assert names(SortBy="Name") == ["alpha", "beta", "gamma"]
    assert names(SortBy="Name", SortOrder="Descending") == ["gamma", "beta", "alpha"]
    assert names(NameContains="ETA") == ["beta"]


def test_many_at_once(client: Any, versions: list[str]) -> None:
    """BatchDescribe returns what there is and an error for the rest; no stage, no metadata."""
    found = client.batch_describe_model_package(ModelPackageArnList=[versions[0], f"{PACKAGE}/99"])

    [summary] = found["ModelPackageSummaries"].values()
    assert summary["ModelPackageArn"] == versions[0]
    assert summary["InferenceSpecification"]["Containers"]
    assert "ModelLifeCycle" not in summary
    assert "CustomerMetadataProperties" not in summary
    [error] = found["BatchDescribeModelPackageErrorMap"].values()
    assert error["ErrorCode"] == "ValidationException"
    assert error["ErrorResponse"] == f"ModelPackage {PACKAGE}/99 does not exist."


GROUP = {"Name": "ModelPackageGroupName", "Operator": "Equals", "Value": "churn"}


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([GROUP], list(range(1, 11))),
        ([GROUP, {"Name": "ModelApprovalStatus", "Value": "Approved"}], [3, 6, 9, 12]),
        ([{"Name": "ModelLifeCycle.Stage", "Value": "Production"}], [12]),
        (
            [GROUP, {"Name": "ModelPackageVersion", "Operator": "GreaterThan", "Value": "10"}],
            [11, 12],
        ),
        (
            [GROUP, {"Name": "ModelPackageVersion", "Operator": "LessThanOrEqualTo", "Value": "2"}],
            [1, 2],
        ),
        ([GROUP, {"Name": "ModelPackageVersion", "Operator": "In", "Value": "2, 4"}], [2, 4]),
        (
            [GROUP, {"Name": "ModelApprovalStatus", "Operator": "NotEquals", "Value": "Rejected"}],
            [3, 6, 9, 12],
        ),
        (
            [{"Name": "ModelPackageDescription", "Operator": "Contains", "Value": "CHURN:7"}],
            [7],
        ),
        ([{"Name": "CustomerMetadataProperties.number", "Value": "5"}], [5]),
        ([GROUP, {"Name": "ModelCard", "Operator": "Exists"}], []),
        (
            [
                {"Name": "ModelPackageGroupName", "Value": "other"},
                {"Name": "ModelCard", "Operator": "NotExists"},
            ],
            [1],
        ),
        (
            [
                GROUP,
                {"Name": "CreationTime", "Operator": "LessThan", "Value": "2020-01-01T00:00:00Z"},
            ],
            [],
        ),
    ],
)
def test_search(
    client: Any, versions: list[str], filters: list[dict[str, str]], wanted: list[int]
) -> None:
    """Search finds versions by group, approval, stage, metadata and the rest, ten a page."""
    found = client.search(
        Resource="ModelPackage", SearchExpression={"Filters": filters}, SortOrder="Ascending"
    )

    assert [one["ModelPackage"]["ModelPackageVersion"] for one in found["Results"]] == wanted


def test_search_with_subexpressions(client: Any, versions: list[str]) -> None:
    """Expressions nest, and are joined by Or where that is asked for."""
    approved = {"Filters": [GROUP, {"Name": "ModelApprovalStatus", "Value": "Approved"}]}
    second = {"Filters": [GROUP, {"Name": "ModelPackageVersion", "Value": "2"}]}

    found = client.search(
        Resource="ModelPackage",
        SearchExpression={"SubExpressions": [approved, second], "Operator": "Or"},
        SortOrder="Ascending",
    )

    versions_found = [one["ModelPackage"]["ModelPackageVersion"] for one in found["Results"]]
    assert versions_found == [2, 3, 6, 9, 12]


def test_search_for_groups_by_tag(client: Any, make: Any) -> None:
    """Groups are found by the value of a tag, and shown with their tags."""
    make.group("a", Tags=[{"Key": "team.name", "Value": "risk"}])
    make.group("b")

    found = client.search(
        Resource="ModelPackageGroup",
        SearchExpression={"Filters": [{"Name": "Tags.team.name", "Value": "risk"}]},
    )

    [one] = found["Results"]
    assert one["ModelPackageGroup"]["ModelPackageGroupName"] == "a"
    assert one["ModelPackageGroup"]["Tags"] == [{"Key": "team.name", "Value": "risk"}]


def test_what_moto_searches(client: Any) -> None:
    """Resources that are moto's are still searched by moto."""
    client.create_experiment(ExperimentName="x")

    found = client.search(Resource="Experiment")

    assert [one["Experiment"]["ExperimentName"] for one in found["Results"]] == ["x"]
