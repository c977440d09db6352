"""A version as a target's own registry shows it."""

from __future__ import annotations

from typing import Any

from cloudreg.errors import NotFound
from cloudreg.provider import RegistryBackend
from cloudreg.types import ModelVersion, PublishedVersion


class LiveVersion:
    """One version in the registry of one target."""

    def __init__(self, backend: RegistryBackend, version: ModelVersion, *, target: str) -> None:
        """Address the version; nothing is asked yet.

        Args:
            backend: The target's.
            version: What the ledger says of it.
            target: For messages.
        """
        self.version = version
        self.target = target
        self._backend = backend

    def __repr__(self) -> str:
        """Say which one it is."""
        return f"<LiveVersion {self.version.ref} on {self.target}>"

    def describe(self) -> PublishedVersion:
        """Return what a console user sees of it.

        Raises:
            NotFound: The target does not show it.
        """
        shown = self._backend.published(self.version.model)
        found = next((one for one in shown if one.digest == self.version.digest), None)
        if found is None:
            raise NotFound(
                f"{self.version.ref} is not published on {self.target}",
                target=self.target,
                hint=f"cloudreg promote {self.version.ref} --to a stage of {self.target}",
            )
        return found

    def native(self) -> Any:
        """Return the target's own object of the version, for what cloudreg has no word for.

        Raises:
            NotFound: The target does not show it.
        """
        return self._backend.native(self.version.model, self.version.digest)
