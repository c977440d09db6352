"""What a deployer must be permitted: a custom role, as ``gcloud iam roles create`` takes it.

Every method that is called has its permission in `PERMISSIONS`; the tests record what is called and
compare both ways. To ask how an operation stands takes the ``get`` of what it is about.

Sources: https://cloud.google.com/vertex-ai/docs/general/iam-permissions,
https://cloud.google.com/storage/docs/access-control/iam-json,
https://cloud.google.com/iam/docs/roles-permissions/aiplatform
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.provider import Deployed

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings

PERMISSIONS: Mapping[tuple[str, str], str] = {
    ("models", "get_model"): "aiplatform.models.get",
    ("models", "list_models"): "aiplatform.models.list",
    ("models", "list_model_versions"): "aiplatform.models.list",
    ("models", "upload_model"): "aiplatform.models.upload",
    ("models", "merge_version_aliases"): "aiplatform.models.update",
    ("models", "delete_model"): "aiplatform.models.delete",
    ("models", "delete_model_version"): "aiplatform.models.delete",
    ("models", "list_model_evaluations"): "aiplatform.modelEvaluations.list",
    ("models", "import_model_evaluation"): "aiplatform.modelEvaluations.import",
    ("endpoints", "create_endpoint"): "aiplatform.endpoints.create",
    ("endpoints", "get_endpoint"): "aiplatform.endpoints.get",
    ("endpoints", "list_endpoints"): "aiplatform.endpoints.list",
    ("endpoints", "update_endpoint"): "aiplatform.endpoints.update",
    ("endpoints", "deploy_model"): "aiplatform.endpoints.deploy",
    ("endpoints", "mutate_deployed_model"): "aiplatform.endpoints.deploy",
    ("endpoints", "undeploy_model"): "aiplatform.endpoints.undeploy",
    ("endpoints", "delete_endpoint"): "aiplatform.endpoints.delete",
    ("jobs", "create_batch_prediction_job"): "aiplatform.batchPredictionJobs.create",
    ("jobs", "get_batch_prediction_job"): "aiplatform.batchPredictionJobs.get",
    ("jobs", "list_batch_prediction_jobs"): "aiplatform.batchPredictionJobs.list",
    ("jobs", "cancel_batch_prediction_job"): "aiplatform.batchPredictionJobs.cancel",
    ("jobs", "delete_batch_prediction_job"): "aiplatform.batchPredictionJobs.delete",
}
"""Service and method of the SDK's clients, to the permission that lets somebody call it."""

BESIDE: Mapping[str, str] = {
    "aiplatform.endpoints.predict": "predict, rawPredict and streamRawPredict",
    "logging.logEntries.list": "what the model servers wrote",
    "monitoring.timeSeries.list": "what was answered, and how fast",
    "resourcemanager.projects.get": "whose bucket it is",
    "storage.buckets.get": "where the bucket is, and whose",
    "storage.objects.list": "listings",
    "storage.objects.get": "reads",
    "storage.objects.create": "writes",
    "storage.objects.delete": "what is replaced, and what broke half-way",
    "storage.multipartUploads.create": "large objects in parts",
    "storage.multipartUploads.listParts": "uploads that are taken up again",
    "storage.multipartUploads.list": "uploads that nobody took up again",
    "storage.multipartUploads.abort": "and their end",
}
"""Permissions of what goes beside the SDK's clients, and what for."""

TRANSFER: Mapping[str, str] = {
    "storagetransfer.jobs.create": "a copy that a service makes",
    "storagetransfer.jobs.get": "whether it was begun before",
    "storagetransfer.jobs.run": "its beginning",
    "storagetransfer.jobs.update": "its end",
    "storagetransfer.operations.get": "how it stands",
}
"""Permissions where Storage Transfer Service copies what is too large, and what for.

Source: https://cloud.google.com/storage-transfer/docs/access-control
"""

LEDGER = ("storage.objects.create", "storage.objects.get")
"""Permissions on the ledger's own keys: to replace an object takes ``delete``, which is not here,
so that an entry is written once.
"""

ACT_AS = "roles/iam.serviceAccountUser"


def policy_for(settings: VertexSettings, deployed: Deployed) -> dict[str, Any]:
    """Return the custom role of whoever deploys to a target.

    Google's roles name no single model or stage: what narrows them are conditions of the binding,
    which are set for the bucket here. A stage that is kept from a deployer needs a target, and so
    a project, of its own.

    Args:
        settings: The target's.
        deployed: What is deployed.
    """
    carried = TRANSFER if deployed.by_service else {}
    permissions = sorted({*PERMISSIONS.values(), *BESIDE, *carried})
    bucket = f"projects/_/buckets/{settings.bucket}"
    prefix = f"{bucket}/objects/{settings.prefix}/" if settings.prefix else f"{bucket}/objects/"
    ledger = f'resource.name.startsWith("{prefix}ledger/")'
    role: dict[str, Any] = {
        "title": "cloudreg deployer",
        "description": f"Deploys to {', '.join(deployed.stages) or 'every stage'} "
        f"of {settings.project} in {settings.location}",
        "stage": "GA",
        "includedPermissions": [p for p in permissions if not p.startswith("storage.")],
    }
    objects: dict[str, Any] = {
        "title": "cloudreg artifacts",
        "description": f"Reads and writes artifacts in {settings.bucket}",
        "stage": "GA",
        "includedPermissions": [p for p in permissions if p.startswith("storage.")],
    }
    entries: dict[str, Any] = {
        "title": "cloudreg ledger",
        "description": f"Reads and appends to the ledger in {settings.bucket}",
        "stage": "GA",
        "includedPermissions": list(LEDGER),
    }
    found: dict[str, Any] = {
        "roles": {
            "cloudregDeployer": role,
            "cloudregArtifacts": objects,
            "cloudregLedger": entries,
        },
        "bindings": [
            {"role": "cloudregDeployer", "resource": f"projects/{settings.project}"},
            {
                "role": "cloudregArtifacts",
                "resource": bucket,
                "condition": {
                    "title": "cloudreg's own keys",
                    "expression": f'resource.name == "{bucket}" || '
                    f'(resource.name.startsWith("{prefix}") && !{ledger})',
                },
            },
            {
                "role": "cloudregLedger",
                "resource": bucket,
                "condition": {"title": "cloudreg's ledger", "expression": ledger},
            },
        ],
    }
    if settings.service_account is not None:
        found["bindings"].append(
            {
                "role": ACT_AS,
                "resource": f"projects/-/serviceAccounts/{settings.service_account}",
            }
        )
    return found
