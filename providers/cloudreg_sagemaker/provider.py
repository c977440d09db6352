"""Wiring: one account and region, three backends, no call before the first verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.provider import NoTransfer, ProviderContext, TransferBackend
from cloudreg_sagemaker.abilities import NO_SERVICE, capabilities
from cloudreg_sagemaker.batches import SageMakerBatch
from cloudreg_sagemaker.clients import Clients, Observer
from cloudreg_sagemaker.endpoints import SageMakerEndpoints
from cloudreg_sagemaker.registry import SageMakerRegistry
from cloudreg_sagemaker.store import S3Objects

if TYPE_CHECKING:
    from cloudreg_sagemaker.settings import SageMakerSettings


class SageMakerProvider:
    """One SageMaker target, opened."""

    def __init__(self, settings: SageMakerSettings, context: ProviderContext) -> None:
        """Prepare the clients; credentials are looked for when the first of them is used.

        Args:
            settings: The target's section.
            context: Its name.
        """
        import boto3

        self.target = context.target
        self.clients = Clients(settings)
        self.capabilities: Capabilities = capabilities(settings)
        # A session of its own: one that two threads make clients of at once breaks.
        self.store = S3Objects(
            boto3.session.Session(region_name=settings.region),
            bucket=settings.bucket,
            region=settings.region,
            target=context.target,
            prefix=settings.prefix,
            account=settings.account,
            kms_key=settings.kms_key,
            endpoint_url=settings.endpoint_url,
        )
        self.registry = SageMakerRegistry(self.clients, self.store, settings, target=context.target)
        self.endpoints = SageMakerEndpoints(
            self.clients, self.store, settings, self.capabilities, target=context.target
        )

        self.batch = SageMakerBatch(
            self.clients, self.store, settings, self.capabilities, target=context.target
        )

        self.location = settings.uri("")
        self.transfers: TransferBackend = NoTransfer(NO_SERVICE, target=context.target)

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Tell *listener* signing name and operation of every call that boto3 makes from now on."""
        self.clients.listen(listener)
        self.store.listen(listener)

    def observe(self, observer: Observer) -> None:
        """Tell *observer* that and the parameters of each call, as boto3 takes them."""
        self.clients.observe(observer)
        self.store.observe(observer)

    def close(self) -> None:
        """Let go of the clients; endpoints stay."""
        self.clients.close()
        self.store.close()
