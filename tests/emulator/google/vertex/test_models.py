"""Models, versions and aliases, as Google's own clients see them over REST and over gRPC."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1beta1

IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"


def test_first_version(cloud: Any) -> None:
    """A first version is number 1 and the default; names carry the project's number."""
    name = cloud.upload("churn-first", description="d", version_description="v", labels={"a": "b"})

    model = cloud.models.get_model(name=f"{cloud.parent}/models/churn-first")

    assert name == model.name == f"{cloud.canonical}/models/churn-first"
    assert (model.version_id, list(model.version_aliases)) == ("1", ["default"])
    assert (model.display_name, model.description, model.version_description) == ("churn", "d", "v")
    assert dict(model.labels) == {"a": "b"}
    assert [kind.name for kind in model.supported_deployment_resources_types] == [
        "DEDICATED_RESOURCES"
    ]
    assert model.container_spec.image_uri == IMAGE
    assert model.etag
    assert model.create_time
    cloud.models.delete_model(name=name).result()


def test_made_up_id(cloud: Any) -> None:
    """A model without an id gets a number."""
    name = cloud.begin().result(timeout=20).model

    assert name.rpartition("/")[2].isdecimal()


def test_next_version(cloud: Any) -> None:
    """A version counts on, and the default stays where it is until it is given away."""
    name = cloud.upload(version_aliases=["dev"])
    cloud.upload(parent_model=name, version_aliases=["dev", "golden"])

    assert cloud.aliases(name) == {"1": {"default"}, "2": {"dev", "golden"}}

    cloud.upload(parent_model=f"{name}@1", version_aliases=["default"])
    assert cloud.aliases(name) == {"1": set(), "2": {"dev", "golden"}, "3": {"default"}}


def test_numbers_are_never_given_twice(cloud: Any) -> None:
    """A deleted version's number is gone for good (Model.version_id)."""
    name = cloud.upload()
    cloud.upload(parent_model=name)
    cloud.models.delete_model_version(name=f"{name}@2").result(timeout=20)

    cloud.upload(parent_model=name)

    assert set(cloud.aliases(name)) == {"1", "3"}


def test_default_is_inherited(cloud: Any) -> None:
    """The default of a deleted version goes to the newest that is left (model-alias)."""
    name = cloud.upload()
    for _ in range(10):
        cloud.upload(parent_model=name)

    cloud.models.delete_model_version(name=f"{name}@default").result(timeout=20)

    assert {version for version, found in cloud.aliases(name).items() if found} == {"11"}


@pytest.mark.parametrize(
    ("wanted", "number", "shown"),
    [
        ("", "1", ""),
        ("@default", "1", "@1"),
        ("@1", "1", "@1"),
        ("@2", "2", "@2"),
        ("@prod", "2", "@2"),
    ],
)
def test_get(cloud: Any, wanted: str, number: str, shown: str) -> None:
    """A version is found by number and alias, and named by number where one was asked for."""
    name = cloud.upload()
    cloud.upload(parent_model=name, version_aliases=["prod"])

    model = cloud.models.get_model(name=name + wanted)

    assert (model.version_id, model.name) == (number, name + shown)


def test_aliases_move_in_one_step(cloud: Any) -> None:
    """One merge gives and takes, and the others lose what was given."""
    name = cloud.upload(version_aliases=["prod"])
    cloud.upload(parent_model=name, version_aliases=["staging"])

    merged = cloud.models.merge_version_aliases(
        name=f"{name}@2", version_aliases=["prod", "-staging"]
    )

    assert set(merged.version_aliases) == {"prod"}
    assert cloud.aliases(name) == {"1": {"default"}, "2": {"prod"}}


def test_default_is_given_on(cloud: Any) -> None:
    """Exactly one version is the default; a merge can say which."""
    name = cloud.upload()
    cloud.upload(parent_model=name)

    cloud.models.merge_version_aliases(name=f"{name}@2", version_aliases=["default"])

    assert cloud.aliases(name) == {"1": set(), "2": {"default"}}


def test_aliases_that_cancel_out(cloud: Any) -> None:
    """An alias that is given and taken at once stays as it was (MergeVersionAliasesRequest)."""
    name = cloud.upload(version_aliases=["prod"])

    cloud.models.merge_version_aliases(
        name=f"{name}@prod", version_aliases=["prod", "-prod", "new", "-new", "-absent"]
    )

    assert cloud.aliases(name) == {"1": {"default", "prod"}}


