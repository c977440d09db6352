"""Google's high-level clients beside cloudreg: each reads what the other wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager

from cloudreg.testing.base import fresh
from cloudreg.testing.vertex import vertex_client_options
from cloudreg.types import EndpointSpec, EndpointStatus, Variant
from cloudreg_emulator.google.environment import applied, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMAGE = "us-central1-docker.pkg.dev/emulated-project/serve/idle:1"
"""Of a container that is well and knows nothing of cloudreg."""


@pytest.fixture(scope="module")
def sdk(cloud: Any) -> Iterator[Any]:
    """Yield the SDK, whose settings of this process point at the emulator."""
    from google.cloud import aiplatform
    from google.cloud.aiplatform import initializer

    with applied(environment(cloud.google)):
        aiplatform.init(**vertex_client_options())
        yield aiplatform
        initializer.global_config.__init__()


def test_registry_both_ways(desk: Any, model: str, sdk: Any) -> None:
    """`ModelRegistry` finds versions and stages of cloudreg's, and cloudreg what it moved."""
    first, second = desk.version(1, model=model), desk.version(2, model=model)
    for version in (first, second):
        desk.registry.publish(version)
    desk.registry.point(model, "prod", first.digest)
    registry = sdk.models.ModelRegistry(model=model)

    aliases = {one.version_id: set(one.version_aliases) for one in registry.list_versions()}
    assert aliases["1"] >= {"v1", "prod"}
    assert registry.get_version_info("prod").version_id == "1"
    shown = registry.get_model(version="prod")
    assert shown.labels["cloudreg-number"] == "1"
    registry.remove_version_aliases(["prod"], version="1")
    registry.add_version_aliases(["prod"], version="2")
    found = {one.number: one.stages for one in desk.registry.published(model)}
    assert found == {1: (), 2: ("prod",)}


def test_versions_of_others(desk: Any, model: str, sdk: Any) -> None:
    """What `Model.upload` adds to a model of ours is no version of ours, and stays as it is."""
    desk.registry.publish(desk.version(1, model=model))
    theirs = sdk.Model.upload(
        display_name="by hand",
        parent_model=model,
        is_default_version=False,
        version_aliases=["experiment"],
        serving_container_image_uri=IMAGE,
    )
    assert [one.number for one in desk.registry.published(model)] == [1]
    desk.registry.publish(desk.version(2, model=model))
    assert [one.number for one in desk.registry.published(model)] == [2, 1]
    versions = sdk.models.ModelRegistry(model=model).list_versions()
    assert [one.version_id for one in versions] == ["1", theirs.version_id, "3"]
    # A model that is theirs altogether is refused, and not touched.
    whole = fresh("theirs")
    sdk.Model.upload(model_id=whole, display_name="x", serving_container_image_uri=IMAGE)
    with pytest.raises(Exception, match="cloudreg did not make it"):
        desk.registry.publish(desk.version(1, model=whole))
    assert list(desk.registry.published(whole)) == []


def test_endpoint_both_ways(opened: Any, model: str, sdk: Any) -> None:
    """`Endpoint` asks what cloudreg deployed; what it deploys and undeploys, cloudreg tells."""
    # The SDK asks a dedicated endpoint under its own host name, which an emulator has not.
    desk = opened(dedicated=False)
    version = desk.version(7, model=model)
    desk.registry.publish(version)
    variant = Variant(name="v", model=model, number=7, digest=version.digest)
    desk.server.artifacts[version.digest] = version
    spec = desk.start(EndpointSpec(name=desk.server.name(), stage="prod", variants=(variant,)))
    endpoint = sdk.Endpoint(spec.name)
    assert endpoint.predict(instances=[{}]).predictions[0]["number"] == 7
    (ours,) = endpoint.list_models()
    theirs = sdk.Model.upload(display_name="by hand", serving_container_image_uri=IMAGE)
    endpoint.deploy(theirs, machine_type="n1-standard-4", traffic_split={"0": 40, ours.id: 60})

    seen = desk.endpoints.endpoint(spec.name)
    assert seen is not None
    assert seen.status is EndpointStatus.DEGRADED
    assert {one.name: one.weight for one in seen.variants}["v"] == 60
    (stranger,) = [one for one in endpoint.list_models() if one.id != ours.id]
    endpoint.undeploy(stranger.id, traffic_split={ours.id: 100})
    seen = desk.endpoints.endpoint(spec.name)
    assert seen is not None
    assert (seen.spec, seen.status) == (spec, EndpointStatus.READY)
    endpoint.undeploy_all()
    seen = desk.endpoints.endpoint(spec.name)
    assert seen is None or seen.status is not EndpointStatus.READY


def test_bytes_both_ways(desk: Any, cloud: Any, tmp_path: Path) -> None:
    """Google's storage client, in chunks side by side, reads our objects, and we read its own."""
    client = storage.Client(
        project="emulated-project",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=cloud.google.url),  # type: ignore[no-untyped-call]
    )
    bucket = client.bucket("our-models")
    large = bytes(range(256)) * 80_000
    desk.provider.store.put(iter([large]), "blobs/large")
    into = tmp_path / "large"
    transfer_manager.download_chunks_concurrently(
        bucket.blob("team/churn/blobs/large"),
        str(into),
        chunk_size=4 << 20,
        worker_type=transfer_manager.THREAD,
    )
    assert into.read_bytes() == large
    transfer_manager.upload_chunks_concurrently(
        str(into),
        bucket.blob("team/churn/blobs/theirs"),
        chunk_size=6 << 20,
        worker_type=transfer_manager.THREAD,
    )
    with desk.provider.store.open("blobs/theirs") as reader:
        assert reader.read() == large
