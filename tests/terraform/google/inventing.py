"""What Google would say of what is made: names in the forms of its documentation, else anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from values import UNKNOWN

NUMBER = "123456789012"

_FORMS = {
    "data.google_project": {"number": NUMBER},
    "data.google_storage_project_service_account": {
        "email_address": f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com",
    },
    "data.google_storage_transfer_project_service_account": {
        "email": f"project-{NUMBER}@storage-transfer-service.iam.gserviceaccount.com",
        "subject_id": "104728193745610293847",
    },
    "google_artifact_registry_repository": {"name": "{repository_id}"},
    "google_iam_workload_identity_pool": {
        "name": f"projects/{NUMBER}/locations/global/workloadIdentityPools/"
        "{workload_identity_pool_id}",
    },
    "google_iam_workload_identity_pool_provider": {
        "name": f"projects/{NUMBER}/locations/global/workloadIdentityPools/"
        "{workload_identity_pool_id}/providers/{workload_identity_pool_provider_id}",
    },
    "google_kms_crypto_key": {"id": "{key_ring}/cryptoKeys/{name}"},
    "google_kms_key_ring": {"id": "projects/{project}/locations/{location}/keyRings/{name}"},
    "google_monitoring_notification_channel": {
        "name": "projects/{project}/notificationChannels/{_mark}",
    },
    "google_project_iam_custom_role": {"name": "projects/{project}/roles/{role_id}"},
    "google_service_account": {
        "email": "{account_id}@{project}.iam.gserviceaccount.com",
        "name": "projects/{project}/serviceAccounts/{account_id}@{project}.iam.gserviceaccount.com",
    },
    "google_storage_bucket": {"id": "{name}", "url": "gs://{name}"},
    "google_vertex_ai_endpoint": {
        "id": "projects/{project}/locations/{location}/endpoints/{name}",
    },
}


def invented(
    kind: str, state: dict[str, Any], attributes: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return *state* with a value for all that is unknown."""
    mark = hashlib.sha256(repr(sorted(state.items(), key=str)).encode()).hexdigest()[:12]
    known = {
        "project": config.get("project", "some-project"),
        **{name: value for name, value in state.items() if isinstance(value, str)},
        "_mark": mark,
    }
    forms = _FORMS.get(kind, {})
    made = dict(state)
    for name in forms:
        if name in made and made[name] is UNKNOWN:
            made[name] = forms[name].format(**known)
    for name, one in attributes.items():
        if made.get(name) is UNKNOWN:
            made[name] = _anything(one["type"], f"{name} {mark}")
    return made


def _anything(kind: Any, seed: str) -> Any:
    digest = hashlib.sha256(seed.encode()).hexdigest()
    if isinstance(kind, list):
        if kind[0] == "object":
            return {name: _anything(one, seed + name) for name, one in kind[1].items()}
        return {} if kind[0] == "map" else []
    return {"string": digest[:12], "number": int(digest[:6], 16), "bool": False}[kind]
