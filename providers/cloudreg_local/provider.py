"""Wiring: one folder, three backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudreg.capabilities import Capabilities
from cloudreg.provider import NoTransfer, ProviderContext, TransferBackend
from cloudreg_local.abilities import capabilities
from cloudreg_local.batches import LocalBatch
from cloudreg_local.endpoints import SERVER, LocalEndpoints
from cloudreg_local.registry import LocalRegistry
from cloudreg_local.store import LocalStore

if TYPE_CHECKING:
    from cloudreg_local.settings import LocalSettings


class LocalProvider:
    """One local target, opened; nothing is written before the first verb."""

    def __init__(self, settings: LocalSettings, context: ProviderContext) -> None:
        """Find the folder.

        Args:
            settings: The target's section.
            context: Its name, and where relative paths start.
        """
        # Absolute, because the supervisor of an endpoint works in another folder.
        root = (context.root / settings.path).absolute()
        self.root = root
        self.capabilities: Capabilities = capabilities(
            emulate_accelerators=settings.emulate_accelerators
        )
        self.store = LocalStore(root / "store", target=context.target)
        self.registry = LocalRegistry(root / "registry", target=context.target)
        self.endpoints = LocalEndpoints(
            root / "endpoints", self.store, settings, self.capabilities, target=context.target
        )

        self.batch = LocalBatch(
            root / "batch",
            self.store,
            self.capabilities,
            store_root=root / "store",
            command=settings.server_command or SERVER,
            target=context.target,
        )

        self.location = ""
        self.transfers: TransferBackend = NoTransfer(
            "nobody but this machine writes into its folder", target=context.target
        )

    def close(self) -> None:
        """Let go; endpoints stay."""
