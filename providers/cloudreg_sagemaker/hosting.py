"""SageMaker's endpoints, configurations and models: one call a verb, each may be called twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, ConfigError, NotFound
from cloudreg.types import EndpointSpec
from cloudreg_sagemaker import checks, naming, packages
from cloudreg_sagemaker import requests as outgoing
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.wire import everything

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.requests import Requests

PAGE = 100
FEW = 2
"""Endpoints of which configurations and models are looked for by name; of more, all are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Names of what endpoints are made of.

    Attributes:
        configs: Of configurations.
        models: Of models.
    """

    configs: frozenset[str]
    models: frozenset[str]

    def digests(self, config: str, spec: EndpointSpec) -> dict[str, str]:
        """Return what the variants of *spec* run, as far as all that they are made of is there."""
        if config not in self.configs:
            return {}
        owner = naming.owner_of(spec.name)
        return {
            variant.name: variant.digest
            for variant in spec.served
            if any(
                model.startswith(f"{variant.model}-{variant.number}-{owner}")
                for model in self.models
            )
        }


class Hosting:
    """What the operations of endpoints are made of."""

    def __init__(self, clients: Clients, *, target: str) -> None:
        """Use boto3's clients; nothing is sent."""
        self._clients = clients
        self._target = target

    def look(self, name: str) -> dict[str, Any] | None:
        """Return DescribeEndpoint; None where there is none."""
        try:
            with self._translated(name):
                return dict(self._client.describe_endpoint(EndpointName=name))
        except NotFound:
            return None

    def digests(self, seen: Mapping[str, Any]) -> dict[str, str]:
        """Return what each variant runs: the digest that its containers are given.

        A variant whose containers have another image than its model says has none.
        """
        name = seen["EndpointName"]
        deployed = {
            variant["VariantName"]: {
                image.get("SpecifiedImage") for image in variant.get("DeployedImages", ())
            }
            for variant in everything(seen)
        }
        found: dict[str, str] = {}
        for variant, model in self._models(name, seen["EndpointConfigName"]).items():
            with suppress(NotFound), self._translated(name):
                container = self._client.describe_model(ModelName=model)["PrimaryContainer"]
                images = deployed.get(variant) or {container["Image"]}
                if container["Image"] in images:
                    found[variant] = container.get("Environment", {}).get("CLOUDREG_DIGEST", "")
        return found

    def instance_types(self, seen: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """Return the instance types of each variant that is there, the first choice first."""
        variants = self._variants(seen["EndpointName"], seen.get("EndpointConfigName", ""))
        return {variant["VariantName"]: outgoing.types_of(variant) for variant in variants}

    def prepare(self, requests: Requests, *, config: str | None = None) -> None:
        """Make models and configuration.

        Their names are digests of what they are: those that exist are equal.

        Args:
            requests: What is asked for.
            config: What the configuration is called, where one of other weights stood.
        """
        name = requests.spec.name
        for model in requests.models:
            self._once(name, partial(self._client.create_model, **model))
        made = {**requests.config, "EndpointConfigName": config or requests.config_name}
        self._once(name, partial(self._client.create_endpoint_config, **made))

    def check(self, requests: Requests) -> None:
        """Refuse what SageMaker would refuse for one of its fields, before anything is sent."""
        for model in requests.models:
            checks.check_request("sagemaker", "CreateModel", model)
        checks.check_request("sagemaker", "CreateEndpointConfig", requests.config)
        checks.check_request("sagemaker", "CreateEndpoint", requests.endpoint)

    def start(self, requests: Requests) -> None:
        """Ask for the endpoint.

        Raises:
            AlreadyExists: Somebody was first.
        """
        with self._translated(requests.spec.name):
            self._client.create_endpoint(**requests.endpoint)

    def change(self, request: Mapping[str, Any]) -> None:
        """Send UpdateEndpoint."""
        with self._translated(request["EndpointName"]):
            self._client.update_endpoint(**request)

    def set_capacities(self, name: str, wanted: list[dict[str, Any]]) -> None:
        """Send UpdateEndpointWeightsAndCapacities."""
        with self._translated(name):
            self._client.update_endpoint_weights_and_capacities(
                EndpointName=name, DesiredWeightsAndCapacities=wanted
            )

    def remove(self, name: str) -> None:
        """Send DeleteEndpoint; absent is fine."""
        with suppress(NotFound), self._translated(name):
            self._client.delete_endpoint(EndpointName=name)

    def is_ours(self, seen: Mapping[str, Any]) -> bool:
        """Whether cloudreg made the endpoint, from whatever bucket: its tag tells."""
        return packages.TAG in self._tags(seen["EndpointArn"], seen["EndpointName"])

    def is_of(self, seen: Mapping[str, Any], place: str) -> bool:
        """Whether an endpoint was made by who keeps the records at *place*."""
        return self._tags(seen["EndpointArn"], seen["EndpointName"]).get(packages.PLACE) == place

    def is_whole(self, seen: Mapping[str, Any]) -> bool:
        """Whether the configuration in force and its models are there: nothing grows without."""
        name = seen["EndpointName"]
        models = self._models(name, seen["EndpointConfigName"]).values()
        return bool(models) and all(self._has_model(name, model) for model in models)

    def inventory(self, endpoints: Sequence[str]) -> Inventory:
        """Return which configurations and models there are, of some endpoints at least."""
        few = len(endpoints) <= FEW
        stems = [f"{naming.config_stem(name)}-" for name in endpoints] if few else [None]
        owners = [f"-{naming.owner_of(name)}" for name in endpoints] if few else [None]
        return Inventory(
            configs=self._listed("EndpointConfig", "list_endpoint_configs", stems),
            models=self._listed("Model", "list_models", owners),
        )

    def discard(self, name: str, config: str, *, keep: Iterable[str]) -> None:
        """Remove a configuration and its models; absent is fine.

        Args:
            name: Of the endpoint that had it.
            config: Which one; a model of its own follows a dot, where inference components
                have it.
            keep: Models that another configuration needs.
        """
        config, _, own = config.partition(".")
        found = {*self._models(name, config).values(), *([own] if own else [])}
        models = found - set(keep)
        # The configuration last: it alone tells which models are its own, should this end halfway.
        for model in sorted(models):
            with suppress(NotFound), self._translated(name):
                self._client.delete_model(ModelName=model)
        with suppress(NotFound), self._translated(name):
            self._client.delete_endpoint_config(EndpointConfigName=config)

    def sweep(self, name: str, *, config: str | None = None, models: Iterable[str] = ()) -> None:
        """Remove what was made for an endpoint and is written down nowhere: it came too late.

        A process that slept can have sent a request when others had taken over and tidied up.

        Args:
            name: Of the endpoint.
            config: The one that it has.
            models: Those that it needs.
        """
        keep = set(models)
        stem, owner = naming.config_stem(name), naming.owner_of(name)
        for kind, verb, part, fits in (
            ("EndpointConfig", "list_endpoint_configs", f"{stem}-", naming.is_config_name),
            ("Model", "list_models", f"-{owner}", naming.is_model_name),
        ):
            for one in self._pages(kind, verb, part):
                there = one[f"{kind}Name"]
                if there == config or there in keep or not fits(there, name):
                    continue
                if self._tags(one[f"{kind}Arn"], name).get(packages.TAG) != name:
                    continue
                if kind == "EndpointConfig":
                    self.discard(name, there, keep=keep)
                else:
                    with suppress(NotFound), self._translated(name):
                        self._client.delete_model(ModelName=there)

    def check_alarms(self, name: str, alarms: Iterable[str]) -> None:
        """Refuse alarms that could not undo a change, or would undo it at once.

        Raises:
            ConfigError: One is missing, or in ALARM already.
        """
        wanted = list(alarms)
        if not wanted:
            return
        with self._translated(name):
            answer = self._clients["cloudwatch"].describe_alarms(
                AlarmNames=wanted, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        found = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
        states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}
        for alarm in wanted:
            if alarm not in states:
                raise ConfigError(
                    f"endpoint {name}: there is no alarm {alarm!r} to undo a change",
                    target=self._target,
                    hint="deployment.alarms names alarms of CloudWatch in the same region",
                )
            if states[alarm] == "ALARM":
                raise ConfigError(
                    f"endpoint {name}: alarm {alarm!r} is in ALARM already, and would undo every "
                    "change at once",
                    target=self._target,
                    hint=f"aws cloudwatch describe-alarms --alarm-names {alarm}",
                )

    def _listed(self, kind: str, verb: str, parts: Sequence[str | None]) -> frozenset[str]:
        return frozenset(
            one[f"{kind}Name"] for part in parts for one in self._pages(kind, verb, part)
        )

    def _pages(self, kind: str, verb: str, part: str | None) -> list[Mapping[str, Any]]:
        """Return all things of a kind that have *part* in their names."""
        filters = {"NameContains": part} if part else {}
        with self._translated(part or kind):
            pages = self._client.get_paginator(verb).paginate(
                **filters, PaginationConfig={"PageSize": PAGE}
            )
            return [one for page in pages for one in page[f"{kind}s"]]

    def _has_model(self, name: str, model: str) -> bool:
        try:
            with self._translated(name):
                self._client.describe_model(ModelName=model)
        except NotFound:
            return False
        return True

    def _tags(self, arn: str, name: str) -> dict[str, str]:
        """Return the tags of something; none where it is gone."""
        with suppress(NotFound), self._translated(name):
            tags = self._client.list_tags(ResourceArn=arn)["Tags"]
            return {tag["Key"]: tag["Value"] for tag in tags}
        return {}

    def _models(self, name: str, config: str) -> dict[str, str]:
        return {
            variant["VariantName"]: variant["ModelName"]
            for variant in self._variants(name, config)
            if "ModelName" in variant
        }

    def _variants(self, name: str, config: str) -> list[Mapping[str, Any]]:
        try:
            with self._translated(name):
                return everything(self._client.describe_endpoint_config(EndpointConfigName=config))
        except NotFound:
            return []

    def _once(self, name: str, act: Callable[[], object]) -> None:
        with suppress(AlreadyExists), self._translated(name):
            act()

    @property
    def _client(self) -> Any:
        return self._clients["sagemaker"]

    def _translated(self, name: str) -> Any:
        return translated(f"endpoint {name}", target=self._target)
