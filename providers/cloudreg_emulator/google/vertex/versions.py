"""Models with their versions and aliases, as the registry keeps them.

What belongs to a model is kept once, what belongs to a version with the version; a client sees
both in one message. Labels are merged there, a version's over its model's.

Source: the documentation of UpdateModelRequest in the SDK's protos
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import timestamp_pb2

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.names import Name, parse
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.refusals import missing
from cloudreg_emulator.google.vertex.rules import DEFAULT
from cloudreg_emulator.google.world import World

__all__ = ["Registry"]

_OF_MODEL = ("display_name", "description", "create_time", "update_time", "encryption_spec")
"""What a version's message shows of its model."""


def _nowhere(model: str, version: str | None) -> list[Any]:
    del model, version
    return []


class Registry:
    """All models of one emulator. Whoever calls holds the world's lock.

    Attributes:
        models: By name. Their ``version_id`` is the last number that was given to a version, since
            numbers are never given twice.
        versions: By ``MODEL@NUMBER``.
        deployed: Returns a DeployedModelRef for each deployment of a model, or of one version;
            set by who keeps endpoints.
    """

    def __init__(self, world: World) -> None:
        """Begin without a model."""
        kind = protos.message("Model")
        self.models: Records[Any] = Records("models", kind)
        self.versions: Records[Any] = Records("versions", kind)
        self.deployed: Callable[[str, str | None], list[Any]] = _nowhere
        self._world = world

    def model(self, name: str) -> Any:
        """Return what is kept of a model.

        Raises:
            Refused: NOT_FOUND.
        """
        found = self.models.get(name)
        if found is None:
            raise missing("Model", name)
        return found

    def of(self, name: str, *, stale_s: float = 0.0) -> list[Any]:
        """Return what is kept of a model's versions, oldest first."""
        found = self.versions.under(f"{name}@", stale_s=stale_s)
        return sorted(found, key=lambda version: int(version.version_id))

    def resolve(self, name: str) -> Any:
        """Return the version that a name means: by number, by alias, or the default one.

        Raises:
            Refused: NOT_FOUND.
        """
        parts = _parts(name)
        self.model(parts.base)
        wanted = DEFAULT if parts.version in (None, "-") else parts.version
        by_number = self.versions.get(f"{parts.base}@{wanted}")
        if by_number is not None:
            return by_number
        for version in self.of(parts.base):
            if wanted in version.version_aliases:
                return version
        raise missing("Model Version", name)

    def add(self, name: str, version: Any, aliases: Iterable[str], *, model: Any) -> Any:
        """Keep *version* as the newest of a model, and return it.

        Args:
            name: The model's.
            version: Without a number.
            aliases: They leave the versions that have them now.
            model: What a new model is kept as; one that is there keeps what it has.
        """
        kept = self.models.get(name)
        first = not self.of(name)
        if kept is None:
            kept = type(version)(name=name)
            for field in ("display_name", "description"):
                setattr(kept, field, getattr(model, field))
            if model.HasField("encryption_spec"):
                kept.encryption_spec.CopyFrom(model.encryption_spec)
            kept.create_time.CopyFrom(self.now())
        number = int(kept.version_id or "0") + 1
        kept.version_id = str(number)
        kept.update_time.CopyFrom(self.now())
        self.models.put(name, kept)
        version.name, version.version_id = name, str(number)
        version.version_create_time.CopyFrom(self.now())
        version.version_update_time.CopyFrom(self.now())
        del version.version_aliases[:]
        self.versions.put(f"{name}@{number}", version)
        wanted = list(dict.fromkeys(aliases))
        if first and DEFAULT not in wanted:
            wanted.append(DEFAULT)
        self.move(version, add=wanted)
        return version

    def move(self, version: Any, *, add: Iterable[str], remove: Iterable[str] = ()) -> None:
        """Give aliases to a version and take others from it, in one step."""
        adding, removing = list(add), set(remove)
        for other in self.of(version.name):
            kept = [alias for alias in other.version_aliases if alias not in adding]
            if other is not version and kept != list(other.version_aliases):
                self._alias(other, kept)
        kept = [alias for alias in version.version_aliases if alias not in removing]
        kept += [alias for alias in adding if alias not in kept]
        if kept != list(version.version_aliases):
            self._alias(version, kept)

    def remove(self, version: Any) -> None:
        """Forget a version; what was the default goes to the newest that is left.

        Source: https://cloud.google.com/vertex-ai/docs/model-registry/model-alias
        """
        self.versions.pop(f"{version.name}@{version.version_id}")
        left = self.of(version.name)
        if left and DEFAULT in version.version_aliases:
            self.move(left[-1], add=[DEFAULT])

    def remove_model(self, name: str) -> None:
        """Forget a model and all its versions."""
        for version in self.of(name):
            self.versions.pop(f"{name}@{version.version_id}")
        self.models.pop(name)

    def view(self, version: Any, *, versioned: bool) -> Any:
        """Return what a client sees of a version.

        Args:
            version: As it is kept.
            versioned: Whether its name has the number, as where a version was asked for.
        """
        model = self.model(version.name)
        shown = type(version)()
        shown.CopyFrom(version)
        for field in _OF_MODEL:
            shown.ClearField(field)
            descriptor = model.DESCRIPTOR.fields_by_name[field]
            if descriptor.message_type is None:
                setattr(shown, field, getattr(model, field))
            elif model.HasField(field):
                getattr(shown, field).CopyFrom(getattr(model, field))
        for key, value in model.labels.items():
            if key not in version.labels:
                shown.labels[key] = value
        shown.etag = self.etag(version)
        shown.deployed_models.extend(self.deployed(version.name, version.version_id))
        if versioned:
            shown.name = f"{version.name}@{version.version_id}"
        return shown

    def etag(self, version: Any) -> str:
        """Return what changes with every write to a version or its model."""
        written = self.model(version.name).SerializeToString(deterministic=True)
        written += version.SerializeToString(deterministic=True)
        digest = hashlib.sha256(written).digest()
        return "AMEw9y" + base64.urlsafe_b64encode(digest[:24]).decode()

    def now(self) -> timestamp_pb2.Timestamp:
        """Return the time that is written into resources."""
        moment = timestamp_pb2.Timestamp()
        moment.FromMicroseconds(int(self._world.clock() * 1e6))
        return moment

    def _alias(self, version: Any, aliases: list[str]) -> None:
        del version.version_aliases[:]
        version.version_aliases.extend(aliases)
        version.version_update_time.CopyFrom(self.now())
        self.versions.put(f"{version.name}@{version.version_id}", version)


def _parts(name: str) -> Name:
    parts = parse(name)
    if parts is None:
        raise missing("Model", name)
    return parts
