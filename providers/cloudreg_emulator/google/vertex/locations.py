"""Where Vertex AI is: google.cloud.location.Locations."""

from __future__ import annotations

from typing import Any

from google.cloud.location import locations_pb2

from cloudreg_emulator.google.vertex.listing import paged
from cloudreg_emulator.google.vertex.names import parse
from cloudreg_emulator.google.vertex.services import Call, Service

__all__ = ["Locations"]


class Locations(Service):
    """The regions that are asked here."""

    service = "Locations"

    def get_location(self, request: Any, call: Call) -> Any:
        """Return one location; others are refused before."""
        name = parse(request.name)
        assert name is not None
        return self._location(name.location)

    def list_locations(self, request: Any, call: Call) -> Any:
        """Return all locations."""
        page, token = paged([self._location(one) for one in self.world.place.regions], request)
        return locations_pb2.ListLocationsResponse(locations=page, next_page_token=token)

    def _location(self, region: str) -> Any:
        return locations_pb2.Location(
            name=f"projects/{self.world.place.number}/locations/{region}",
            location_id=region,
            labels={"cloud.googleapis.com/region": region},
        )
