"""Wiring: one project and location, three backends, no call before the first verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.provider import ProviderContext
from cloudreg_vertex.abilities import capabilities
from cloudreg_vertex.batches import VertexBatch
from cloudreg_vertex.endpoints import VertexEndpoints
from cloudreg_vertex.registry import VertexRegistry
from cloudreg_vertex.services import Services
from cloudreg_vertex.store import GcsObjects
from cloudreg_vertex.transfers import StorageTransfers

if TYPE_CHECKING:
    from cloudreg_vertex.settings import VertexSettings


class VertexProvider:
    """One Vertex AI target, opened."""

    def __init__(self, settings: VertexSettings, context: ProviderContext) -> None:
        """Prepare the clients; credentials are looked for when the first of them is used.

        Args:
            settings: The target's section.
            context: Its name.
        """
        self.services = Services(settings, target=context.target)
        self.capabilities: Capabilities = capabilities(settings)
        self.store = GcsObjects(settings, target=context.target)
        self.registry = VertexRegistry(self.services, self.store, settings, target=context.target)
        self.endpoints = VertexEndpoints(
            self.services, self.store, settings, self.capabilities, target=context.target
        )
        self.batch = VertexBatch(
            self.services, self.store, settings, self.capabilities, target=context.target
        )

        self.location = settings.uri("")
        self.transfers = StorageTransfers(settings, target=context.target)

    def close(self) -> None:
        """Let go of the clients; endpoints stay."""
        self.services.close()
        self.transfers.close()
        self.store.close()
