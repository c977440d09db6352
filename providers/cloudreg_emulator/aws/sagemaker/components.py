"""Inference components: several models on the instances of one variant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cloudreg_emulator.aws.sagemaker import machines, scalable
from cloudreg_emulator.aws.sagemaker.component import Component
from cloudreg_emulator.aws.sagemaker.course import Failed, Steps, Wait, begun
from cloudreg_emulator.aws.sagemaker.endpoint import Endpoint
from cloudreg_emulator.aws.sagemaker.endpoints import Endpoints
from cloudreg_emulator.aws.sagemaker.errors import existing, invalid, missing
from cloudreg_emulator.aws.sagemaker.generation import Serving, launch_of, the_container
from cloudreg_emulator.aws.sagemaker.hosting import Hosting
from cloudreg_emulator.aws.sagemaker.place import Place
from cloudreg_emulator.aws.sagemaker.routes import Route
from cloudreg_emulator.aws.sagemaker.shelf import Shelf
from cloudreg_emulator.aws.sagemaker.tagging import Tags
from cloudreg_emulator.aws.sagemaker.variants import is_component_host
from cloudreg_emulator.aws.world import current
from cloudreg_emulator.fleet import Group

__all__ = ["Components"]

Request = Mapping[str, Any]


class Components:
    """Inference components of one account in one region."""

    def __init__(self, place: Place, tags: Tags, hosting: Hosting, endpoints: Endpoints) -> None:
        """Begin with none."""
        self.shelf = Shelf()
        self._place = place
        self._tags = tags
        self._hosting = hosting
        self._endpoints = endpoints
        self._components: dict[str, Component] = {}

    def __iter__(self) -> Iterator[Component]:
        return iter(list(self._components.values()))

    def on(self, endpoint: str) -> list[Component]:
        """Return the components on an endpoint."""
        self.advance()
        return [one for one in self if one.endpoint == endpoint]

    def create(self, request: Request) -> str:
        """Begin to create a component and return its ARN."""
        name = request["InferenceComponentName"]
        arn = self._place.arn("inference-component", name)
        self.advance()
        if name in self._components:
            raise existing("inference component", arn)
        specification = _only(request)
        _check_specification(specification)
        copies = (request.get("RuntimeConfig") or {}).get("CopyCount")
        if specification.get("BaseInferenceComponentName"):
            raise invalid("The emulator does not run adapter inference components.")
        if not copies:
            # https://github.com/stdapi-ai/stdapi.ai/issues/43 quotes this, for 0.
            raise invalid("Inference components copy count an integer larger than 0.")
        endpoint = self._endpoints.get(request["EndpointName"])
        serving = self._host(request)
        component = Component(
            {**request, "Specification": specification},
            arn=arn,
            endpoint_arn=endpoint.arn,
            variant=serving.name,
            copies=copies,
        )
        self._container(component, serving)
        self._tags.begin(arn, request.get("Tags"))
        self._components[name] = component
        self._begin("CreateInferenceComponent", component, self._creating(component), "Creating")
        return arn

    def get(self, name: str, *, described: bool = False) -> Component:
        """Return a component as it is now.

        Args:
            name: Its name.
            described: Whether DescribeInferenceComponent asks.
        """
        component = self._components.get(name)
        if component is not None:
            self._advance(component, described=described)
        if component is None or component.gone:
            raise missing("inference component", self._place.arn("inference-component", name))
        return component

    def describe(self, name: str) -> dict[str, Any]:
        """Return DescribeInferenceComponent's answer; a transition that it shows counts."""
        component = self.get(name, described=True)
        body = component.describe()
        if component.course is not None:
            component.course.see()
        return body

    def update(self, request: Request) -> str:
        """Begin to change what a component runs, or how many copies; return its ARN."""
        component = self._settled(request["InferenceComponentName"])
        changed = request.get("Specification") or request.get("Specifications")
        copies = (request.get("RuntimeConfig") or {}).get("CopyCount")
        if not changed and copies is None:
            # internal/service/sagemaker/inference_component.go of the Terraform provider says
            # that this is rejected. Unquoted.
            raise invalid("Specify at least one of Specification or RuntimeConfig.")
        specification = component.specification
        if changed:
            specification = _changed(component.specification, _only(request))
            _check_specification(specification)
        component.failure = None
        component.deployment = request.get("DeploymentConfig") or component.deployment
        wanted = component.copies if copies is None else copies
        steps = self._changing(component, specification, wanted)
        self._begin("UpdateInferenceComponent", component, steps, "Updating")
        return component.arn

    def rescale(self, name: str, copies: int) -> str:
        """Begin to change the number of copies, also to none; return the component's ARN."""
        component = self._settled(name)
        component.failure = None
        steps = self._changing(component, component.specification, copies)
        self._begin("UpdateInferenceComponentRuntimeConfig", component, steps, "Updating")
        return component.arn

    def delete(self, name: str) -> None:
        """Begin to delete a component."""
        component = self.get(name)
        if component.status == "Deleting":
            # The Terraform provider matches this word.
            raise invalid(f'Inference component "{component.arn}" is in DELETE_IN_PROGRESS.')
        if component.status in ("Creating", "Updating"):
            # https://github.com/aws/amazon-sagemaker-examples/issues/3432; unquoted.
            raise _in_progress(component)
        scalable.forget(self._place, resource=f"inference-component/{name}")
        self._begin("DeleteInferenceComponent", component, self._deleting(component), "Deleting")

    def routes(self, endpoint: Endpoint) -> list[Route]:
        """Return where requests to an endpoint go that name a component."""
        self.advance()
        found: list[Route] = []
        for one in self:
            serving = endpoint.blue.serving(one.variant) if endpoint.blue else None
            if one.endpoint != endpoint.name or one.group is None or serving is None:
                continue
            if one.status in ("InService", "Updating"):
                found.append(
                    Route(
                        variant=one.variant,
                        weight=1.0,
                        group=one.group,
                        model_name=one.specification.get("ModelName"),
                        config=serving.config,
                        component=one.name,
                    )
                )
        return found

    def advance(self) -> None:
        """Take every step whose time has come."""
        for component in self:
            self._advance(component)

    def stop(self) -> None:
        """End every copy, in the background."""
        for component in self:
            if component.group is not None:
                component.group.stop()

    def _begin(self, operation: str, component: Component, steps: Steps, status: str) -> None:
        component.become(status)
        component.course = begun(operation, steps)
        self._advance(component)

    def _advance(self, component: Component, *, described: bool = False) -> None:
        component.advance(described=described)
        if component.gone:
            if self._components.pop(component.name, None) is not None:
                self.shelf.drop(component.name)
                self._tags.end(component.arn)
            return
        summary = component.summary()
        if self.shelf.get(component.name) != summary:
            self.shelf.put(component.name, summary)

    def _settled(self, name: str) -> Component:
        component = self.get(name)
        if component.status != "InService":
            raise _in_progress(component)
        return component

    def _host(self, request: Request) -> Serving:
        endpoint = self._endpoints.get(request["EndpointName"])
        if endpoint.blue is None or endpoint.status in ("Failed", "Deleting"):
            raise invalid(f'Endpoint "{endpoint.arn}" is in status {endpoint.status}.')
        hosts = [one for one in endpoint.blue.production if is_component_host(one.config)]
        if not hosts:
            # https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-deploy-models.html
            raise invalid(f'Endpoint "{endpoint.arn}" does not support inference components.')
        name = request.get("VariantName")
        if name is None:
            raise invalid("VariantName must be specified.")
        found = next((one for one in hosts if one.name == name), None)
        if found is None:
            raise invalid(
                f'The variant name(s) "{name}" is/are not present within endpoint configuration '
                f'"{endpoint.config_name}".'
            )
        return found

    def _container(self, component: Component, serving: Serving) -> Any:
        """Return what a copy is started with."""
        specification = component.specification
        model = specification.get("ModelName")
        if model:
            container = the_container(self._hosting.containers(model), model)
            shown = {**container, **(specification.get("Container") or {})}
        else:
            own = dict(specification["Container"])
            artifact = own.pop("ArtifactUrl", None)
            shown = {**own, "ModelDataUrl": artifact} if artifact else own
        launch = launch_of(
            shown,
            arn=component.arn,
            endpoint=component.endpoint,
            variant=component.variant,
            instance_type=serving.instance_type,
            timeouts=specification.get("StartupParameters") or {},
        )
        return replace(launch, component=component.name)

    def _serving(self, component: Component) -> Serving:
        endpoint = self._endpoints.get(component.endpoint)
        serving = endpoint.blue.serving(component.variant) if endpoint.blue else None
        if serving is None:
            raise Failed(f"Variant {component.variant} is gone.")
        return serving

    def _is_hosted(self, component: Component) -> bool:
        """Return whether the endpoint is there; a component may be asked for while it comes."""
        endpoint = self._endpoints.get(component.endpoint)
        if endpoint.status == "Failed":
            raise Failed(f"Endpoint {component.endpoint} failed: {endpoint.failure}")
        return endpoint.is_serving

    def _place_copies(self, component: Component, copies: int) -> None:
        """Find instances for all copies on a variant, which managed scaling may start or end.

        Raises:
            Failed: There are not enough.
        """
        serving = self._serving(component)
        per_instance = machines.accelerators(serving.instance_type)
        needed = 0.0
        for one in self:
            if (one.endpoint, one.variant) == (component.endpoint, component.variant):
                needed += one.devices * (copies if one is component else one.copies)
        scaling = serving.config.get("ManagedInstanceScaling") or {}
        managed = scaling.get("Status") == "ENABLED"
        most = scaling.get("MaxInstanceCount", serving.desired) if managed else serving.desired
        short = component.devices > per_instance or needed > per_instance * most
        if short and component.devices and copies:
            raise Failed(
                "There is not enough hardware resources on the instances to create or update "
                f"component {component.name}: {needed:g} accelerator devices are required, "
                f"{per_instance * most} can be had."
            )
        if managed:
            least = scaling.get("MinInstanceCount", 1)
            running = any(
                (copies if one is component else one.copies)
                for one in self
                if (one.endpoint, one.variant) == (component.endpoint, component.variant)
            )
            wanted = math.ceil(needed / per_instance) if per_instance else int(running)
            serving.resize(max(least, min(most, max(wanted, int(running)))))

    def _start(self, component: Component, copies: int) -> Group:
        self._place_copies(component, copies)
        launch = self._container(component, self._serving(component))
        return current().fleet.start(launch, copies)

    def _creating(self, component: Component) -> Steps:
        try:
            yield Wait(until=lambda: self._is_hosted(component))
            component.group = self._start(component, component.copies)
            yield Wait(until=lambda: _ready(component.group))
        except Failed as error:
            if component.group is not None:
                component.group.stop()
                component.group = None
            component.failure = str(error)
            component.become("Failed")
            return
        component.become("InService")

    def _changing(
        self, component: Component, specification: Mapping[str, Any], copies: int
    ) -> Steps:
        before, old, group = component.copies, component.specification, component.group
        fresh: Group | None = None
        try:
            component.specification = specification
            if specification is not old:
                fresh = self._start(component, copies)
                yield Wait(until=lambda: _ready(fresh))
            else:
                self._place_copies(component, copies)
                assert group is not None
                component.copies = copies
                group.resize(copies)
                yield Wait(until=lambda: _ready(group))
        except Failed as error:
            component.specification = old
            component.copies = before
            if fresh is not None:
                fresh.stop()
            elif group is not None:
                group.resize(before)
            component.failure = str(error)
            component.become("InService")
            return
        if fresh is not None:
            component.group = fresh
            if group is not None:
                group.stop()
        component.copies = copies
        component.become("InService")

    def _deleting(self, component: Component) -> Steps:
        if component.group is not None:
            component.group.stop()
        component.copies = 0
        yield Wait()
        component.gone = True


