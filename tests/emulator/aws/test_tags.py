"""Tags of what this emulator keeps, and of what moto does."""

from __future__ import annotations

from typing import Any


def test_tags(client: Any, make: Any) -> None:
    """Tags of equal keys are overwritten; what is removed is gone. moto doubles keys."""
    arn = make.group(Tags=[{"Key": "a", "Value": "1"}])

    client.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "a", "Value": "2"},
        {"Key": "b", "Value": ""},
    ]

    client.delete_tags(ResourceArn=arn, TagKeys=["a", "absent"])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": ""}]


def test_tags_end_with_their_group(client: Any, make: Any) -> None:
    """A group that comes again has no tags of the one before."""
    make.group(Tags=[{"Key": "a", "Value": "1"}])
    client.delete_model_package_group(ModelPackageGroupName="churn")

    assert client.list_tags(ResourceArn=make.group())["Tags"] == []


def test_tags_of_what_is_motos(client: Any) -> None:
    """Resources that are moto's are still tagged by moto."""
    arn = client.create_experiment(ExperimentName="x")["ExperimentArn"]

    client.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}])

    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    client.delete_tags(ResourceArn=arn, TagKeys=["a"])
    assert client.list_tags(ResourceArn=arn)["Tags"] == []


def test_the_tagging_service_sees_them(client: Any, make: Any, other: Any) -> None:
    """The Resource Groups Tagging API finds this emulator's resources by their tags."""
    arn = make.group(Tags=[{"Key": "team", "Value": "risk"}])

    found = other("tagging").get_resources(TagFilters=[{"Key": "team", "Values": ["risk"]}])

    assert [one["ResourceARN"] for one in found["ResourceTagMappingList"]] == [arn]


def test_the_tagging_service_beside_model_cards(client: Any, make: Any, other: Any) -> None:
    """A model card, which is moto's, is one of the tagged resources. In moto it breaks them all."""
    tags = [{"Key": "team", "Value": "risk"}]
    card = client.create_model_card(
        ModelCardName="c", Content="{}", ModelCardStatus="Draft", Tags=tags
    )
    group = make.group(Tags=tags)

    found = other("tagging").get_resources(TagFilters=[{"Key": "team"}])

    arns = {one["ResourceARN"] for one in found["ResourceTagMappingList"]}
    assert arns == {card["ModelCardArn"], group}
    assert client.describe_model_card(ModelCardName="c")["ModelCardName"] == "c"