def test_labels_are_merged(cloud: Any) -> None:
    """A model's labels and a version's are seen together, and written apart."""
    name = cloud.upload(labels={"digest": "one"})
    cloud.upload(parent_model=name, labels={"digest": "two"})
    mask = {"paths": ["labels"]}
    cloud.models.update_model(
        {"model": {"name": name, "labels": {"team": "risk", "digest": "none"}}, "update_mask": mask}
    )

    seen = {
        version.version_id: dict(version.labels)
        for version in cloud.models.list_model_versions(name=name)
    }

    assert seen == {
        "1": {"digest": "one", "team": "risk"},
        "2": {"digest": "two", "team": "risk"},
    }
    cloud.models.update_model(
        {"model": {"name": f"{name}@2", "labels": {"own": "x"}}, "update_mask": mask}
    )
    assert dict(cloud.models.get_model(name=f"{name}@2").labels) == {
        "digest": "none",
        "own": "x",
        "team": "risk",
    }


def test_update_of_a_model(cloud: Any) -> None:
    """A mask says what is written, and what is empty under it is cleared."""
    name = cloud.upload(description="before", version_description="kept")

    updated = cloud.models.update_model(
        {
            "model": {"name": f"{name}@-", "display_name": "new", "version_description": "x"},
            "update_mask": {"paths": ["display_name", "description"]},
        }
    )

    assert (updated.display_name, updated.description) == ("new", "")
    assert (updated.version_description, updated.name) == ("kept", name)


def test_update_of_a_version(cloud: Any) -> None:
    """A version's own description is its own."""
    name = cloud.upload(version_description="one")
    cloud.upload(parent_model=name, version_description="two")

    cloud.models.update_model(
        {
            "model": {"name": f"{name}@2", "version_description": "changed"},
            "update_mask": {"paths": ["version_description"]},
        }
    )

    seen = [one.version_description for one in cloud.models.list_model_versions(name=name)]
    assert seen == ["one", "changed"]


def test_etag_changes_with_every_write(cloud: Any) -> None:
    """An update with the present etag is made, and every write changes it."""
    name = cloud.upload()
    etags = [cloud.models.get_model(name=name).etag]
    for text in ("a", "b"):
        updated = cloud.models.update_model(
            {
                "model": {"name": name, "description": text, "etag": etags[-1]},
                "update_mask": {"paths": ["description"]},
            }
        )
        etags.append(updated.etag)
    cloud.models.merge_version_aliases(name=f"{name}@1", version_aliases=["prod"])
    etags.append(cloud.models.get_model(name=name).etag)

    assert len(set(etags)) == 4
    assert cloud.models.get_model(name=name).etag == etags[-1]


def test_delete(cloud: Any) -> None:
    """A model goes with its versions, aliases and evaluations, and its id can be had again."""
    name = cloud.upload("churn-deleted")
    cloud.upload(parent_model=name, version_aliases=["prod"])
    cloud.models.import_model_evaluation(parent=name, model_evaluation={"display_name": "e"})

    cloud.models.delete_model(name=name).result(timeout=20)

    assert cloud.refused(lambda: cloud.models.get_model(name=f"{name}@2"))[0] == "NOT_FOUND"
    assert cloud.upload("churn-deleted") == name
    assert cloud.aliases(name) == {"1": {"default"}}
    assert list(cloud.models.list_model_evaluations(parent=name)) == []
    cloud.models.delete_model(name=name).result(timeout=20)


def test_copy_to_another_region(cloud: Any) -> None:
    """A copy is a first version of its own, without its source's aliases."""
    source = cloud.upload(version_aliases=["prod"], labels={"digest": "one"}, description="d")
    there = cloud.parent.replace("us-central1", "europe-west4")

    made = cloud.models.copy_model(
        {"parent": there, "source_model": f"{source}@prod", "model_id": source.rpartition("/")[2]}
    ).result(timeout=20)

    copy = cloud.models.get_model(name=made.model)
    assert made.model == source.replace("us-central1", "europe-west4")
    assert (made.model_version_id, list(copy.version_aliases)) == ("1", ["default"])
    assert (copy.display_name, copy.description, dict(copy.labels)) == (
        "churn",
        "d",
        {"digest": "one"},
    )
    assert (copy.model_source_info.copy, copy.original_model_info.model) == (True, source)
    assert copy.container_spec.image_uri == IMAGE
    cloud.models.delete_model(name=made.model).result(timeout=20)


