"""The instances of one endpoint configuration: blue or green."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cloudreg_emulator.aws.sagemaker.containers import model_data
from cloudreg_emulator.aws.sagemaker.course import Failed
from cloudreg_emulator.aws.sagemaker.errors import invalid
from cloudreg_emulator.aws.sagemaker.place import now
from cloudreg_emulator.aws.sagemaker.variants import instance_types, is_component_host
from cloudreg_emulator.aws.world import current
from cloudreg_emulator.fleet import Group, Launch

__all__ = ["Generation", "Serving", "launch_of", "the_container"]

Container = Mapping[str, Any]
Containers = Callable[[str], Sequence[Container]]

STARTUP_S = 480.0
"""Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html"""

DOWNLOAD_S = 3600.0

NO_CAPACITY = "InsufficientInstanceCapacity"


def the_container(containers: Sequence[Container], model: str) -> Container:
    """Return a model's only container; refuse what this emulator does not run."""
    first = containers[0]
    extra = [
        "containers in a row" if len(containers) > 1 else "",
        "MultiModel mode" if first.get("Mode") == "MultiModel" else "",
        "AdditionalModelDataSources" if first.get("AdditionalModelDataSources") else "",
    ]
    named = [one for one in extra if one]
    if named:
        raise invalid(f"The emulator does not run {' and '.join(named)}: model {model}.")
    return first


def launch_of(
    container: Container,
    *,
    arn: str,
    endpoint: str,
    variant: str,
    instance_type: str,
    timeouts: Mapping[str, Any],
) -> Launch:
    """Return what a container is started with.

    Args:
        container: Of a model or an inference component, in CreateModel's shape.
        arn: Of what starts it: its logs belong to that account and region.
        endpoint: The endpoint's name.
        variant: The variant's name.
        instance_type: Where it runs; ``serverless`` where nobody says.
        timeouts: A ProductionVariant, or the StartupParameters of a component.
    """
    data = model_data(container)
    startup_s = timeouts.get("ContainerStartupHealthCheckTimeoutInSeconds") or STARTUP_S
    download_s = timeouts.get("ModelDataDownloadTimeoutInSeconds") or DOWNLOAD_S
    return Launch(
        endpoint=endpoint,
        variant=variant,
        image=container.get("Image", ""),
        environment=dict(container.get("Environment") or {}),
        bucket=data.bucket if data else None,
        key=data.key if data else None,
        kind=data.kind if data else "object",
        compressed=data.compressed if data else False,
        instance_type=instance_type,
        startup_timeout_s=float(startup_s),
        download_timeout_s=float(download_s),
        account=arn.split(":")[4],
        region=arn.split(":")[3],
    )


