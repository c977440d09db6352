"""The high-level SDK, with the settings that reach an emulator, from an endpoint to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import ConfigError
from cloudreg.testing.vertex import vertex_client_options
from cloudreg_emulator.google.emulator import Google
from cloudreg_emulator.google.environment import applied, environment

aiplatform: Any = pytest.importorskip("google.cloud.aiplatform")

IMAGE = "us-central1-docker.pkg.dev/project/images/server:1"
CONTAINER = Path(__file__).with_name("container.py")


@pytest.fixture(scope="module")
def sdk() -> Iterator[Google]:
    """An emulator that the SDK's settings of this process point at."""
    import sys

    from google.cloud.aiplatform import initializer

    images = {"*": [sys.executable, "-S", "-E", str(CONTAINER)]}
    with (
        Google(polls=0, scale=0.002, images=images) as emulator,
        applied(environment(emulator)),
    ):
        aiplatform.init(**vertex_client_options())
        yield emulator
        initializer.global_config.__init__()


@pytest.fixture(scope="module")
def model(sdk: Google) -> Any:
    return aiplatform.Model.upload(
        display_name="churn",
        serving_container_image_uri=IMAGE,
        serving_container_environment_variables={"MARK": "first"},
    )


def test_whole_life(model: Any, sdk: Google) -> None:
    """An endpoint is made, deployed to, asked, changed, undeployed from, and deleted."""
    endpoint = aiplatform.Endpoint.create(display_name="churn", labels={"team": "risk"})
    assert endpoint.resource_name.startswith(f"projects/{sdk.place.number}/locations/us-central1/")

    endpoint.deploy(
        model,
        deployed_model_display_name="blue",
        machine_type="g2-standard-8",
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
        min_replica_count=1,
        max_replica_count=3,
        autoscaling_target_accelerator_duty_cycle=70,
        traffic_percentage=100,
    )

    (blue,) = endpoint.list_models()
    assert endpoint.traffic_split == {blue.id: 100}
    resources = blue.dedicated_resources
    assert (resources.machine_spec.machine_type, resources.max_replica_count) == (
        "g2-standard-8",
        3,
    )
    said = endpoint.predict(instances=[{"a": 1}], parameters={"k": 1})
    assert said.predictions == [{"read": '{"a": 1.0}', "version": "first"}]
    assert (said.deployed_model_id, said.model_version_id) == (blue.id, "1")
    assert said.model_resource_name == model.resource_name

    endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=20)
    (green,) = [one for one in endpoint.list_models() if one.id != blue.id]
    assert endpoint.traffic_split == {blue.id: 80, green.id: 20}
    endpoint.update(display_name="new", traffic_split={blue.id: 0, green.id: 100})
    again = aiplatform.Endpoint(endpoint.name)
    assert (again.display_name, again.traffic_split[green.id]) == ("new", 100)
    again.undeploy(deployed_model_id=blue.id)
    assert [one.id for one in again.list_models()] == [green.id]
    assert [one.name for one in aiplatform.Endpoint.list(filter="labels.team=risk")] == [
        endpoint.name
    ]
    again.undeploy_all()
    assert (again.list_models(), again.traffic_split) == ([], {})
    again.delete()
    assert aiplatform.Endpoint.list() == []


def test_a_model_deploys_itself(model: Any) -> None:
    """A model makes its own endpoint, and a forced deletion undeploys first."""
    endpoint = model.deploy(machine_type="n1-standard-2")

    assert endpoint.predict(instances=[1]).predictions[0]["version"] == "first"
    endpoint.delete(force=True)
    assert aiplatform.Endpoint.list() == []


def test_refused(model: Any) -> None:
    """What the service refuses reaches the SDK's caller, and the endpoint stays.

    Source: https://github.com/googleapis/python-aiplatform/issues/1041
    """
    from google.api_core import exceptions

    with pytest.raises(exceptions.BadRequest, match=r"are: \[1\]"):
        model.deploy(
            machine_type="g2-standard-8", accelerator_type="NVIDIA_L4", accelerator_count=8
        )

    (orphan,) = aiplatform.Endpoint.list()
    orphan.delete()


def test_scale_to_zero(model: Any) -> None:
    """The preview of the SDK scales to zero, and the usual classes see the endpoint."""
    from google.cloud.aiplatform.preview import models as preview

    made = aiplatform.Endpoint.create(display_name="zero")
    preview.Endpoint(made.name).deploy(
        preview.Model(model.resource_name),
        machine_type="n1-standard-2",
        min_replica_count=0,
        max_replica_count=2,
        initial_replica_count=1,
        idle_scaledown_period=3600,
    )

    assert made.predict(instances=[1]).predictions
    made.delete(force=True)


def test_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside an emulator there are no settings, and the error says how to get one."""
    monkeypatch.delenv("VERTEX_EMULATOR_HOST", raising=False)

    with pytest.raises(ConfigError, match="VERTEX_EMULATOR_HOST is not set") as caught:
        vertex_client_options()

    assert caught.value.hint == "cloudreg emulate -- python deploy.py"
