"""The high-level SDK, with the settings that reach an emulator, from upload to delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials

from cloudreg_emulator.google.emulator import Google

aiplatform: Any = pytest.importorskip("google.cloud.aiplatform")

IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"


@pytest.fixture(scope="module")
def sdk() -> Iterator[Google]:
    """An emulator that the SDK's settings of this process point at."""
    from google.cloud.aiplatform import initializer

    with Google(polls=0, scale=0.0, regions=("us-central1", "europe-west4")) as emulator:
        aiplatform.init(
            project=emulator.place.project,
            location="us-central1",
            api_endpoint=emulator.url,
            api_transport="rest",
            credentials=AnonymousCredentials(),
            staging_bucket="gs://staging",
        )
        yield emulator
        initializer.global_config.__init__()


def upload(**more: Any) -> Any:
    return aiplatform.Model.upload(display_name="churn", serving_container_image_uri=IMAGE, **more)


def test_register(sdk: Google) -> None:
    """A model is uploaded, read, listed, and deleted."""
    model = upload(
        model_id="registered",
        version_aliases=["dev"],
        labels={"team": "risk"},
        serving_container_predict_route="/invocations",
        serving_container_health_route="/ping",
        serving_container_ports=[8080],
        serving_container_environment_variables={"A": "b"},
        serving_container_health_probe_exec=["true"],
        serving_container_health_probe_period_seconds=5,
    )

    assert (
        model.resource_name
        == f"projects/{sdk.place.number}/locations/us-central1/models/registered"
    )
    assert (model.version_id, set(model.version_aliases)) == ("1", {"dev", "default"})
    assert model.container_spec.health_probe.exec_.command == ["true"]
    assert aiplatform.Model("registered@dev").version_id == "1"
    assert [one.name for one in aiplatform.Model.list(filter="labels.team=risk")] == ["registered"]
    model.delete()
    assert aiplatform.Model.list(filter="labels.team=risk") == []


def test_versions(sdk: Google) -> None:
    """Versions are added, listed, updated and deleted, and aliases move."""
    model = upload(model_id="versioned", version_aliases=["prod"])
    second = upload(parent_model="versioned", is_default_version=False, version_description="two")
    registry = model.versioning_registry

    assert (second.version_id, list(second.version_aliases)) == ("2", [])
    registry.add_version_aliases(["prod"], "2")
    registry.update_version("2", version_description="second", labels={"a": "b"})
    info = {one.version_id: one for one in registry.list_versions()}
    assert set(info["2"].version_aliases) == {"prod"}
    assert set(info["1"].version_aliases) == {"default"}
    assert info["2"].version_description == "second"
    assert aiplatform.Model("versioned", version="prod").labels == {"a": "b"}
    registry.remove_version_aliases(["prod"], "2")
    registry.delete_version("2")
    assert [one.version_id for one in registry.list_versions()] == ["1"]


def test_default_moves(sdk: Google) -> None:
    """A version that is uploaded as the default is what the model's name means."""
    upload(model_id="defaulted")
    upload(parent_model="defaulted")

    assert aiplatform.Model("defaulted").version_id == "2"


def test_update(sdk: Google) -> None:
    """A model's own fields are changed."""
    model = upload(model_id="updated")

    model.update(display_name="new", description="d", labels={"a": "b"})

    read = aiplatform.Model("updated")
    assert (read.display_name, read.description, read.labels) == ("new", "d", {"a": "b"})


def test_copy(sdk: Google) -> None:
    """A model is copied to another region."""
    copy = upload(model_id="copied").copy(destination_location="europe-west4")

    assert "/locations/europe-west4/models/" in copy.resource_name
    assert copy.version_id == "1"


def test_evaluations(sdk: Google) -> None:
    """Evaluations that were imported are listed and read."""
    model = upload(model_id="evaluated")
    with_metrics = {"display_name": "e", "metrics": {"auc": 0.9}}
    model.api_client.import_model_evaluation(
        parent=model.versioned_resource_name, model_evaluation=with_metrics
    )

    (listed,) = model.list_model_evaluations()

    assert (listed.display_name, listed.metrics["auc"]) == ("e", 0.9)
    assert model.get_model_evaluation().resource_name == listed.resource_name


def test_artifacts_of_this_machine(
    sdk: Google, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, make_bucket: Callable[[str], None]
) -> None:
    """Files of this machine are staged in the emulated Cloud Storage and then uploaded."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", sdk.url)
    make_bucket("staging")
    (tmp_path / "weights.bin").write_bytes(b"1")

    model = upload(model_id="staged", artifact_uri=str(tmp_path))

    assert model.uri.startswith("gs://staging/")


@pytest.fixture
def make_bucket(sdk: Google) -> Callable[[str], None]:
    """Makes a bucket of the SDK's region."""
    import httpx

    def make(name: str) -> None:
        made = httpx.post(
            f"{sdk.url}/storage/v1/b",
            params={"project": sdk.place.project},
            json={"name": name, "location": "us-central1"},
        )
        assert made.status_code == 200, made.text

    return make
