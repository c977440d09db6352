"""The environment in which Google's own clients reach an emulator, and nothing else.

google-cloud-storage, obstore's users and Terraform's google provider read these. Vertex AI's SDK
takes its endpoint in code alone, so what it needs stands in ``VERTEX_EMULATOR_HOST``, in the
manner of ``STORAGE_EMULATOR_HOST``; `client_options` turns it into arguments.

Terraform's provider joins an address of its own for each product with the rest of a path, so each
ends with a slash, as the provider demands. A bucket's project it looks up in Compute Engine.

Sources: https://cloud.google.com/python/docs/reference/storage/latest (STORAGE_EMULATOR_HOST),
https://registry.terraform.io/providers/hashicorp/google/latest/docs/guides/provider_reference,
https://github.com/hashicorp/terraform-provider-google (``google/transport``, and the bucket's
``setStorageBucket``)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudreg_emulator.google.emulator import Google

__all__ = ["GRPC_HOST", "HOST", "applied", "environment", "merged", "taken_away"]

HOST = "VERTEX_EMULATOR_HOST"
GRPC_HOST = "VERTEX_EMULATOR_GRPC_HOST"

_NO_PROXY = ("127.0.0.1", "localhost", "::1")

_TAKEN_AWAY = (
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_CONFIG",
    "GCLOUD_KEYFILE_JSON",
    "GCLOUD_PROJECT",
    "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BILLING_PROJECT",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
    "GOOGLE_UNIVERSE_DOMAIN",
    "USER_PROJECT_OVERRIDE",
)


def environment(google: Google) -> dict[str, str]:
    """Return the variables to set."""
    place = google.place
    present = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = [host for host in present.split(",") if host.strip()]
    hosts += [host for host in _NO_PROXY if host not in hosts]
    return {
        "STORAGE_EMULATOR_HOST": google.url,
        HOST: google.url,
        GRPC_HOST: google.grpc_address,
        "GOOGLE_CLOUD_PROJECT": place.project,
        "GOOGLE_CLOUD_LOCATION": place.regions[0],
        "CLOUDSDK_CORE_PROJECT": place.project,
        # Nobody checks it, and Terraform wants one before it asks anybody.
        "GOOGLE_OAUTH_ACCESS_TOKEN": "emulated",
        "GOOGLE_PROJECT": place.project,
        "GOOGLE_REGION": place.regions[0],
        "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{google.url}/compute/v1/",
        "GOOGLE_RESOURCE_MANAGER_CUSTOM_ENDPOINT": f"{google.url}/v1/",
        "GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT": f"{google.url}/v3/",
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"{google.url}/storage/v1/",
        "GOOGLE_VERTEX_AI_CUSTOM_ENDPOINT": f"{google.url}/v1/",
        # The metadata of the machine it runs on has other credentials.
        "NO_GCE_CHECK": "true",
        "NO_PROXY": ",".join(hosts),
        "no_proxy": ",".join(hosts),
    }


def taken_away(present: Mapping[str, str] | None = None) -> list[str]:
    """Return the variables of *present*, this process's by default, that must not stay."""
    names = os.environ if present is None else present
    return sorted(name for name in names if name in _TAKEN_AWAY)


def merged(
    variables: Mapping[str, str], present: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a whole environment for a process that is to reach the emulator."""
    base = dict(os.environ if present is None else present)
    for name in taken_away(base):
        del base[name]
    return {**base, **variables}


@contextmanager
def applied(variables: Mapping[str, str]) -> Iterator[None]:
    """Give this process the environment for as long as the block lasts."""
    names = {*taken_away(), *variables}
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
