"""ModelService: models, their versions and aliases."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf import empty_pb2

from cloudreg_emulator.google.vertex import managed, protos
from cloudreg_emulator.google.vertex.evaluations import Evaluations
from cloudreg_emulator.google.vertex.listing import listed
from cloudreg_emulator.google.vertex.masks import masked, paths_of, write
from cloudreg_emulator.google.vertex.names import Name, parse
from cloudreg_emulator.google.vertex.operations import Operations, after
from cloudreg_emulator.google.vertex.refusals import aborted, exists, invalid, precondition
from cloudreg_emulator.google.vertex.rules import (
    DEFAULT,
    check_aliases,
    check_display_name,
    check_key,
    check_labels,
    check_model_id,
    required,
)
from cloudreg_emulator.google.vertex.services import Call
from cloudreg_emulator.google.vertex.uploads import check_model, made_of
from cloudreg_emulator.google.vertex.versions import Registry
from cloudreg_emulator.google.world import World

__all__ = ["Models"]

UPLOAD_S = 30.0
COPY_S = 60.0
DELETE_S = 5.0
"""Emulated seconds: what users see, roughly."""

_MODEL_FIELDS = frozenset({"display_name", "description"})
_VERSION_FIELDS = frozenset({"version_description"})
_FILTERS = {"model": "id", "display_name": "display_name", "labels": "labels"}
_ORDERS = {name: name for name in ("display_name", "create_time", "update_time")}
_VERSION_ORDERS = {"create_time": "version_create_time", "update_time": "version_update_time"}


class Models(Evaluations):
    """The Model Registry.

    Attributes:
        registry: What is kept.
    """

    service = "ModelService"

    def __init__(self, world: World, operations: Operations, registry: Registry) -> None:
        """Answer for *registry*."""
        super().__init__(world, registry)
        self.operations = operations

    def upload_model(self, request: Any, call: Call) -> Any:
        """Make a model, or a version of one, together with its aliases."""
        place = _name(request.parent)
        if not request.HasField("model"):
            raise required("model")
        check_model(self.world, request.model, place)
        name = self._destination(request, place, "parent_model")
        model = made_of(request.model)
        aliases = list(request.model.version_aliases)

        def make() -> Any:
            # Somebody may have been faster, or have deleted the model.
            self._check_destination(request, name)
            made = self.registry.add(name, model, aliases, model=request.model)
            if made.artifact_uri:
                version = made.version_id
                managed.keep(self.world, made.artifact_uri, name, version, place.location)
            return protos.new("UploadModelResponse", model=name, model_version_id=made.version_id)

        return self.operations.begin(call, name, after(make, seconds=UPLOAD_S))

    def get_model(self, request: Any, call: Call) -> Any:
        """Return a version by its number or alias; without one, the default version."""
        found = self.registry.resolve(request.name)
        return self.registry.view(found, versioned=_name(request.name).version is not None)

    def list_models(self, request: Any, call: Call) -> Any:
        """Return the default version of every model."""
        stale_s = self.world.stale_s("ListModels")
        under = self.registry.versions.under(f"{request.parent}/", stale_s=stale_s)
        found = [
            version
            for version in under
            if DEFAULT in version.version_aliases and version.name in self.registry.models
        ]
        found.sort(key=lambda one: self.registry.model(one.name).create_time.ToNanoseconds())
        page, token = listed(
            found,
            request,
            fields=_FILTERS,
            orders=_ORDERS,
            shown=partial(self.registry.view, versioned=False),
        )
        page = [masked(model, request.read_mask) for model in page]
        return protos.new("ListModelsResponse", models=page, next_page_token=token)

    def list_model_versions(self, request: Any, call: Call) -> Any:
        """Return all versions of a model."""
        stale_s = self.world.stale_s("ListModelVersions")
        base = _name(request.name).base
        self.registry.model(base)
        page, token = listed(
            self.registry.of(base, stale_s=stale_s),
            request,
            fields={"labels": "labels"},
            orders=_VERSION_ORDERS,
            shown=partial(self.registry.view, versioned=True),
        )
        page = [masked(model, request.read_mask) for model in page]
        return protos.new("ListModelVersionsResponse", models=page, next_page_token=token)

    def update_model(self, request: Any, call: Call) -> Any:
        """Change what is a model's or, where the name has a version, what is a version's."""
        asked = request.model
        name = _name(asked.name)
        paths = paths_of(request.update_mask, asked, field="update_mask")
        if not paths:
            raise required("update_mask")
        of_version = name.version not in (None, "-")
        _check_update(paths, of_version=of_version)
        version = self.registry.resolve(asked.name)
        if asked.etag and asked.etag != self.registry.etag(version):
            # In the words of the metadata service: google/cloud/aiplatform/metadata/context.py
            raise aborted(
                f"Specified Model `etag`: `{asked.etag}` does not match server `etag`: "
                f"`{self.registry.etag(version)}`"
            )
        if "display_name" in paths:
            check_display_name(asked.display_name, "model.display_name")
        check_labels(asked.labels, "model.labels")
        if of_version:
            write(asked, version, paths)
            version.version_update_time.CopyFrom(self.registry.now())
            self.registry.versions.put(f"{version.name}@{version.version_id}", version)
        else:
            model = self.registry.model(name.base)
            write(asked, model, paths)
            model.update_time.CopyFrom(self.registry.now())
            self.registry.models.put(name.base, model)
        return self.registry.view(version, versioned=of_version)

    def merge_version_aliases(self, request: Any, call: Call) -> Any:
        """Give aliases to a version and take others from it, in one step."""
        if _name(request.name).version is None:
            raise invalid("name", "The version ID must be explicitly included.")  # unquoted
        if not request.version_aliases:
            raise required("version_aliases")
        adding = [alias for alias in request.version_aliases if not alias.startswith("-")]
        removing = [alias[1:] for alias in request.version_aliases if alias.startswith("-")]
        check_aliases([*adding, *removing], "version_aliases")
        version = self.registry.resolve(request.name)
        # "Adding and deleting the same alias": the two cancel each other out.
        both = set(adding) & set(removing)
        adding = [alias for alias in adding if alias not in both]
        removing = [alias for alias in removing if alias not in both]
        if DEFAULT in removing:
            # https://cloud.google.com/vertex-ai/docs/model-registry/model-alias
            raise invalid("version_aliases", "The default alias can not be removed.")  # unquoted
        self.registry.move(version, add=adding, remove=removing)
        return self.registry.view(version, versioned=True)

    def delete_model(self, request: Any, call: Call) -> Any:
        """Delete a model with all its versions, once nothing of it is deployed."""
        name = _name(request.name)
        if name.version is not None:
            raise invalid("name", "DeleteModel takes no version.")  # unquoted
        self.registry.model(name.base)
        self._check_idle(name.base, None)

        def remove() -> Any:
            self._check_idle(name.base, None)
            self.registry.remove_model(name.base)
            self.forget(name.base)
            return empty_pb2.Empty()

        return self.operations.begin(call, name.base, after(remove, seconds=DELETE_S))

    def delete_model_version(self, request: Any, call: Call) -> Any:
        """Delete a version that is not the last, and not deployed."""
        if _name(request.name).version is None:
            raise invalid("name", "The version ID must be explicitly included.")  # unquoted
        version = self.registry.resolve(request.name)
        self._check_disposable(version)

        def remove() -> Any:
            self._check_disposable(version)
            self.registry.remove(version)
            self.forget(version.name, version.version_id)
            return empty_pb2.Empty()

        return self.operations.begin(call, version.name, after(remove, seconds=DELETE_S))

    def copy_model(self, request: Any, call: Call) -> Any:
        """Copy a version into another location, or into another model."""
        place = _name(request.parent)
        source = self.registry.resolve(self.canonical(request.source_model, "source_model"))
        key = request.encryption_spec.kms_key_name
        check_key(key, place.location, "encryption_spec.kms_key_name")
        name = self._destination(request, place, "parent_model")

        def make() -> Any:
            self._check_destination(request, name)
            copied = type(source)()
            copied.CopyFrom(source)
            copied.model_source_info.copy = True
            copied.original_model_info.model = source.name
            model = type(source)()
            model.CopyFrom(self.registry.model(source.name))
            model.ClearField("encryption_spec")
            if key:
                model.encryption_spec.kms_key_name = key
            # Aliases are the source's alone.
            made = self.registry.add(name, copied, [], model=model)
            if made.artifact_uri:
                region = _name(source.name).location
                kept = managed.of(self.world, source.name, source.version_id, region)
                managed.keep(self.world, kept, name, made.version_id, place.location)
            return protos.new("CopyModelResponse", model=name, model_version_id=made.version_id)

        return self.operations.begin(call, name, after(make, seconds=COPY_S))

    def _destination(self, request: Any, place: Name, field: str) -> str:
        """Return the name of the model that a request makes, or adds a version to."""
        if not request.parent_model:
            if request.model_id:
                check_model_id(request.model_id, "model_id")
            name = f"{place.parent}/models/{request.model_id or self.world.number()}"
            self._check_destination(request, name)
            return name
        parent = _name(self.canonical(request.parent_model, field))
        if parent.parent != place.parent:
            raise invalid(field, f"The parent model is not in {place.parent}.")  # unquoted
        if request.model_id and request.model_id != parent.id:
            raise invalid("model_id", "model_id and parent_model do not go together.")  # unquoted
        self._check_destination(request, parent.base)
        return parent.base

    def _check_destination(self, request: Any, name: str) -> None:
        if request.parent_model:
            self.registry.model(name)
        elif name in self.registry.models:
            raise exists("Model", name)

    def _check_idle(self, model: str, version: str | None) -> None:
        """Refuse to delete what is deployed.

        Source: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models
        (delete, deleteVersion)
        """
        deployed = self.registry.deployed(model, version)
        if deployed:
            what = f"{model}@{version}" if version else model
            places = ", ".join(f'"{one.endpoint}"' for one in deployed)
            raise precondition(  # unquoted
                f'The Model "{what}" is deployed or being deployed at the following '
                f"Endpoint(s): {places}."
            )

    def _check_disposable(self, version: Any) -> None:
        self._check_idle(version.name, version.version_id)
        if len(self.registry.of(version.name)) == 1:
            raise precondition(  # unquoted
                f"{version.name}@{version.version_id} is the only version of its model: use "
                "DeleteModel."
            )


def _check_update(paths: list[str], *, of_version: bool) -> None:
    """Refuse what an update cannot change.

    Source: UpdateModelRequest.model in the SDK's protos.
    """
    for path in paths:
        if path.partition(".")[0] not in _MODEL_FIELDS | _VERSION_FIELDS | {"labels"}:
            raise invalid("update_mask", f"Field {path} cannot be updated.")
    wrong = _MODEL_FIELDS if of_version else _VERSION_FIELDS
    for path in paths:
        if path in wrong:
            kind = "model version" if of_version else "model"
            raise precondition(f"Field {path} is not a field of a {kind}.")


def _name(name: str) -> Name:
    parts = parse(name)
    if parts is None:
        raise invalid("name", f"Invalid resource name: {name!r}")
    return parts
