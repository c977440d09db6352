"""What somebody did in Vertex AI's console is found, part by part, and a repair puts it right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from cloudreg import Workspace, plugins
from cloudreg.manifest import Lineage
from cloudreg.testing.base import fresh
from cloudreg_vertex import PLUGIN

CONFIG = """
home = "gcp"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "us-central1"
bucket = "our-models"
prefix = "{model}"
image = "us-central1-docker.pkg.dev/emulated-project/serve/stand-in:1"
endpoint_url = "{url}"
storage_url = "{url}"

[stages.dev]
[stages.prod]
gates = []

[endpoints.{model}]
model = "{model}"
stage = "prod"
gpu = "L4"
max_replicas = 2
gpu_utilization = 60
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A model in production, and the console beside it."""

    ws: Workspace
    model: str
    parent: str
    models: Any
    endpoints: Any

    def merge(self, version: str, *aliases: str) -> None:
        name = f"{self.parent}/models/{self.model}@{version}"
        self.models.merge_version_aliases(name=name, version_aliases=list(aliases))

    def seen(self) -> Any:
        return self.endpoints.get_endpoint(name=f"{self.parent}/endpoints/{self.model}")


@pytest.fixture(scope="module")
def house(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two versions, of which the second is in production."""
    model, root = fresh("drift"), tmp_path_factory.mktemp("drift")
    options = {
        "credentials": AnonymousCredentials(),
        "transport": "rest",
        "client_options": {"api_endpoint": cloud.google.url},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
            patch.delenv(name)
        plugins.register(PLUGIN)
        (root / "cloudreg.toml").write_text(CONFIG.format(url=cloud.google.url, model=model))
        with Workspace.load(root) as ws:
            for number in (1, 2):
                ws.promote(ws.register(model, weights(root, number), lineage=Lineage()), to="prod")
            yield House(
                ws=ws,
                model=model,
                parent=cloud.google.parent,
                models=aiplatform_v1.ModelServiceClient(**options),
                endpoints=aiplatform_v1.EndpointServiceClient(**options),
            )
            ws.down()


def weights(root: Path, number: int) -> Path:
    folder = root / f"v{number}"
    folder.mkdir()
    (folder / "weights.txt").write_text(f"weights of {number}")
    return folder


def alias(house: House) -> None:
    """An alias is of one version: to give it to the first takes it from the second."""
    house.merge("1", "prod")


def no_alias(house: House) -> None:
    house.merge("2", "-prod")


def bounds(house: House) -> None:
    (deployed,) = house.seen().deployed_models
    house.endpoints.mutate_deployed_model(
        endpoint=house.seen().name,
        deployed_model={
            "id": deployed.id,
            "dedicated_resources": {"min_replica_count": 1, "max_replica_count": 5},
        },
        update_mask={"paths": ["dedicated_resources.max_replica_count"]},
    ).result(timeout=60)


def undeployment(house: House) -> None:
    (deployed,) = house.seen().deployed_models
    house.endpoints.undeploy_model(
        endpoint=house.seen().name, deployed_model_id=deployed.id, traffic_split={}
    ).result(timeout=60)


def traffic(house: House) -> None:
    """Deploy the first version beside the second, with half of the traffic."""
    (deployed,) = house.seen().deployed_models
    house.endpoints.deploy_model(
        endpoint=house.seen().name,
        deployed_model={
            "model": f"{house.parent}/models/{house.model}@1",
            "dedicated_resources": deployed.dedicated_resources,
        },
        traffic_split={"0": 50, deployed.id: 50},
    ).result(timeout=60)


def removal(house: House) -> None:
    undeployment(house)
    house.endpoints.delete_endpoint(name=house.seen().name).result(timeout=60)


EDITS: list[tuple[Callable[[House], None], str, str]] = [
    (alias, "stage", "version"),
    (no_alias, "stage", "version"),
    (bounds, "endpoint", "max_replicas"),
    (traffic, "endpoint", ""),
    (undeployment, "endpoint", ""),
    (removal, "endpoint", "endpoint"),
]


@pytest.mark.parametrize(("edit", "kind", "part"), EDITS, ids=[e[0].__name__ for e in EDITS])
def test_console_edit(house: House, edit: Callable[[House], None], kind: str, part: str) -> None:
    """The edit is found at its place, with both values; a repair ends it."""
    assert house.ws.drift(house.model) == []
    edit(house)
    found = house.ws.drift(house.model)
    assert [one for one in found if one.kind == kind and part in one.field], found
    assert all(one.target == "gcp" and one.ledger != one.actual for one in found)
    house.ws.repair(house.model)
    assert house.ws.drift(house.model) == []