def test_copy_into_a_model(cloud: Any) -> None:
    """A copy with a parent is its next version."""
    source, parent = cloud.upload(version_description="copied"), cloud.upload()

    made = cloud.models.copy_model(
        {"parent": cloud.parent, "source_model": source, "parent_model": parent}
    ).result(timeout=20)

    assert (made.model, made.model_version_id) == (parent, "2")
    assert cloud.models.get_model(name=f"{parent}@2").version_description == "copied"


def test_evaluations(cloud: Any) -> None:
    """Evaluations are imported to a version, listed by it, and read by name."""
    name = cloud.upload()
    cloud.upload(parent_model=name)
    made = [
        cloud.models.import_model_evaluation(
            parent=f"{name}@{version}",
            model_evaluation={
                "display_name": f"of {version}",
                "metrics_schema_uri": "gs://schemas/metrics.yaml",
                "metrics": {"auc": 0.9, "by": {"region": ["a", None, True]}},
            },
        )
        for version in (1, 2)
    ]

    listed = list(cloud.models.list_model_evaluations(parent=f"{name}@2"))

    assert [one.name for one in listed] == [made[1].name]
    assert [one.name for one in cloud.models.list_model_evaluations(parent=name)] == [made[0].name]
    read = cloud.models.get_model_evaluation(name=made[1].name)
    assert (read.display_name, read.metrics["auc"]) == ("of 2", 0.9)
    assert read.create_time
    cloud.models.delete_model_version(name=f"{name}@2").result(timeout=20)
    assert (
        cloud.refused(lambda: cloud.models.get_model_evaluation(name=made[1].name))[0]
        == "NOT_FOUND"
    )


@pytest.mark.parametrize("transport", ["rest-v1beta1", "grpc-v1beta1"])
def test_both_versions_of_the_api_see_the_same(make_cloud: Any, transport: str) -> None:
    """v1beta1 answers in its own messages from the same resources."""
    cloud = make_cloud()
    beta = cloud.client(transport)
    name = cloud.upload("churn", version_aliases=["prod"])

    model = beta.get_model(name=f"{name}@prod")

    assert isinstance(model, aiplatform_v1beta1.Model)
    assert (model.version_id, model.container_spec.image_uri) == ("1", IMAGE)
    operation = beta.upload_model(
        {
            "parent": cloud.parent,
            "parent_model": name,
            "model": {"display_name": "x", "container_spec": {"image_uri": IMAGE}},
        }
    )
    assert operation.result(timeout=20).model_version_id == "2"
    assert isinstance(operation.metadata, aiplatform_v1beta1.UploadModelOperationMetadata)
    assert cloud.models.get_model(name=f"{name}@2").version_id == "2"


def test_one_winner(make_cloud: Any) -> None:
    """Of many who want one id at once, over REST and gRPC, one gets it."""
    cloud = make_cloud()
    clients = [cloud.client(transport) for transport in ("rest", "grpc") * 4]
    request = {"parent": cloud.parent, "model_id": "churn", "model": cloud.model()}
    start = threading.Barrier(len(clients))

    def upload(client: Any) -> str:
        start.wait(timeout=20)
        try:
            client.upload_model(request).result(timeout=20)
        except exceptions.Conflict:  # AlreadyExists is one
            return "refused"
        return "made"

    with ThreadPoolExecutor(len(clients)) as pool:
        said = sorted(pool.map(upload, clients))

    assert said == ["made"] + ["refused"] * 7
    assert cloud.aliases(f"{cloud.parent}/models/churn") == {"1": {"default"}}


def test_one_default(make_cloud: Any) -> None:
    """Whoever moves aliases at once, each alias is somewhere and nowhere twice."""
    cloud = make_cloud()
    name = cloud.upload("churn", version_aliases=["prod"])
    for _ in range(3):
        cloud.upload(parent_model=name)
    clients = [cloud.client(transport) for transport in ("rest", "grpc") * 2]

    def move(number: int) -> None:
        for _ in range(10):
            clients[number].merge_version_aliases(
                name=f"{name}@{number + 1}", version_aliases=["prod", "default"]
            )

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(move, range(4)))

    held = [alias for found in cloud.aliases(name).values() for alias in found]
    assert sorted(held) == ["default", "prod"]


def test_locations(cloud: Any) -> None:
    """Google's own client lists and reads the locations."""
    found = cloud.models.list_locations({"name": "projects/emulated-project"}).locations

    assert [one.location_id for one in found] == ["us-central1", "europe-west4"]
    assert cloud.models.get_location({"name": cloud.parent}) == found[0]
