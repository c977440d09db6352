"""Endpoints: what may be asked of them, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cloudreg_emulator.aws.sagemaker import deployments, scalable
from cloudreg_emulator.aws.sagemaker.endpoint import Endpoint
from cloudreg_emulator.aws.sagemaker.errors import existing, in_progress, invalid, missing
from cloudreg_emulator.aws.sagemaker.generation import Generation, Serving
from cloudreg_emulator.aws.sagemaker.hosting import Hosting
from cloudreg_emulator.aws.sagemaker.place import Place
from cloudreg_emulator.aws.sagemaker.rollout import rollout_of
from cloudreg_emulator.aws.sagemaker.shelf import Shelf
from cloudreg_emulator.aws.sagemaker.tagging import Tags
from cloudreg_emulator.aws.sagemaker.variants import instance_types, is_component_host

__all__ = ["Endpoints"]

Request = Mapping[str, Any]

_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


class Endpoints:
    """Endpoints of one account in one region."""

    def __init__(self, place: Place, tags: Tags, hosting: Hosting) -> None:
        """Begin with none."""
        self.shelf = Shelf()
        self._place = place
        self._tags = tags
        self._hosting = hosting
        self._endpoints: dict[str, Endpoint] = {}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(list(self._endpoints.values()))

    def create(self, request: Request) -> str:
        """Begin to create an endpoint and return its ARN."""
        name = request["EndpointName"]
        arn = self._place.arn("endpoint", name)
        self.advance()
        if name in self._endpoints:
            raise existing("endpoint", arn)
        config = self._hosting.config(request["EndpointConfigName"])
        _check_runnable(config)
        deployment = request.get("DeploymentConfig")
        rollout_of(deployment, old=config, new=config)
        self._tags.begin(arn, request.get("Tags"))
        endpoint = Endpoint(name=name, arn=arn, config_name=config["EndpointConfigName"])
        try:
            blue = self._generation(endpoint, config)
        except BaseException:
            self._tags.end(arn)
            raise
        endpoint.blue = blue
        endpoint.capture = config.get("DataCaptureConfig")
        endpoint.deployment = deployment
        self._endpoints[name] = endpoint
        endpoint.begin("CreateEndpoint", deployments.create(endpoint, blue), "Creating")
        self._record(endpoint)
        return arn

    def get(self, name: str, *, described: bool = False) -> Endpoint:
        """Return an endpoint as it is now.

        Args:
            name: Its name.
            described: Whether DescribeEndpoint asks.
        """
        endpoint = self._endpoints.get(name)
        if endpoint is not None:
            self._advance(endpoint, described=described)
        if endpoint is None or endpoint.gone:
            raise missing("endpoint", self._place.arn("endpoint", name))
        return endpoint

    def describe(self, name: str) -> dict[str, Any]:
        """Return DescribeEndpoint's answer; a transition that it shows counts as seen."""
        endpoint = self.get(name, described=True)
        body = endpoint.describe()
        endpoint.see()
        return body

    def update(self, request: Request) -> str:
        """Begin to move an endpoint to another configuration and return its ARN."""
        endpoint = self._settled(request["EndpointName"])
        blue = endpoint.blue
        assert blue is not None
        config = self._hosting.config(request["EndpointConfigName"])
        name = config["EndpointConfigName"]
        if name == endpoint.config_name:
            # Measured by users: "Cannot update endpoint with the currently in use endpoint
            # configuration", ValidationException.
            raise invalid(
                "Cannot update endpoint with the currently in use endpoint configuration "
                f'"{config["EndpointConfigArn"]}".'
            )
        # https://github.com/hashicorp/terraform-provider-aws/issues/40048: an endpoint whose own
        # configuration was deleted cannot be updated.
        self._hosting.config(endpoint.config_name)
        _check_runnable(config)
        deployment = request.get("DeploymentConfig")
        if deployment is None and request.get("RetainDeploymentConfig"):
            deployment = endpoint.deployment
        rollout = rollout_of(deployment, old=blue.config, new=config)
        _check_conversion(blue.config, config)
        self._check_scaled(endpoint, config)
        retained = _retained(request)
        targets = _targets(blue, config, retained)
        green = self._generation(
            endpoint,
            config,
            counts=deployments.first_batch(rollout, targets),
            weights=_weights(blue) if "DesiredWeight" in retained else None,
        )
        # Capture stops where the new configuration has none, unless it is retained.
        # https://github.com/mlflow/mlflow/issues/7255
        capture = config.get("DataCaptureConfig")
        if "DataCaptureConfig" in retained:
            capture = endpoint.capture
        endpoint.failure = None
        endpoint.deployment = deployment or endpoint.deployment
        endpoint.prepare(green)
        endpoint.begin(
            "UpdateEndpoint",
            deployments.update(
                endpoint, green, rollout, targets=targets, place=self._place, capture=capture
            ),
            "Updating",
        )
        self._record(endpoint)
        return endpoint.arn

    def rescale(self, name: str, wanted: Sequence[Mapping[str, Any]]) -> str:
        """Begin to change weights and numbers of instances and return the endpoint's ARN."""
        endpoint = self._settled(name)
        blue = endpoint.blue
        assert blue is not None
        names = [one["VariantName"] for one in wanted]
        unknown = [one for one in names if blue.serving(one) is None]
        if unknown:
            # https://github.com/getmoto/moto/pull/5082 quotes this.
            raise invalid(
                f'The variant name(s) "{", ".join(unknown)}" is/are not present within endpoint '
                f'configuration "{endpoint.config_name}".'
            )
        if len(set(names)) < len(names):
            raise invalid("Variant names must be unique in DesiredWeightsAndCapacities.")
        for one in wanted:
            _check_capacity(blue, one)
        counts = {
            one["VariantName"]: one["DesiredInstanceCount"]
            for one in wanted
            if one.get("DesiredInstanceCount") is not None
        }
        weights = {
            one["VariantName"]: float(one["DesiredWeight"])
            for one in wanted
            if one.get("DesiredWeight") is not None
        }
        for one in wanted:
            if one.get("ServerlessUpdateConfig"):
                serving = blue.serving(one["VariantName"])
                assert serving is not None
                serving.serverless = {**(serving.serverless or {}), **one["ServerlessUpdateConfig"]}
        endpoint.failure = None
        endpoint.begin(
            "UpdateEndpointWeightsAndCapacities",
            deployments.rescale(endpoint, counts, weights),
            "Updating",
        )
        self._record(endpoint)
        return endpoint.arn

    def delete(self, name: str, *, components: Sequence[str]) -> None:
        """Begin to delete an endpoint.

        Args:
            name: Its name.
            components: The inference components on it.
        """
        endpoint = self.get(name)
        if endpoint.status in _MOVING:
            raise in_progress(endpoint.arn)
        if components:
            # https://github.com/aws/amazon-sagemaker-feedback/issues/49: components go first.
            # Unquoted.
            raise invalid(
                f'Cannot delete endpoint "{endpoint.arn}": it has inference components: '
                f"{', '.join(components)}."
            )
        scalable.forget(self._place, resource=f"endpoint/{name}")
        endpoint.begin("DeleteEndpoint", deployments.delete(endpoint), "Deleting")
        self._record(endpoint)

    def advance(self) -> None:
        """Take every step whose time has come."""
        for endpoint in self:
            self._advance(endpoint)

    def stop(self) -> None:
        """End every instance, in the background."""
        for endpoint in self:
            endpoint.stop()

    def _advance(self, endpoint: Endpoint, *, described: bool = False) -> None:
        endpoint.advance(described=described)
        self._record(endpoint)

    def _record(self, endpoint: Endpoint) -> None:
        if endpoint.gone:
            if self._endpoints.pop(endpoint.name, None) is not None:
                self.shelf.drop(endpoint.name)
                self._tags.end(endpoint.arn)
            return
        summary = endpoint.summary()
        if self.shelf.get(endpoint.name) != summary:
            self.shelf.put(endpoint.name, summary)

    def _settled(self, name: str) -> Endpoint:
        endpoint = self.get(name)
        if endpoint.status in _MOVING:
            raise in_progress(endpoint.arn)
        if endpoint.status == "Failed":
            # EndpointStatus in the service model: "DeleteEndpoint is the only operation that can
            # be performed on a failed endpoint." Unquoted.
            raise invalid(
                f'Cannot update failed endpoint "{endpoint.arn}"; it can only be deleted.'
            )
        return endpoint

    def _generation(
        self,
        endpoint: Endpoint,
        config: Mapping[str, Any],
        *,
        counts: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Generation:
        return Generation(
            config,
            endpoint=endpoint.name,
            containers=self._hosting.containers,
            counts=counts,
            weights=weights,
        )

    def _check_scaled(self, endpoint: Endpoint, config: Mapping[str, Any]) -> None:
        """Refuse another instance type for a variant that is scaled automatically.

        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling.html and
        https://github.com/hashicorp/terraform-provider-aws/issues/14337. Unquoted.
        """
        scaled = scalable.scaled_variants(self._place, endpoint.name)
        for variant in config["ProductionVariants"]:
            serving = endpoint.blue.serving(variant["VariantName"]) if endpoint.blue else None
            if serving is None or serving.name not in scaled:
                continue
            before, after = instance_types(serving.config), instance_types(variant)
            if before != after:
                raise invalid(
                    f"The instance type of variant {serving.name} cannot be changed from "
                    f"{before} to {after} while a scalable target is registered for it. "
                    "Deregister the scalable target first."
                )


def _check_runnable(config: Mapping[str, Any]) -> None:
    # AWS does run these. To accept them and not to run them would be a lie.
    for key in ("ExplainerConfig", "CrossRegionTrafficConfig"):
        if config.get(key):
            raise invalid(f"The emulator does not run endpoints with {key}.")


def _check_conversion(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to make an endpoint with instances a serverless one; the reverse is accepted.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html: "If you try
    to update your real-time endpoint to serverless, you receive a ValidationError". Unquoted.
    """
    was, becomes = (
        any(variant.get("ServerlessConfig") for variant in config["ProductionVariants"])
        for config in (old, new)
    )
    if becomes and not was:
        raise invalid("Updating an instance-based endpoint to a serverless one is not supported.")


def _retained(request: Request) -> set[str]:
    if not request.get("RetainAllVariantProperties"):
        return set()
    excluded = {
        one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties") or ()
    }
    return {"DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig"} - excluded


def _weights(blue: Generation) -> dict[str, float]:
    return {one.name: one.desired_weight for one in blue.production}


def _targets(blue: Generation, config: Mapping[str, Any], retained: set[str]) -> dict[str, int]:
    """Return how many instances of each variant there shall be: as before, where retained."""
    before = {one.name: one.desired for one in blue.production}
    keep = "DesiredInstanceCount" in retained
    return {
        variant["VariantName"]: before[variant["VariantName"]]
        if keep and variant["VariantName"] in before
        else variant.get("InitialInstanceCount") or 1
        for variant in config["ProductionVariants"]
    }


def _check_capacity(blue: Generation, wanted: Mapping[str, Any]) -> None:
    serving = blue.serving(wanted["VariantName"])
    assert serving is not None
    count = wanted.get("DesiredInstanceCount")
    if serving.serverless is not None and count is not None:
        raise invalid(f"DesiredInstanceCount cannot be specified for serverless {serving.name}.")
    if serving.serverless is None and wanted.get("ServerlessUpdateConfig"):
        raise invalid(f"ServerlessUpdateConfig requires a serverless variant; {serving.name}.")
    if count == 0 and not _may_be_empty(serving, blue.config):
        # https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html:
        # only inference component endpoints, and asynchronous ones, go down to no instance.
        raise invalid(f"DesiredInstanceCount of variant {serving.name} must be at least 1.")


def _may_be_empty(serving: Serving, config: Mapping[str, Any]) -> bool:
    return is_component_host(serving.config) or bool(config.get("AsyncInferenceConfig"))
