"""EndpointService: endpoints, what is deployed to them, and who gets the traffic."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from google.protobuf import empty_pb2, timestamp_pb2

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.deployments import Deployment, Deployments
from cloudreg_emulator.google.vertex.endpointrules import (
    OUTPUT_ONLY,
    check_deployed_id,
    check_endpoint,
    check_endpoint_id,
    check_mutable,
    check_routes,
    check_updatable,
    check_updatable_slowly,
    deployed_model,
    parts_of,
    set_split,
)
from cloudreg_emulator.google.vertex.listing import listed
from cloudreg_emulator.google.vertex.masks import masked, paths_of, write
from cloudreg_emulator.google.vertex.operations import Operations, Steps, Wait, after
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.refusals import (
    aborted,
    exists,
    invalid,
    missing,
    precondition,
)
from cloudreg_emulator.google.vertex.resources import check_resources, check_scaling, completed
from cloudreg_emulator.google.vertex.rules import check_display_name, required
from cloudreg_emulator.google.vertex.services import Call, Service
from cloudreg_emulator.google.vertex.splits import NEW, check_split
from cloudreg_emulator.google.vertex.versions import Registry
from cloudreg_emulator.google.world import World

__all__ = ["Endpoints"]

CREATE_S = 5.0
UNDEPLOY_S = 10.0
MUTATE_S = 5.0
"""Emulated seconds, beside those that processes take."""

DEPLOY_S = 30.0

_FILTERS = {
    "endpoint": "id",
    "display_name": "display_name",
    "labels": "labels",
    "endpoint_id": "id",
}
_ORDERS = {name: name for name in ("display_name", "create_time", "update_time")}


class Endpoints(Service):
    """All endpoints of one emulator.

    Attributes:
        records: By name.
    """

    service = "EndpointService"

    def __init__(
        self,
        world: World,
        operations: Operations,
        registry: Registry,
        deployments: Deployments,
    ) -> None:
        """Deploy what is in *registry*, as the processes of *deployments*."""
        super().__init__(world)
        self.operations = operations
        self.registry = registry
        self.deployments = deployments
        self.records: Records[Any] = Records("endpoints", protos.message("Endpoint"))
        registry.deployed = self._deployed

    def create_endpoint(self, request: Any, call: Call) -> Any:
        """Make an endpoint, to which nothing is deployed."""
        if not request.HasField("endpoint"):
            raise required("endpoint")
        asked = request.endpoint
        check_endpoint_id(request.endpoint_id)
        place = parts_of(request.parent)
        check_endpoint(asked, place, "endpoint")
        if asked.traffic_split:
            check_split(asked.traffic_split, (), "endpoint.traffic_split")
        endpoint_id = request.endpoint_id or self.world.number()
        name = f"{place.parent}/endpoints/{endpoint_id}"
        if name in self.records:
            raise exists("Endpoint", name)

        def make() -> Any:
            if name in self.records:
                raise exists("Endpoint", name)
            made = type(asked)()
            made.CopyFrom(asked)
            for field in OUTPUT_ONLY:
                made.ClearField(field)
            made.name = name
            made.create_time.CopyFrom(self._now())
            if made.dedicated_endpoint_enabled:
                made.dedicated_endpoint_dns = (
                    f"{endpoint_id}.{place.location}-{self.world.place.number}"
                    ".prediction.vertexai.goog"
                )
            return self._put(made)

        return self.operations.begin(call, name, after(make, seconds=CREATE_S))

    def get_endpoint(self, request: Any, call: Call) -> Any:
        """Return an endpoint."""
        return self._view(self.find(request.name))

    def list_endpoints(self, request: Any, call: Call) -> Any:
        """Return the endpoints of a location."""
        stale_s = self.world.stale_s("ListEndpoints")
        there = [
            self._view(one) for one in self.records.under(f"{request.parent}/", stale_s=stale_s)
        ]
        page, token = listed(there, request, fields=_FILTERS, orders=_ORDERS)
        page = [masked(one, request.read_mask) for one in page]
        return protos.new("ListEndpointsResponse", endpoints=page, next_page_token=token)

    def update_endpoint(self, request: Any, call: Call) -> Any:
        """Change an endpoint's own fields, its traffic among them."""
        asked = request.endpoint
        paths = paths_of(request.update_mask, asked, field="update_mask")
        if not paths:
            raise required("update_mask")
        return self._view(self._update(asked, paths))

    def update_endpoint_long_running(self, request: Any, call: Call) -> Any:
        """Change an endpoint where that takes time."""
        asked = request.endpoint
        endpoint = self.find(asked.name)
        check_updatable_slowly(asked, endpoint)
        check_endpoint(
            _with(endpoint, asked, ["client_connection_config"]),
            parts_of(endpoint.name),
            "endpoint",
        )

        def change() -> Any:
            return self._view(self._update(asked, ["client_connection_config"]))

        return self.operations.begin(call, endpoint.name, after(change, seconds=MUTATE_S))

    def delete_endpoint(self, request: Any, call: Call) -> Any:
        """Delete an endpoint to which nothing is deployed."""
        endpoint = self.find(request.name)
        self._check_empty(endpoint)

        def remove() -> Any:
            self._check_empty(endpoint)
            self.records.pop(endpoint.name)
            return empty_pb2.Empty()

        return self.operations.begin(call, endpoint.name, after(remove, seconds=CREATE_S))

    def deploy_model(self, request: Any, call: Call) -> Any:
        """Start a model's replicas, and give them their share of the traffic."""
        endpoint = self.find(request.endpoint)
        asked = request.deployed_model
        version = self._check_deployed(asked, call)
        check_routes(version, endpoint)
        known = [*(one.id for one in endpoint.deployed_models), NEW]
        check_split(request.traffic_split, known, "traffic_split")
        deployed = type(asked)()
        deployed.CopyFrom(asked)
        deployed.id = deployed.id or self.world.number()
        if self.deployments.get(endpoint.name, deployed.id) is not None:
            # It is deployed, or on its way.
            raise exists("DeployedModel", deployed.id)
        # What was asked for by an alias is that version from now on, wherever the alias goes.
        deployed.model = version.name
        deployed.model_version_id = version.version_id
        completed(deployed.dedicated_resources)
        split = dict(request.traffic_split)
        return self.operations.begin(
            call, endpoint.name, self._deploy(endpoint.name, deployed, version, split)
        )

    def undeploy_model(self, request: Any, call: Call) -> Any:
        """Stop a model's replicas, once they get no traffic."""
        endpoint = self.find(request.endpoint)
        self._check_undeploy(endpoint, request)

        def remove() -> Any:
            now = self.find(endpoint.name)
            self._check_undeploy(now, request)
            if request.traffic_split:
                set_split(now, dict(request.traffic_split))
            elif now.traffic_split.get(request.deployed_model_id):
                # It was the last: nobody is left to get it.
                set_split(now, {})
            elif request.deployed_model_id in now.traffic_split:
                del now.traffic_split[request.deployed_model_id]
            left = [one for one in now.deployed_models if one.id != request.deployed_model_id]
            del now.deployed_models[:]
            now.deployed_models.extend(left)
            self._put(now)
            self.deployments.stop(now.name, request.deployed_model_id)
            return protos.new("UndeployModelResponse")

        return self.operations.begin(call, endpoint.name, after(remove, seconds=UNDEPLOY_S))

    def mutate_deployed_model(self, request: Any, call: Call) -> Any:
        """Change how many replicas a deployed model may have."""
        endpoint = self.find(request.endpoint)
        asked = request.deployed_model
        deployed = deployed_model(endpoint, asked.id)
        version = call.rpc.version
        paths = paths_of(
            request.update_mask, protos.as_version(asked, version), field="update_mask"
        )
        if not paths:
            raise required("update_mask")
        check_mutable(paths, version=version)
        changed = _with(deployed, asked, paths, version=version)
        check_scaling(
            changed.dedicated_resources,
            "deployed_model.dedicated_resources",
            version=version,
        )

        def mutate() -> Any:
            now = self.find(endpoint.name)
            kept = deployed_model(now, asked.id)
            kept.CopyFrom(_with(kept, asked, paths, version=version))
            completed(kept.dedicated_resources)
            self._put(now)
            self.deployments.bound(now.name, kept)
            return protos.new("MutateDeployedModelResponse", deployed_model=kept)

        return self.operations.begin(call, endpoint.name, after(mutate, seconds=MUTATE_S))

    def find(self, name: str) -> Any:
        """Return what is kept of an endpoint.

        Raises:
            Refused: NOT_FOUND.
        """
        found = self.records.get(name)
        if found is None:
            raise missing("Endpoint", name)
        return found

    def restart(self) -> None:
        """Start again what was deployed when the last emulator ended."""
        for name, endpoint in self.records.items():
            for deployed in endpoint.deployed_models:
                version = self.registry.versions.get(
                    f"{deployed.model}@{deployed.model_version_id}"
                )
                if version is not None:
                    self.deployments.start(name, deployed, version)

    def _deploy(self, name: str, deployed: Any, version: Any, split: dict[str, int]) -> Steps:
        deployment = self.deployments.start(name, deployed, version)
        kept = False
        try:
            yield Wait(seconds=DEPLOY_S, until=deployment.is_up)
            endpoint = self.find(name)
            if split:
                wanted = {deployed.id if one == NEW else one: part for one, part in split.items()}
                known = [*(one.id for one in endpoint.deployed_models), deployed.id]
                check_split(wanted, known, "traffic_split")
                set_split(endpoint, wanted)
            deployed.create_time.CopyFrom(self._now())
            endpoint.deployed_models.append(deployed)
            self._put(endpoint)
            kept = True
        finally:
            if not kept:
                deployment.stop()
                self.deployments.forget(name, deployed.id)
        return protos.new("DeployModelResponse", deployed_model=self._seen(name, deployed))

    def _check_deployed(self, asked: Any, call: Call) -> Any:
        """Refuse a deployed model that cannot be; return the version that it serves."""
        field = "deployed_model"
        if not asked.model:
            raise required(f"{field}.model")
        check_deployed_id(asked.id, f"{field}.id")
        if asked.display_name:
            check_display_name(asked.display_name, f"{field}.display_name")
        version = self.registry.resolve(self.canonical(asked.model, f"{field}.model"))
        if not asked.HasField("dedicated_resources"):
            # Custom containers have no other resources: supported_deployment_resources_types.
            raise invalid(
                f"{field}.prediction_resources",
                "Model supports only DEDICATED_RESOURCES.",
            )
        check_resources(
            asked.dedicated_resources, f"{field}.dedicated_resources", version=call.rpc.version
        )
        return version

    def _check_undeploy(self, endpoint: Any, request: Any) -> None:
        one = request.deployed_model_id
        deployed_model(endpoint, one)
        others = [other.id for other in endpoint.deployed_models if other.id != one]
        if request.traffic_split:
            check_split(request.traffic_split, others, "traffic_split")
            return
        if endpoint.traffic_split.get(one) and others:
            raise precondition(  # unquoted
                f"DeployedModel {one} has {endpoint.traffic_split[one]} % of the traffic of "
                f"{endpoint.name}: a traffic_split without it is needed."
            )

    def _check_empty(self, endpoint: Any) -> None:
        ids = {one.id: None for one in endpoint.deployed_models}
        for name, deployment in self.deployments.items():
            if name == endpoint.name:
                ids[deployment.deployed.id] = None
        if ids:
            raise precondition(  # unquoted
                f'The Endpoint "{endpoint.name}" has deployed or being-deployed DeployedModel(s) '
                f"with ID(s): {', '.join(ids)}."
            )

    def _update(self, asked: Any, paths: list[str]) -> Any:
        endpoint = self.find(asked.name)
        check_updatable(paths)
        if asked.etag and asked.etag != self._etag(endpoint):
            # In the words of the metadata service: google/cloud/aiplatform/metadata/context.py
            raise aborted(
                f"Specified Endpoint `etag`: `{asked.etag}` does not match server `etag`: "
                f"`{self._etag(endpoint)}`"
            )
        changed = _with(endpoint, asked, paths)
        check_endpoint(changed, parts_of(endpoint.name), "endpoint")
        check_split(
            changed.traffic_split,
            [one.id for one in endpoint.deployed_models],
            "endpoint.traffic_split",
        )
        return self._put(changed)

    def _put(self, endpoint: Any) -> Any:
        endpoint.update_time.CopyFrom(self._now())
        return self.records.put(endpoint.name, endpoint)

    def _view(self, endpoint: Any) -> Any:
        shown = type(endpoint)()
        shown.CopyFrom(endpoint)
        shown.etag = self._etag(endpoint)
        for deployed in shown.deployed_models:
            self._state(endpoint.name, deployed)
        return shown

    def _seen(self, name: str, deployed: Any) -> Any:
        shown = type(deployed)()
        shown.CopyFrom(deployed)
        self._state(name, shown)
        return shown

    def _state(self, name: str, deployed: Any) -> None:
        found: Deployment | None = self.deployments.get(name, deployed.id)
        deployed.status.available_replica_count = found.ready if found is not None else 0
        if found is not None and found.failure:
            deployed.status.message = found.failure

    def _etag(self, endpoint: Any) -> str:
        digest = hashlib.sha256(endpoint.SerializeToString(deterministic=True)).digest()
        return "AMEw9y" + base64.urlsafe_b64encode(digest[:24]).decode()

    def _now(self) -> timestamp_pb2.Timestamp:
        return self.registry.now()

    def _deployed(self, model: str, version: str | None) -> list[Any]:
        """Return where a model, or one version of it, is deployed or being deployed."""
        found = []
        for endpoint, deployment in self.deployments.items():
            deployed = deployment.deployed
            if deployed.model == model and version in (None, deployed.model_version_id):
                found.append(
                    protos.new("DeployedModelRef", endpoint=endpoint, deployed_model_id=deployed.id)
                )
        return found


def _with(kept: Any, asked: Any, paths: list[str], *, version: str = protos.V1) -> Any:
    """Return a copy of what is kept, with what is asked for at *paths* of that version."""
    copy = type(kept)()
    copy.CopyFrom(kept)
    changed = protos.as_version(copy, version)
    write(protos.as_version(asked, version), changed, paths)
    return protos.as_version(changed, protos.V1)
