"""``native()`` hands over Google's own objects, which work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import NotFound
from cloudreg.testing.base import fresh
from cloudreg.types import EndpointSpec, Variant


def served(desk: Any, version: Any) -> EndpointSpec:
    variant = Variant(name="v", model=version.model, number=version.number, digest=version.digest)
    spec = EndpointSpec(name=desk.server.name(), stage="prod", variants=(variant,))
    desk.server.artifacts[version.digest] = version
    started: EndpointSpec = desk.start(spec)
    return started


def test_messages(desk: Any, model: str) -> None:
    """Without another wish, the messages of the API are handed over as they came."""
    from google.cloud.aiplatform_v1 import Model

    version = desk.version(3, model=model)
    shown = desk.registry.publish(version)
    found = desk.registry.native(model, version.digest)

    assert isinstance(found, Model)
    assert f"{found.name.partition('@')[0]}@{found.version_id}" == shown.native_id
    with pytest.raises(NotFound):
        desk.registry.native(model, f"sha256:{'0' * 64}")


def test_objects_of_the_sdk(opened: Callable[..., Any], model: str) -> None:
    """With ``native = "sdk"``, its classes are handed over, ask the target, and touch no config."""
    from google.cloud import aiplatform
    from google.cloud.aiplatform import initializer

    # The SDK asks a dedicated endpoint under its own host name, which an emulator has not.
    desk = opened(native="sdk", dedicated=False)
    version = desk.version(4, model=model)
    other = desk.version(5, model=model)
    desk.registry.publish(version)
    desk.registry.publish(other)
    spec = served(desk, version)
    before = dict(vars(initializer.global_config))
    found = desk.registry.native(model, version.digest)
    endpoint = desk.endpoints.native(spec.name)

    assert isinstance(found, aiplatform.Model)
    assert found.labels["cloudreg-number"] == "4"
    versions = found.versioning_registry.list_versions()
    assert [one.version_id for one in versions] == ["1", "2"]
    assert isinstance(endpoint, aiplatform.Endpoint)
    assert [one.model_version_id for one in endpoint.list_models()] == [found.version_id]
    assert endpoint.predict(instances=[{}, {}]).predictions[1]["number"] == 4
    found.update(description="by the SDK")
    assert desk.registry.native(model, other.digest).description == "by the SDK"
    assert dict(vars(initializer.global_config)) == before


def test_absent_objects(opened: Callable[..., Any], model: str) -> None:
    """What is not there is not found, whoever's objects are wished for."""
    desk = opened(native="sdk")
    with pytest.raises(NotFound):
        desk.registry.native(model, f"sha256:{'0' * 64}")
    with pytest.raises(NotFound):
        desk.endpoints.native(fresh("nobody"))


def test_import_is_late() -> None:
    """Nothing imports the high-level SDK before the first of its objects is wanted."""
    import subprocess
    import sys

    code = (
        "import sys, cloudreg_vertex.provider, cloudreg_vertex.native\n"
        "assert 'google.cloud.aiplatform' not in sys.modules\n"
        "assert 'google.cloud.aiplatform_v1' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
