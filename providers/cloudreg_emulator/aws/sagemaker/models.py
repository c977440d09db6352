"""The backend that takes the place of moto's: one for each account and region."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from moto.core.resource_tagging import TaggedResource
from moto.sagemaker.models import SageMakerModelBackend

from cloudreg_emulator.aws.sagemaker.components import Components
from cloudreg_emulator.aws.sagemaker.endpoint import Endpoint
from cloudreg_emulator.aws.sagemaker.endpoints import Endpoints
from cloudreg_emulator.aws.sagemaker.errors import invalid
from cloudreg_emulator.aws.sagemaker.hosting import Hosting
from cloudreg_emulator.aws.sagemaker.place import Place
from cloudreg_emulator.aws.sagemaker.registry import Registry
from cloudreg_emulator.aws.sagemaker.routes import Route
from cloudreg_emulator.aws.sagemaker.tagging import Tags
from cloudreg_emulator.aws.sagemaker.transforms import Transforms

__all__ = ["SageMakerBackend"]


class SageMakerBackend(SageMakerModelBackend):
    """SageMaker of one account in one region; what is not named here is moto's.

    Install it with ``moto.sagemaker.models.sagemaker_backends.backend = SageMakerBackend`` and
    ``sagemaker_backends.clear()``. The module must be called ``models``: moto looks for ``urls``
    beside it.

    Attributes:
        lock: Held while a request is handled.
        registry: Package groups and packages.
        hosting: Models and endpoint configurations.
        deployments: Endpoints.
        components: Inference components.
        transforms: Batch transform jobs.
    """

    def __init__(self, region_name: str, account_id: str) -> None:
        """Begin with nothing."""
        super().__init__(region_name, account_id)
        self.lock = threading.RLock()
        place = Place(account=account_id, region=region_name, partition=self.partition)
        self.place = place
        self.tags = Tags()
        self.registry = Registry(place, self.tags)
        self.hosting = Hosting(place, self.tags, self.registry)
        self.deployments = Endpoints(place, self.tags, self.hosting)
        self.components = Components(place, self.tags, self.hosting, self.deployments)
        self.transforms = Transforms(place, self.tags, self.hosting)

    def reset(self) -> None:
        """Forget everything, and end what runs."""
        self.deployments.stop()
        self.components.stop()
        self.transforms.stop()
        super().reset()

    def routes(self, endpoint: str, *, components: bool = False) -> list[Route]:
        """Return where requests to an endpoint go now, shadows included.

        Args:
            endpoint: Its name.
            components: Whether to return the routes of its inference components instead.

        Returns:
            Nothing where the endpoint does not serve.

        Raises:
            Refused: ``Could not find endpoint …``.
        """
        with self.lock:
            found = self.deployments.get(endpoint)
            return self.components.routes(found) if components else found.routes()

    def endpoint_state(self, name: str) -> Endpoint:
        """Return an endpoint as it is now, without counting as a describe.

        Raises:
            Refused: ``Could not find endpoint …``.
        """
        with self.lock:
            return self.deployments.get(name)

    def rescale_variant(self, endpoint: str, variant: str, count: int) -> None:
        """Do what Application Auto Scaling does to a variant.

        Raises:
            Refused: As UpdateEndpointWeightsAndCapacities would.
        """
        with self.lock:
            wanted = {"VariantName": variant, "DesiredInstanceCount": count}
            self.deployments.rescale(endpoint, [wanted])

    def rescale_component(self, component: str, copies: int) -> None:
        """Do what Application Auto Scaling does to an inference component; 0 is allowed.

        Raises:
            Refused: As UpdateInferenceComponentRuntimeConfig would.
        """
        with self.lock:
            self.components.rescale(component, copies)

    def advance(self) -> None:
        """Take every step whose time has come, though nobody describes."""
        with self.lock:
            self.deployments.advance()
            self.components.advance()
            self.transforms.advance()

    def tag(self, arn: str, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        """Add tags to a resource, and return all."""
        return self.tags.add(arn, tags) if self._is_ours(arn) else self.add_tags(arn, tags)

    def tags_of(self, arn: str) -> list[dict[str, str]]:
        """Return a resource's tags."""
        if self._is_ours(arn):
            return self.tags.of(arn)
        theirs, _ = self.list_tags(arn=arn)
        return list(theirs)

    def untag(self, arn: str, keys: list[str]) -> None:
        """Remove tags from a resource."""
        if self._is_ours(arn):
            self.tags.remove(arn, keys)
        else:
            self.delete_tags(arn, keys)

    def _is_ours(self, arn: str) -> bool:
        """Return whether a resource is kept here and not by moto.

        Raises:
            Refused: It should be here and is not, or it takes no tags.
        """
        kind, _, name = arn.split(":", 5)[-1].partition("/")
        look = _LOOK.get(kind)
        if look is None:
            return False
        if kind == "model-package" and "/" in name:
            # Tags of CreateModelPackage in the service model: versions use the group's. Unquoted.
            raise invalid(f"Tags are not supported for versioned model packages: {arn}.")
        look(self, name)
        if arn not in self.tags:
            raise invalid(f'Could not find resource "{arn}".')
        return True

    def iter_tagged_resources(self) -> Iterator[TaggedResource]:
        """Yield what the Resource Groups Tagging API shows."""
        for arn, tags in self.tags:
            kind = arn.split(":", 5)[-1].partition("/")[0]
            yield TaggedResource(arn=arn, tags=dict(tags), resource_type=f"sagemaker:{kind}")
        # moto takes the list of a model card's versions for a resource (AttributeError in 5.2.5).
        with self.lock:
            cards, self.model_cards = self.model_cards, defaultdict(list)
            try:
                theirs = list(super().iter_tagged_resources())
            finally:
                self.model_cards = cards
        for versions in cards.values():
            last = versions[-1]
            tags = {tag["Key"]: tag["Value"] for tag in last.tags or ()}
            yield TaggedResource(arn=last.arn, tags=tags, resource_type="sagemaker:model-card")
        yield from theirs


_LOOK: Mapping[str, Callable[[SageMakerBackend, str], object]] = {
    "model-package-group": lambda here, name: here.registry.group(name),
    "model-package": lambda here, name: here.registry.package(name),
    "model": lambda here, name: here.hosting.model(name),
    "endpoint-config": lambda here, name: here.hosting.config(name),
    "endpoint": lambda here, name: here.deployments.get(name),
    "inference-component": lambda here, name: here.components.get(name),
    "transform-job": lambda here, name: here.transforms.get(name),
}
"""What raises the refusal of a resource that is not there, by the kind in its ARN."""
