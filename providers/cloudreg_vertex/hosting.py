"""Vertex AI's endpoints: one call a verb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.errors import NotFound
from cloudreg_vertex import labels
from cloudreg_vertex.requests import OWNER

if TYPE_CHECKING:
    from cloudreg_vertex.services import Services

PAGE = 100


class Hosting:
    """What the operations of endpoints are made of."""

    def __init__(self, services: Services, *, version: str) -> None:
        """Use the SDK's clients of an API *version*; nothing is sent."""
        self._services = services
        self._version = version

    def look(self, name: str) -> Any | None:
        """Return the ``Endpoint`` message; None where there is none."""
        try:
            return self._call("get_endpoint", {"name": self.path(name)}, name)
        except NotFound:
            return None

    def all(self) -> Iterator[Any]:
        """Yield every endpoint that cloudreg made in this location."""
        yield from self._services.pages(
            "endpoints",
            "list_endpoints",
            {
                "parent": self._services.parent,
                "filter": f"labels.{labels.MODEL}:*",
                "page_size": PAGE,
            },
            what="endpoints",
        )

    def pending(self, name: str) -> bool:
        """Whether an operation of an endpoint is under way."""
        return bool(self._services.operations(self.path(name), what=f"endpoint {name}"))

    def digest(self, deployed: Any) -> str:
        """Return what a deployed model really runs: what its model server was given."""
        name = deployed.model.partition("@")[0]
        version = deployed.model_version_id
        try:
            model = self._services.call(
                "models",
                "get_model",
                {"name": f"{name}@{version}" if version else name},
                what=deployed.display_name,
            )
        except NotFound:
            return ""
        given = {one.name: one.value for one in model.container_spec.env}
        return str(given.get("CLOUDREG_DIGEST", ""))

    def published(self, model: str) -> list[Any]:
        """Return the versions that the registry has of a model; none without it."""
        try:
            return list(
                self._services.pages(
                    "models",
                    "list_model_versions",
                    {"name": f"{self._services.parent}/models/{model}", "page_size": PAGE},
                    what=model,
                )
            )
        except NotFound:
            return []

    def own_models(self, name: str) -> list[Any]:
        """Return the models that were made for one endpoint."""
        return list(
            self._services.pages(
                "models",
                "list_models",
                {
                    "parent": self._services.parent,
                    "filter": f"labels.{OWNER}={name}",
                    "page_size": PAGE,
                },
                what=f"endpoint {name}",
            )
        )

    def upload(self, model_id: str, model: Mapping[str, Any], *, what: str) -> str:
        """Begin UploadModel, and return the operation's name."""
        request = {"parent": self._services.parent, "model_id": model_id, "model": dict(model)}
        return self._begun("models", "upload_model", request, what)

    def create(self, name: str, endpoint: Mapping[str, Any]) -> str:
        """Begin CreateEndpoint, and return the operation's name."""
        request = {
            "parent": self._services.parent,
            "endpoint_id": name,
            "endpoint": dict(endpoint),
        }
        return self._begun("endpoints", "create_endpoint", request, f"endpoint {name}")

    def deploy(self, name: str, deployed: Mapping[str, Any], split: Mapping[str, int]) -> str:
        """Begin DeployModel, and return the operation's name."""
        request = {
            "endpoint": self.path(name),
            "deployed_model": dict(deployed),
            "traffic_split": dict(split),
        }
        return self._begun("endpoints", "deploy_model", request, f"endpoint {name}")

    def mutate(self, name: str, deployed_id: str, resources: Mapping[str, Any]) -> str:
        """Begin MutateDeployedModel for the number of replicas, and return the operation's name."""
        paths = ["min_replica_count", "max_replica_count", "autoscaling_metric_specs"]
        request = {
            "endpoint": self.path(name),
            "deployed_model": {"id": deployed_id, "dedicated_resources": dict(resources)},
            "update_mask": {"paths": [f"dedicated_resources.{path}" for path in paths]},
        }
        return self._begun("endpoints", "mutate_deployed_model", request, f"endpoint {name}")

    def undeploy(self, name: str, deployed_id: str) -> str:
        """Begin UndeployModel of one that carries no traffic, and return the operation's name."""
        request = {"endpoint": self.path(name), "deployed_model_id": deployed_id}
        return self._begun("endpoints", "undeploy_model", request, f"endpoint {name}")

    def route(
        self, name: str, split: Mapping[str, int], marks: Mapping[str, str] | None, *, etag: str
    ) -> Any:
        """Set the whole split, and the labels beside it, if nobody changed the endpoint since.

        Args:
            name: The endpoint's.
            split: Deployed model to percent; empty for none.
            marks: All labels; None leaves them.
            etag: Of the endpoint that the decision was made on.

        Raises:
            Conflict: Somebody did.
        """
        endpoint: dict[str, Any] = {
            "name": self.path(name),
            "traffic_split": dict(split),
            "etag": etag,
        }
        paths = ["traffic_split"]
        if marks is not None:
            endpoint["labels"] = dict(marks)
            paths.append("labels")
        return self._call(
            "update_endpoint", {"endpoint": endpoint, "update_mask": {"paths": paths}}, name
        )

    def remove(self, name: str) -> str:
        """Begin DeleteEndpoint, and return the operation's name."""
        return self._begun(
            "endpoints", "delete_endpoint", {"name": self.path(name)}, f"endpoint {name}"
        )

    def discard(self, model: str) -> str:
        """Begin DeleteModel of an endpoint's own model, and return the operation's name."""
        return self._begun("models", "delete_model", {"name": model}, model.rpartition("/")[2])

    def operation(self, operation: str, *, what: str) -> Any:
        """Return how an operation stands."""
        return self._services.operation(operation, what=what)

    def path(self, name: str) -> str:
        """Return an endpoint's resource name."""
        return f"{self._services.parent}/endpoints/{name}"

    def _call(self, method: str, request: Mapping[str, Any], name: str) -> Any:
        return self._services.call(
            "endpoints", method, request, what=f"endpoint {name}", version=self._version
        )

    def _begun(self, service: str, method: str, request: Mapping[str, Any], what: str) -> str:
        version = self._version if service == "endpoints" else "v1"
        answer = self._services.call(service, method, request, what=what, version=version)
        return str(answer.operation.name)