def _ready(group: Group | None) -> bool:
    assert group is not None
    if group.ready >= group.desired:
        return True
    if group.failure is not None:
        raise Failed(group.failure)
    return False


def _changed(before: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification with what was asked for; a model and an image replace each other."""
    kept = dict(before)
    if asked.get("ModelName"):
        kept.pop("Container", None)
    elif (asked.get("Container") or {}).get("Image"):
        kept.pop("ModelName", None)
    return {**kept, **asked}


def _only(request: Request) -> dict[str, Any]:
    one, several = request.get("Specification"), request.get("Specifications")
    if one and several:
        # Specifications in the service model: "but not both". Unquoted.
        raise invalid("Specify either Specification or Specifications, but not both.")
    if several:
        raise invalid("The emulator does not run Specifications for several instance types.")
    if not one:
        raise invalid("Specify either Specification or Specifications.")
    return dict(one)


def _check_specification(specification: Mapping[str, Any]) -> None:
    base = specification.get("BaseInferenceComponentName")
    model, container = specification.get("ModelName"), specification.get("Container")
    if not base and not model and not (container or {}).get("Image"):
        # API_InferenceComponentSpecification; unquoted.
        raise invalid("Specify ModelName, or Container with an Image, in the Specification.")
    if model and (container or {}).get("Image"):
        raise invalid("Specify one of either ModelName or Container in the Specification.")
    if not base and not specification.get("ComputeResourceRequirements"):
        raise invalid("ComputeResourceRequirements must be specified.")


def _in_progress(component: Component) -> Exception:
    return invalid(
        f'Cannot update inference component "{component.arn}" in status {component.status}.'
    )