class Serving:
    """A variant with its instances.

    Attributes:
        config: Its ProductionVariant.
        name: Its name.
        shadow: Whether it is a shadow variant.
        group: Its instances; None where inference components bring the containers.
        weight: Its part of the traffic.
        desired_weight: Where that is going.
        desired: How many instances there should be.
        serverless: Its ServerlessConfig; None where there are instances.
        since: When it was started.
    """

    def __init__(
        self, config: Mapping[str, Any], *, arn: str, endpoint: str, count: int, shadow: bool
    ) -> None:
        """Start nothing yet."""
        self.config = config
        self.name = str(config["VariantName"])
        self.shadow = shadow
        self.group: Group | None = None
        self.weight = self.desired_weight = float(config["InitialVariantWeight"])
        self.desired = count
        self.serverless: Mapping[str, Any] | None = config.get("ServerlessConfig")
        self.since: datetime = now()
        self.image: str | None = None
        self._arn = arn
        self._endpoint = endpoint
        self._types = instance_types(config) or ["serverless"]
        self._pool = 0

    @property
    def instance_type(self) -> str:
        """The type that it runs on now, of its pools."""
        return self._types[self._pool]

    @property
    def current(self) -> int:
        """How many instances there are."""
        return self.desired if self.group is None else self.group.ready

    def start(self, containers: Containers) -> None:
        """Start the instances of this type; for inference components there is nothing to start."""
        if is_component_host(self.config):
            return
        model = str(self._override() or self.config["ModelName"])
        container = the_container(containers(model), model)
        self.image = container.get("Image")
        launch = launch_of(
            container,
            arn=self._arn,
            endpoint=self._endpoint,
            variant=self.name,
            instance_type=self.instance_type,
            timeouts=self.config,
        )
        self.group = current().fleet.start(launch, self.desired)

    def _override(self) -> str | None:
        pools = self.config.get("InstancePools") or ()
        for pool in pools:
            if pool["InstanceType"] == self.instance_type and pool.get("ModelNameOverride"):
                return str(pool["ModelNameOverride"])
        return None

    def ready(self, containers: Containers) -> bool:
        """Return whether all instances answer; try the next pool where one has no capacity.

        Raises:
            Failed: They never will.
        """
        group = self.group
        if group is None:
            return True
        failure = group.failure
        if failure is None or group.ready >= group.desired:
            return group.ready >= group.desired
        if NO_CAPACITY not in failure or self._pool + 1 >= len(self._types):
            raise Failed(failure)
        group.stop()
        self._pool += 1
        self.start(containers)
        return False

    def resize(self, count: int) -> None:
        """Ask for another number of instances."""
        self.desired = count
        if self.group is not None:
            self.group.resize(count)

    def summary(self, *, status: str | None = None) -> dict[str, Any]:
        """Return it as DescribeEndpoint shows it."""
        body: dict[str, Any] = {
            "VariantName": self.name,
            "CurrentWeight": self.weight,
            "DesiredWeight": self.desired_weight,
        }
        if self.image is not None:
            body["DeployedImages"] = [_image(self.image, self.since)]
        if self.serverless is not None:
            body |= {
                "CurrentServerlessConfig": self.serverless,
                "DesiredServerlessConfig": self.serverless,
            }
        else:
            body |= {"CurrentInstanceCount": self.current, "DesiredInstanceCount": self.desired}
        for key in ("ManagedInstanceScaling", "RoutingConfig"):
            if self.config.get(key):
                body[key] = self.config[key]
        if self.config.get("InstancePools"):
            body["InstancePools"] = [
                {
                    "InstanceType": one,
                    "CurrentInstanceCount": self.current if one == self.instance_type else 0,
                }
                for one in self._types
            ]
        if status is not None:
            body["VariantStatus"] = [{"Status": status, "StartTime": self.since}]
        return body


class Generation:
    """All variants of an endpoint configuration, with their instances.

    Attributes:
        config: DescribeEndpointConfig, as it was; the configuration itself may be deleted.
        servings: Production variants, then shadow variants.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        endpoint: str,
        containers: Containers,
        counts: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Start the instances, in the background.

        Args:
            config: The endpoint configuration.
            endpoint: The endpoint's name.
            containers: Returns a model's containers.
            counts: Instances by variant, where not those of the configuration.
            weights: Weights by variant, likewise.
        """
        self.config = config
        self._containers = containers
        self.servings: list[Serving] = []
        for shadow, key in ((False, "ProductionVariants"), (True, "ShadowProductionVariants")):
            for variant in config.get(key) or ():
                name = variant["VariantName"]
                count = (counts or {}).get(name, variant.get("InitialInstanceCount") or 1)
                arn = config["EndpointConfigArn"]
                serving = Serving(variant, arn=arn, endpoint=endpoint, count=count, shadow=shadow)
                if name in (weights or {}):
                    serving.weight = serving.desired_weight = (weights or {})[name]
                self.servings.append(serving)
        try:
            for serving in self.servings:
                serving.start(containers)
        except BaseException:
            self.stop()
            raise

    @property
    def production(self) -> list[Serving]:
        """The variants that answer."""
        return [one for one in self.servings if not one.shadow]

    def serving(self, variant: str) -> Serving | None:
        """Return a production variant."""
        return next((one for one in self.production if one.name == variant), None)

    def ready(self) -> bool:
        """Return whether every instance of every variant answers.

        Raises:
            Failed: One never will.
        """
        # Each is asked: one without capacity goes to its next pool while another still starts.
        verdicts = [one.ready(self._containers) for one in self.servings]
        return all(verdicts)

    def stop(self) -> None:
        """End all instances, in the background."""
        for serving in self.servings:
            if serving.group is not None:
                serving.group.stop()

    def summaries(self, *, shadow: bool = False, status: str | None = None) -> list[dict[str, Any]]:
        """Return the variants as DescribeEndpoint shows them."""
        chosen: Iterable[Serving] = (one for one in self.servings if one.shadow == shadow)
        return [one.summary(status=status) for one in chosen]


def _image(image: str, since: datetime) -> dict[str, Any]:
    repository, _, digest = image.partition("@")
    if not digest:
        # No registry is asked: one image name always resolves to one digest.
        head, _, tag = repository.rpartition(":")
        repository = head if head and "/" not in tag else repository
        digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
    return {
        "SpecifiedImage": image,
        "ResolvedImage": f"{repository}@{digest}",
        "ResolutionTime": since,
    }
