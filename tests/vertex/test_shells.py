"""An endpoint that somebody made for cloudreg, and that is empty."""

from __future__ import annotations

from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1

from cloudreg.errors import AlreadyExists
from cloudreg.testing.base import fresh
from cloudreg.testing.serving import spec, variant


def made(cloud: Any, name: str, **labels: str) -> None:
    client = aiplatform_v1.EndpointServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options={"api_endpoint": cloud.google.url},
    )
    endpoint = {"display_name": name, "labels": labels, "dedicated_endpoint_enabled": True}
    request = {"parent": cloud.google.parent, "endpoint_id": name, "endpoint": endpoint}
    client.create_endpoint(request).result(timeout=60)


def test_a_shell_is_used(desk: Any, cloud: Any) -> None:
    """With our label it is as if it were not there yet, and the first deployment goes to it."""
    name = desk.server.name()
    made(cloud, name, cloudreg="kit")
    assert desk.endpoints.endpoint(name) is None
    assert name not in {endpoint.spec.name for endpoint in desk.endpoints.endpoints()}

    asked = desk.start(spec(name, variant("primary", desk.server.version(1))))

    seen = desk.endpoints.endpoint(name)
    assert seen is not None
    assert seen.spec == asked
    desk.server.delete(name)


def test_a_shell_of_others_is_not(desk: Any, cloud: Any) -> None:
    """Without our label it is somebody else's, and refused."""
    name = fresh("theirs")
    made(cloud, name)

    version = desk.server.version(1)
    asked = spec(name, variant("primary", version))
    with pytest.raises(AlreadyExists):
        desk.endpoints.create(asked, artifacts={version.digest: version})
