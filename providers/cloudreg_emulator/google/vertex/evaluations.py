"""ModelService: evaluations of versions, which are imported, listed and read."""

from __future__ import annotations

from typing import Any

from cloudreg_emulator.google.vertex import protos
from cloudreg_emulator.google.vertex.listing import listed
from cloudreg_emulator.google.vertex.masks import masked
from cloudreg_emulator.google.vertex.names import parse
from cloudreg_emulator.google.vertex.records import Records
from cloudreg_emulator.google.vertex.refusals import missing
from cloudreg_emulator.google.vertex.rules import required
from cloudreg_emulator.google.vertex.services import Call, Service
from cloudreg_emulator.google.vertex.versions import Registry
from cloudreg_emulator.google.world import World

__all__ = ["Evaluations"]


class Evaluations(Service):
    """The half of ModelService that is about evaluations.

    Attributes:
        registry: Models and versions.
        records: Evaluations by ``MODEL@NUMBER/evaluations/ID``.
    """

    service = "ModelService"

    def __init__(self, world: World, registry: Registry) -> None:
        """Begin without any."""
        super().__init__(world)
        self.registry = registry
        self.records: Records[Any] = Records("evaluations", protos.message("ModelEvaluation"))

    def import_model_evaluation(self, request: Any, call: Call) -> Any:
        """Keep an evaluation that was made elsewhere, with the version that it is about."""
        version = self.registry.resolve(request.parent)
        if not request.HasField("model_evaluation"):
            raise required("model_evaluation")
        made = type(request.model_evaluation)()
        made.CopyFrom(request.model_evaluation)
        number = self.world.number()
        made.name = f"{version.name}/evaluations/{number}"
        made.create_time.CopyFrom(self.registry.now())
        key = f"{version.name}@{version.version_id}/evaluations/{number}"
        return self.records.put(key, made)

    def get_model_evaluation(self, request: Any, call: Call) -> Any:
        """Return one, by a name with or without the version."""
        wanted = request.name
        base, _, number = wanted.rpartition("/evaluations/")
        parts = parse(base)
        for key, found in self.records.items():
            if key == wanted or (found.name == wanted and parts and parts.version is None):
                return found
        raise missing("Model Evaluation", f"{base}/evaluations/{number}")

    def list_model_evaluations(self, request: Any, call: Call) -> Any:
        """Return those of a version; without one in the name, those of the default version."""
        version = self.registry.resolve(request.parent)
        stale_s = self.world.stale_s("ListModelEvaluations")
        prefix = f"{version.name}@{version.version_id}/evaluations/"
        under = self.records.under(prefix, stale_s=stale_s)
        found = sorted(under, key=lambda one: one.create_time.ToNanoseconds())
        page, token = listed(found, request, fields={}, orders={})
        page = [masked(one, request.read_mask) for one in page]
        return protos.new(
            "ListModelEvaluationsResponse", model_evaluations=page, next_page_token=token
        )

    def forget(self, model: str, version: str | None = None) -> None:
        """Forget the evaluations of a model, or of one version."""
        prefix = f"{model}@{version}/" if version else f"{model}@"
        for key, _ in list(self.records.items()):
            if key.startswith(prefix):
                self.records.pop(key)
