"""What Terraform's google provider sends, by the variables that it reads, without the provider.

It joins the address of each product with the rest of a path, wants JSON by ``alt``, and says who it
is. Which requests it makes was read in its source, version 6.50: resource_storage_bucket.go,
iam_storage_bucket.go and resource_vertex_ai_endpoint.go, and the operations' wait.

Source: https://github.com/hashicorp/terraform-provider-google
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from cloudreg_emulator.google.emulator import Google
from cloudreg_emulator.google.environment import environment

ENDPOINT = re.compile(r".*/[^/]+/$")
"""What the provider demands of such a variable (ValidateCustomEndpoint)."""

AGENT = (
    "Terraform/1.5.7 (+https://www.terraform.io) Terraform-Plugin-SDK/2.33.0 "
    "terraform-provider-google/6.50.0"
)
# Google's client for Go, which the provider uses for buckets and objects.
GO = {"alt": "json", "prettyPrint": "false"}
OWN = {"alt": "json"}

BUCKET: dict[str, Any] = {
    "name": "terraformed",
    "location": "US-CENTRAL1",
    "labels": {"goog-terraform-provisioned": "true", "team": "ml"},
    "storageClass": "STANDARD",
    "versioning": {"enabled": True},
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    },
    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
    "lifecycle": {
        "rule": [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 2}}]
    },
}


class Provider:
    """Sends requests as the provider does, by its variables alone."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.project = variables["GOOGLE_PROJECT"]
        self.region = variables["GOOGLE_REGION"]
        self._http = httpx.Client(
            headers={
                "User-Agent": AGENT,
                "Authorization": f"Bearer {variables['GOOGLE_OAUTH_ACCESS_TOKEN']}",
            },
            timeout=30,
        )

    def send(self, method: str, product: str, path: str, *, wanted: int = 200, **more: Any) -> Any:
        """Send a request, and return the answer's document."""
        url = self.variables[f"GOOGLE_{product}_CUSTOM_ENDPOINT"] + path
        answer = self._http.request(method, url, **more)
        assert answer.status_code == wanted, answer.text
        return answer.json() if answer.content else None

    def done(self, operation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Wait for an operation by its name, as it was told."""
        for _ in range(50):
            if operation.get("done"):
                assert "error" not in operation
                return operation
            operation = self.send("GET", "VERTEX_AI", operation["name"], params=OWN)
        raise AssertionError(f"not done: {operation}")

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Google(polls=2, scale=0.0) as google:
        made = Provider(environment(google))
        yield made
        made.close()


def test_variables() -> None:
    """A command gets every variable that the provider needs, in the form that it takes."""
    script = (
        "import json, os; print(json.dumps({k: v for k, v in os.environ.items() "
        "if k.startswith(('GOOGLE_', 'GCLOUD_', 'USER_PROJECT'))}))"
    )
    away = {
        "GOOGLE_CLOUD_KEYFILE_JSON": "{}",
        "GOOGLE_BILLING_PROJECT": "elsewhere",
        "USER_PROJECT_OVERRIDE": "true",
        "GOOGLE_UNIVERSE_DOMAIN": "elsewhere.example",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cloudreg_emulator", "--cloud", "google"),
            *("--project", "p-1", "--google-region", "europe-west4"),
            *("--", sys.executable, "-c", script),
        ],
        env={"PATH": "/usr/bin", **away},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)

    endpoints = {name: url for name, url in found.items() if name.endswith("_CUSTOM_ENDPOINT")}
    assert {"GOOGLE_STORAGE_CUSTOM_ENDPOINT", "GOOGLE_VERTEX_AI_CUSTOM_ENDPOINT"} <= set(endpoints)
    assert [url for url in endpoints.values() if not ENDPOINT.match(url)] == []
    assert (found["GOOGLE_PROJECT"], found["GOOGLE_REGION"]) == ("p-1", "europe-west4")
    assert found["GOOGLE_OAUTH_ACCESS_TOKEN"]
    assert not set(away) & set(found)


def test_bucket(provider: Provider) -> None:
    """A bucket is made, found as it was asked for, changed, and removed with what is in it."""
    sent = {**GO, "project": provider.project}
    made = provider.send("POST", "STORAGE", "b", params=sent, json=BUCKET)
    # A bucket's own number leads to its project, by Compute Engine.
    number = made["projectNumber"]
    assert provider.send("GET", "COMPUTE", f"projects/{number}", params=GO)["name"] == (
        provider.project
    )
    seen = provider.send("GET", "STORAGE", "b/terraformed", params=GO)

    assert made["id"] == "terraformed"
    assert made["selfLink"].endswith("/b/terraformed")
    access, asked = seen["iamConfiguration"], BUCKET["iamConfiguration"]
    assert access["uniformBucketLevelAccess"]["enabled"] is True
    assert access["publicAccessPrevention"] == asked["publicAccessPrevention"]
    retention = "retentionDurationSeconds"
    assert seen["softDeletePolicy"][retention] == BUCKET["softDeletePolicy"][retention]
    for name in ("name", "location", "labels", "storageClass", "versioning", "lifecycle"):
        assert seen[name] == BUCKET[name]

    changed = provider.send(
        "PATCH",
        "STORAGE",
        "b/terraformed",
        params=GO,
        json={"labels": {"team": "vision", "goog-terraform-provisioned": None}},
    )
    assert changed["labels"] == {"team": "vision"}

    provider.send(
        "POST",
        "STORAGE",
        # An upload has an address beside that of the product.
        "../../upload/storage/v1/b/terraformed/o",
        params={**GO, "uploadType": "media", "name": "folder/a"},
        content=b"x",
    )
    listed = provider.send("GET", "STORAGE", "b/terraformed/o", params={**GO, "versions": "true"})
    caches = provider.send("GET", "STORAGE", "b/terraformed/anywhereCaches/", params=OWN)
    assert "items" not in caches
    for one in listed["items"]:
        path = f"b/terraformed/o/{one['name'].replace('/', '%2F')}"
        sent = {**GO, "generation": one["generation"]}
        provider.send("DELETE", "STORAGE", path, params=sent, wanted=204)
    provider.send("DELETE", "STORAGE", "b/terraformed", params=GO, wanted=204)
    provider.send("GET", "STORAGE", "b/terraformed", params=GO, wanted=404)


def test_bucket_policy(provider: Provider) -> None:
    """A member is added to a bucket's policy with what was there, held by its etag."""
    provider.send("POST", "STORAGE", "b", params={**GO, "project": provider.project}, json=BUCKET)
    asked = {**OWN, "optionsRequestedPolicyVersion": "3"}
    policy = provider.send("GET", "STORAGE", "b/terraformed/iam", params=asked)
    role = {"role": "roles/storage.objectUser", "members": ["serviceAccount:a@p.iam.example"]}
    changed = {
        "bindings": [*policy.get("bindings", []), role],
        "etag": policy["etag"],
        "version": 3,
    }
    provider.send("PUT", "STORAGE", "b/terraformed/iam", params=OWN, json=changed)
    provider.send("PUT", "STORAGE", "b/terraformed/iam", params=OWN, json=changed, wanted=412)

    again = provider.send("GET", "STORAGE", "b/terraformed/iam", params=asked)
    assert role in again["bindings"]


def test_endpoint(provider: Provider) -> None:
    """An endpoint is made, waited for, found as it was asked for, changed and removed."""
    parent = f"projects/{provider.project}/locations/{provider.region}/endpoints"
    asked = {"displayName": "churn", "labels": {"goog-terraform-provisioned": "true"}}
    operation = provider.send(
        "POST", "VERTEX_AI", parent, params={**OWN, "endpointId": "1234"}, json=asked
    )
    assert not operation.get("done")
    assert provider.done(operation)["response"]["name"].endswith("/endpoints/1234")
    seen = provider.send("GET", "VERTEX_AI", f"{parent}/1234", params=OWN)
    assert {name: seen[name] for name in asked} == asked

    changed = provider.send(
        "PATCH",
        "VERTEX_AI",
        f"{parent}/1234",
        params={**OWN, "updateMask": "displayName,labels"},
        json={"displayName": "churned", "labels": {"team": "ml"}},
    )
    assert (changed["displayName"], changed["labels"]) == ("churned", {"team": "ml"})

    provider.done(provider.send("DELETE", "VERTEX_AI", f"{parent}/1234", params=OWN))
    provider.send("GET", "VERTEX_AI", f"{parent}/1234", params=OWN, wanted=404)


def test_project(provider: Provider) -> None:
    """A project's number is found by its id, in both versions of Resource Manager."""
    path = f"projects/{provider.project}"
    older = provider.send("GET", "RESOURCE_MANAGER", path, params=GO)
    newer = provider.send("GET", "RESOURCE_MANAGER_V3", path, params=GO)

    assert newer["name"] == f"projects/{older['projectNumber']}"
    assert older["projectId"] == newer["projectId"] == provider.project
    provider.send("GET", "RESOURCE_MANAGER", "projects/somebody-elses", params=GO, wanted=403)
