"""Models and endpoint configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudreg_emulator.aws.sagemaker.containers import check_data
from cloudreg_emulator.aws.sagemaker.errors import existing, invalid, missing
from cloudreg_emulator.aws.sagemaker.place import Place, now
from cloudreg_emulator.aws.sagemaker.registry import Registry
from cloudreg_emulator.aws.sagemaker.shelf import Shelf
from cloudreg_emulator.aws.sagemaker.tagging import Tags
from cloudreg_emulator.aws.sagemaker.variants import check_config

__all__ = ["Hosting"]

Request = Mapping[str, Any]


class Hosting:
    """Models and endpoint configurations of one account in one region.

    Neither can be changed, and both may be deleted while an endpoint uses them: SageMaker lets
    that happen, and the endpoint goes on.
    """

    def __init__(self, place: Place, tags: Tags, registry: Registry) -> None:
        """Begin with none."""
        self.models = Shelf()
        self.configs = Shelf()
        self._place = place
        self._tags = tags
        self._registry = registry

    def create_model(self, request: Request) -> str:
        """Create a model and return its ARN."""
        name = request["ModelName"]
        arn = self._place.arn("model", name)
        if name in self.models:
            raise existing("model", arn)
        primary, several = request.get("PrimaryContainer"), request.get("Containers")
        if (primary is not None) == bool(several):
            # API_CreateModel; unquoted.
            raise invalid("Specify one of either PrimaryContainer or Containers.")
        for container in several or [primary]:
            self._check_container(container)
        self._tags.begin(arn, request.get("Tags"))
        body = {key: value for key, value in request.items() if key != "Tags"}
        # AWS always answers with it.
        body.setdefault("EnableNetworkIsolation", False)
        self.models.put(name, {**body, "ModelArn": arn, "CreationTime": now()})
        return arn

    def _check_container(self, container: Mapping[str, Any]) -> None:
        reference = container.get("ModelPackageName")
        own = [k for k in ("Image", "ModelDataUrl", "ModelDataSource") if container.get(k)]
        if bool(reference) == bool(container.get("Image")) or (reference and own):
            # Quoted in https://github.com/svpino/ml.school.
            raise invalid(
                "Specify one of either Image and Model Data URL or ModelPackageName in container "
                "definition."
            )
        check_data([container])
        if not reference:
            return
        package = self._registry.package(reference)
        if package.get("ModelApprovalStatus", "Approved") != "Approved":
            # CreateModelPackage in the service model: "must be set to Approved to deploy the
            # model". Unquoted.
            raise invalid(
                f"Cannot create a model from ModelPackage {package['ModelPackageArn']}: its "
                f"ModelApprovalStatus is {package['ModelApprovalStatus']}."
            )
        specification = package.get("InferenceSpecification")
        if not specification:
            raise invalid(
                f"ModelPackage {package['ModelPackageArn']} has no InferenceSpecification."
            )
        theirs = specification["Containers"][0].get("Environment")
        if theirs and container.get("Environment"):
            # https://github.com/aws/sagemaker-python-sdk/pull/3301 quotes this.
            raise invalid(
                "Environment variable map cannot be specified both at Model Package "
                f"{_shown(theirs)} and Model {_shown(container['Environment'])}."
            )

    def model(self, name: str) -> Mapping[str, Any]:
        """Return a model."""
        body = self.models.get(name)
        if body is None:
            raise missing("model", self._place.arn("model", name))
        return body

    def containers(self, name: str) -> list[dict[str, Any]]:
        """Return a model's containers; what a package stands for is filled in."""
        model = self.model(name)
        found: list[dict[str, Any]] = []
        for container in model.get("Containers") or [model["PrimaryContainer"]]:
            reference = container.get("ModelPackageName")
            if not reference:
                found.append(dict(container))
                continue
            package = self._registry.package(reference)
            wanted = container.get("InferenceSpecificationName")
            specification = next(
                (
                    one
                    for one in package.get("AdditionalInferenceSpecifications", ())
                    if one["Name"] == wanted
                ),
                package["InferenceSpecification"],
            )
            for theirs in specification["Containers"]:
                found.append({**theirs, **{k: v for k, v in container.items() if v}})
        return found

    def containers_of(self, arn: str) -> list[dict[str, Any]]:
        """Return the containers of the model with this ARN, for a package made of it."""
        return self.containers(arn.rsplit("/", 1)[-1])

    def delete_model(self, name: str) -> None:
        """Delete a model, whoever uses it."""
        arn = str(self.model(name)["ModelArn"])
        self.models.drop(name)
        self._tags.end(arn)

    def create_config(self, request: Request) -> str:
        """Create an endpoint configuration and return its ARN."""
        name = request["EndpointConfigName"]
        arn = self._place.arn("endpoint-config", name)
        if name in self.configs:
            raise existing("endpoint configuration", arn)
        production = request["ProductionVariants"]
        shadow = request.get("ShadowProductionVariants") or []
        named = {
            model
            for variant in (*production, *shadow)
            for model in (
                variant.get("ModelName"),
                *(pool.get("ModelNameOverride") for pool in variant.get("InstancePools") or ()),
            )
            if model
        }
        models = {model: self.model(model) for model in sorted(named)}
        check_config(request, models)
        self._tags.begin(arn, request.get("Tags"))
        body = {key: value for key, value in request.items() if key != "Tags"}
        body["ProductionVariants"] = [_completed(variant) for variant in production]
        if shadow:
            body["ShadowProductionVariants"] = [_completed(variant) for variant in shadow]
        self.configs.put(name, {**body, "EndpointConfigArn": arn, "CreationTime": now()})
        return arn

    def config(self, name: str) -> Mapping[str, Any]:
        """Return an endpoint configuration."""
        body = self.configs.get(name)
        if body is None:
            raise missing("endpoint configuration", self._place.arn("endpoint-config", name))
        return body

    def delete_config(self, name: str) -> None:
        """Delete an endpoint configuration, also one that an endpoint uses.

        SageMaker documents that one must not, and lets it happen: "you may lose visibility into
        the instance type the endpoint is using".
        Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteEndpointConfig.html
        and https://github.com/hashicorp/terraform-provider-aws/issues/40048
        """
        arn = str(self.config(name)["EndpointConfigArn"])
        self.configs.drop(name)
        self._tags.end(arn)


def _completed(variant: Mapping[str, Any]) -> dict[str, Any]:
    # VariantWeight in the service model: "If unspecified, it defaults to 1.0".
    return {"InitialVariantWeight": 1.0, **variant}


def _shown(environment: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}={value}" for key, value in environment.items()) + "}"
