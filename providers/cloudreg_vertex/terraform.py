"""What Terraform's google provider has of ours: what it may take over, and must leave alone.

Source: https://registry.terraform.io/providers/hashicorp/google/latest/docs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cloudreg.provider import Deployed, Importable, PlannedChange

if TYPE_CHECKING:
    from cloudreg_vertex.provider import VertexProvider
    from cloudreg_vertex.settings import VertexSettings

ENDPOINT = "google_vertex_ai_endpoint"
_KEPT = "its traffic changes with each release, and Terraform takes numeric names only"


class Terraform:
    """Beside Terraform's google provider."""

    def existing(
        self, provider: VertexProvider, settings: VertexSettings, models: Iterable[str]
    ) -> Iterator[Importable]:
        # Refused by the store where it is missing or somebody else's.
        next(iter(provider.store.list("ledger/")), None)
        yield Importable(
            type="google_storage_bucket",
            name=settings.bucket,
            id=f"{settings.project}/{settings.bucket}",
        )
        # Models are of no resource type there.
        ours = {endpoint.spec.name for endpoint in provider.endpoints.endpoints()}
        request = {"parent": provider.services.parent}
        for seen in provider.services.pages(
            "endpoints", "list_endpoints", request, what="endpoints"
        ):
            name = seen.name.rpartition("/")[2]
            kept = _KEPT if name in ours else ""
            yield Importable(type=ENDPOINT, name=seen.display_name, id=seen.name, kept=kept)

    def claim(
        self, settings: VertexSettings, deployed: Deployed, change: PlannedChange
    ) -> str | None:
        if change.type == "google_storage_bucket_object":
            below = f"{settings.prefix}/" if settings.prefix else ""
            ours = any(name.startswith(below) for name in change.any("name"))
            if settings.bucket in change.any("bucket") and ours:
                return f"objects below gs://{settings.bucket}/{below} are cloudreg's"
        elif change.type == "google_storage_bucket":
            if change.removes and settings.bucket in change.any("name"):
                return f"the bucket {settings.bucket} holds ledger and artifacts"
        elif change.type == ENDPOINT:
            return _of_endpoint(deployed, change)
        return None


def _of_endpoint(deployed: Deployed, change: PlannedChange) -> str | None:
    """Return why an endpoint must be left alone: it may be made and described, not moved."""
    names = (change.any("display_name") | change.any("name")) & set(deployed.endpoints)
    if not names or not change.before:
        return None
    if change.removes:
        return f"it is the endpoint {names.pop()}, which serves"
    split = change.before.get("traffic_split"), change.after.get("traffic_split")
    if split[0] != split[1]:
        return (
            f"the traffic of {names.pop()} is cloudreg's: "
            "lifecycle { ignore_changes = [traffic_split] }"
        )
    return None
