"""What the SageMaker SDK sees of what cloudreg made; run by the Python of the SDK's environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sagemaker.core import image_uris
from sagemaker.core.resources import (
    Endpoint,
    EndpointConfig,
    InferenceComponent,
    Model,
    ModelPackage,
    ModelPackageGroup,
    Tag,
    TransformJob,
)

from cloudreg.errors import ConfigError
from cloudreg.provider import ProviderContext
from cloudreg_sagemaker import PLUGIN, images

REGIONS = ("eu-central-1", "cn-north-1")
MACHINES = {True: "ml.g5.xlarge", False: "ml.m5.large"}


def read_back(asked: dict) -> dict:
    """Read everything with the SDK's classes, and let cloudreg hand them out as well."""
    group = ModelPackageGroup.get(model_package_group_name=asked["model"])
    package = ModelPackage.get(model_package_name=asked["package"])
    listed = ModelPackage.get_all(model_package_group_name=asked["model"])
    endpoint = Endpoint.get(endpoint_name=asked["endpoint"])
    answer = endpoint.invoke(body=b"{}", content_type="application/json")
    settings = PLUGIN.settings()(**asked["section"], native="sdk")
    ours = PLUGIN.open(settings, ProviderContext(target="aws", root=Path()))
    handed = ours.registry.native(asked["model"], asked["digest"])
    served = ours.endpoints.native(asked["endpoint"])
    ours.close()
    ModelPackageGroup.create(model_package_group_name=asked["stranger"])
    return {
        "group": group.model_package_group_name,
        "described": package.model_package_description,
        "listed": [one.model_package_description for one in listed],
        "stage": package.model_life_cycle.stage,
        "status": endpoint.endpoint_status,
        "answer": json.loads(answer.body.read()),
        "handed": [type(handed).__module__, type(handed).__name__, handed.model_package_arn],
        "served": [type(served).__module__, type(served).__name__, served.endpoint_name],
    }


def list_all(asked: dict) -> dict:
    """List everything with the SDK's classes, which ask for each resource that they list."""
    model, endpoint = asked["model"], asked["endpoint"]
    group = ModelPackageGroup.get(model_package_group_name=model)
    groups = list(ModelPackageGroup.get_all(name_contains=model))
    packages = list(ModelPackage.get_all(model_package_group_name=model, sort_order="Ascending"))
    approved = ModelPackage.get_all(
        model_package_group_name=model, model_approval_status="Approved"
    )
    endpoints = list(Endpoint.get_all(name_contains=endpoint, status_equals="InService"))
    serving = Endpoint.get(endpoint_name=endpoint)
    config = EndpointConfig.get(endpoint_config_name=serving.endpoint_config_name)
    (variant,) = config.production_variants
    return {
        "groups": [one.model_package_group_name for one in groups],
        "packages": [one.model_package_arn for one in packages],
        "images": [one.inference_specification.containers[0].image for one in packages],
        "approved": [one.model_package_arn for one in approved],
        "endpoints": [one.endpoint_name for one in endpoints],
        "configs": [
            one.endpoint_config_name for one in EndpointConfig.get_all(name_contains=endpoint)
        ],
        "models": [one.model_name for one in Model.get_all(name_contains=variant.model_name)],
        "image": Model.get(model_name=variant.model_name).primary_container.image,
        "components": [
            one.inference_component_name
            for one in InferenceComponent.get_all(endpoint_name_equals=asked["resting"])
        ],
        "jobs": [
            one.transform_job_name for one in TransformJob.get_all(name_contains=asked["job"])
        ],
        "tags": {
            one.key: one.value for one in Tag.get_all(resource_arn=group.model_package_group_arn)
        },
    }


def agree() -> dict:
    """Compare the addresses of the last versions of every framework that has one."""
    same, different = 0, []
    for path in sorted(images.folder().glob("*.json")):
        document = json.loads(path.read_text())
        config = document if "inference" in document.get("scope", ()) else document.get("inference")
        for version in list((config or {}).get("versions", {}))[-2:]:
            for region in REGIONS:
                for gpus, machine in MACHINES.items():
                    name = f"aws:{path.stem}:{version}"
                    try:
                        ours = images.resolve(name, region=region, gpus=gpus)
                    except ConfigError:
                        continue
                    theirs = image_uris.retrieve(
                        path.stem, region, version=version, instance_type=machine,
                        image_scope="inference",
                    )  # fmt: skip
                    same += ours == theirs
                    different += [[name, ours, theirs]] if ours != theirs else []
    return {"same": same, "different": different}


if __name__ == "__main__":
    asked = json.loads(os.environ.get("ASKED", "{}"))
    verbs = {"agree": lambda _: agree(), "read": read_back, "list": list_all}
    print(json.dumps(verbs[sys.argv[1]](asked)))
