"""One request on its way: what it asks, and of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudreg_emulator.faults import When
from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.storage import resources
from cloudreg_emulator.google.storage.nouns import Bucket, Conditions, Generation, number
from cloudreg_emulator.google.storage.objects import Source
from cloudreg_emulator.google.storage.refusals import required
from cloudreg_emulator.google.storage.shelf import Shelf

if TYPE_CHECKING:
    from cloudreg_emulator.google.storage.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request whose path was read.

    Attributes:
        storage: What it is about.
        request: As it came.
        method: Its name in the JSON API, or one like it.
        bucket: Decoded; "" for none.
        name: The object's, decoded; "" for none.
        to_bucket: Where a copy goes.
        to_name: Where a copy goes.
    """

    storage: Storage
    request: Request
    method: str
    bucket: str = ""
    name: str = ""
    to_bucket: str = ""
    to_name: str = ""

    @property
    def url(self) -> str:
        """What the client calls the server."""
        return f"http://{self.request.host}"

    @property
    def conditions(self) -> Conditions:
        """What must hold, as a query says it."""
        return Conditions.of_query(self.request)

    def source(self, *, conditions: Conditions | None = None) -> Source:
        """Return the object that it is about."""
        return Source(
            bucket=self.bucket,
            name=self.name,
            generation=number(self.request, "generation"),
            conditions=self.conditions if conditions is None else conditions,
        )

    def listed(self) -> Shelf:
        """Return what a listing shows, for whoever holds the lock: now, or late by a fault."""
        shelf = self.storage.objects.shelf(self.bucket)
        fault = self.storage.faults.strike("storage", self.method, When.LIST)
        return shelf if fault is None else shelf.as_of(fault.seconds)

    def needed(self, name: str) -> str:
        """Return a parameter of the query.

        Raises:
            Refused: It is not there.
        """
        found = self.request.arg(name)
        if not found:
            raise required(name)
        return found

    def shown(self, found: Generation, *, bucket: str | None = None) -> dict[str, Any]:
        """Return the resource of an object."""
        described = self.storage.bucket(bucket or self.bucket)
        return resources.of_object(found, bucket=described, url=self.url)

    def shown_bucket(self, found: Bucket) -> dict[str, Any]:
        """Return the resource of a bucket."""
        return resources.of_bucket(found, url=self.url, project_number=self.storage.project_number)

    def answer(self, document: dict[str, Any], **headers: str) -> Response:
        """Return a document of the JSON API."""
        return resources.answer(self.request, document, **headers)
