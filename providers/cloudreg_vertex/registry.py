"""Vertex AI's Model Registry: a Model for each model, a version of it for each version.

Vertex AI counts versions by itself, so the home's number is a label, and an alias such as ``v7``
for people. Stages are aliases as well: one call moves one, and takes it from whoever had it. What
must be decided between processes is decided in the store, where only one can be first::

    vertex/<location>/registry/churn/numbers/7         the digest that took the number first
    vertex/<location>/registry/metrics.yaml            the schema of what evaluations hold

An upload takes time there, and a process that is killed may leave one that ends after it: whoever
comes next waits for it. Two that upload at the same moment make two versions of one digest; the
older one stays, and the other is taken back, at the latest by the next publication.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudreg.errors import AlreadyExists, Conflict, IntegrityError, NotFound
from cloudreg.names import check_digest, check_model, short
from cloudreg.objects.layout import lay_out
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion, PublishedVersion
from cloudreg_vertex import labels, models
from cloudreg_vertex.native import SdkObjects

if TYPE_CHECKING:
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings

PAGE = 100
MAX_ROUNDS = 5
"""How often a stage is cleared anew because somebody moved it meanwhile."""


class VertexRegistry:
    """The Model Registry of one project and location."""

    def __init__(
        self, services: Services, store: ObjectStore, settings: VertexSettings, *, target: str
    ) -> None:
        """Use the SDK's clients; nothing is sent."""
        self._services = services
        self._store = store
        self._settings = settings
        self._target = target
        self._native = SdkObjects(services, settings, target=target)

    def publish(self, version: ModelVersion) -> PublishedVersion:
        model = check_model(version.model)
        found = self._of_digest(model, version.digest) or self._under_way(model, version.digest)
        if not found:
            request = models.model_from(
                version, self._settings, artifacts="", env={}, target=self._target
            )
            self._claim(version)
            folder = lay_out(version, self._store, target=self._target)
            request["artifact_uri"] = self._settings.uri(folder).rstrip("/")
            request["version_aliases"] = [labels.alias(version.number)]
            mine = self._upload(version, request)
            found = self._of_digest(model, version.digest)
            # Of those who upload the same at once, everybody but the first takes it back.
            known = {mine} if mine is not None else set()
        else:
            # Of somebody who was killed before he could.
            known = {one.version_id for one in found[1:]}
        if not found:
            raise IntegrityError(
                f"{version.ref} was uploaded and is not shown", target=self._target
            )
        shown = self._keep_one(found, known)
        if version.manifest.metrics:
            self._show_metrics(version, shown)
        published = models.published_from(shown)
        if published is None or published.number != version.number:
            raise AlreadyExists(
                f"{version.ref} is shown there under another number", target=self._target
            )
        return published

    def published(self, model: str) -> Iterator[PublishedVersion]:
        seen: dict[str, PublishedVersion] = {}
        for one in models.oldest_first(self._versions(check_model(model))):
            shown = models.published_from(one)
            if shown is not None and shown.model == model:
                seen.setdefault(shown.digest, shown)
        yield from sorted(seen.values(), key=lambda shown: shown.number, reverse=True)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        check_model(model)
        labels.check_alias(stage, target=self._target)
        if digest is None:
            self._clear(model, stage)
            return
        found = self._of_digest(model, digest)
        if not found:
            raise NotFound(f"{model}: {short(digest)} is not published there", target=self._target)
        first = found[0]
        if stage not in first.version_aliases:
            # One call: whoever had the alias loses it in the same moment.
            self._merge(first, stage)

    def withdraw(self, model: str, digest: str) -> None:
        check_digest(digest)
        for one in reversed(self._of_digest(check_model(model), digest)):
            shown = models.published_from(one)
            assert shown is not None
            if shown.stages:
                raise Conflict(
                    f"{shown.model}:{shown.number} is still shown by {', '.join(shown.stages)}",
                    target=self._target,
                )
            self._delete(one)
            number = self._key(model, "numbers", str(shown.number))
            if self._get(number) == digest.encode():
                self._store.delete(number)

    def native(self, model: str, digest: str) -> Any:
        """Return the ``Model`` message of a version, or with ``native = "sdk"`` `aiplatform.Model`.

        Raises:
            NotFound: The version is not published there.
        """
        found = self._of_digest(check_model(model), check_digest(digest))
        if not found:
            raise NotFound(f"{model}: {short(digest)} is not published there", target=self._target)
        if self._native.wanted:
            return self._native.model(found[0].name.partition("@")[0], found[0].version_id)
        return found[0]

    def _under_way(self, model: str, digest: str) -> list[Any]:
        """Return the versions of a digest once nothing is done to the model any more.

        A process that was killed may have begun the very upload that is missing.
        """
        self._services.settle(self._name(model), what=model)
        return self._of_digest(model, digest)

    def _upload(self, version: ModelVersion, request: dict[str, Any]) -> str | None:
        """Upload, and return the new version's id; None where somebody else was first."""
        parent = self._services.parent
        upload: dict[str, Any] = {"parent": parent, "model": request}
        name = self._name(version.model)
        if self._is_ours(version.model):
            upload["parent_model"] = name
        else:
            upload["model_id"] = version.model
        try:
            return self._uploaded(upload, version)
        except AlreadyExists:
            # Somebody else made the model a moment ago.
            if not self._is_ours(version.model):
                raise
            if self._of_digest(version.model, version.digest):
                return None
            upload.pop("model_id", None)
            upload["parent_model"] = name
            return self._uploaded(upload, version)

    def _uploaded(self, upload: dict[str, Any], version: ModelVersion) -> str:
        from google.cloud.aiplatform_v1 import UploadModelResponse

        done = self._services.finish("models", "upload_model", upload, what=version.ref)
        response = UploadModelResponse.pb(UploadModelResponse())
        done.response.Unpack(response)
        return str(response.model_version_id)

    def _is_ours(self, model: str) -> bool:
        """Whether the model is there; one that cloudreg did not make is refused."""
        try:
            seen = self._services.call(
                "models", "get_model", {"name": self._name(model)}, what=model
            )
        except NotFound:
            return False
        if labels.MODEL not in seen.labels:
            raise AlreadyExists(
                f"model {model} exists, and cloudreg did not make it",
                target=self._target,
                hint=f"gcloud ai models update {model} --update-labels={labels.MODEL}={model} "
                f"--region={self._settings.location} makes it cloudreg's",
            )
        return True

    def _keep_one(self, found: list[Any], superfluous: set[str]) -> Any:
        """Return the oldest of the versions of one digest, and remove the superfluous ones."""
        first, *others = found
        for other in others:
            if other.version_id not in superfluous:
                continue
            for stage in labels.stages(other.version_aliases):
                self._merge(first, stage)
            with suppress(NotFound):
                self._delete_version(other)
        shown = models.published_from(first)
        if shown is not None and labels.alias(shown.number) not in first.version_aliases:
            return self._merge(first, labels.alias(shown.number))
        return first

    def _show_metrics(self, version: ModelVersion, shown: Any) -> None:
        """Import the metrics as an evaluation, unless it is there."""
        name = f"{shown.name.partition('@')[0]}@{shown.version_id}"
        title = f"cloudreg {version.ref}"
        there = self._services.pages(
            "models",
            "list_model_evaluations",
            {"parent": name, "page_size": PAGE},
            what=version.ref,
        )
        if any(evaluation.display_name == title for evaluation in there):
            return
        schema = f"vertex/{self._settings.location}/registry/metrics.yaml"
        self._store.put(models.METRICS_SCHEMA.encode(), schema)
        self._services.call(
            "models",
            "import_model_evaluation",
            {
                "parent": name,
                "model_evaluation": models.evaluation(version, schema=self._settings.uri(schema)),
            },
            what=version.ref,
        )

    def _clear(self, model: str, stage: str) -> None:
        for _ in range(MAX_ROUNDS):
            holders = [one for one in self._versions(model) if stage in one.version_aliases]
            if not holders:
                return
            for holder in holders:
                self._merge(holder, f"-{stage}")
        raise Conflict(
            f"{model}@{stage} is moved faster than it can be cleared", target=self._target
        )

    def _merge(self, one: Any, *aliases: str) -> Any:
        name = f"{one.name.partition('@')[0]}@{one.version_id}"
        return self._services.call(
            "models",
            "merge_version_aliases",
            {"name": name, "version_aliases": list(aliases)},
            what=name.rpartition("/")[2],
        )

    def _delete(self, one: Any) -> None:
        """Delete a version; the last one goes with its model, since it may not go alone."""
        name = one.name.partition("@")[0]
        model = name.rpartition("/")[2]
        try:
            if len(self._versions(model)) == 1:
                self._services.finish("models", "delete_model", {"name": name}, what=model)
            else:
                self._delete_version(one)
        except NotFound:
            return

    def _delete_version(self, one: Any) -> None:
        name = f"{one.name.partition('@')[0]}@{one.version_id}"
        self._services.finish(
            "models", "delete_model_version", {"name": name}, what=name.rpartition("/")[2]
        )

    def _claim(self, version: ModelVersion) -> None:
        """Take the version's number for its digest.

        Raises:
            AlreadyExists: Another digest has it.
        """
        key = self._key(version.model, "numbers", str(version.number))
        try:
            self._store.put(version.digest.encode(), key, if_absent=True)
        except AlreadyExists:
            other = (self._get(key) or b"").decode()
            if other != version.digest:
                raise AlreadyExists(
                    f"{version.ref} is {short(other)} there, not {short(version.digest)}",
                    target=self._target,
                ) from None

    def _versions(self, model: str) -> list[Any]:
        """Return all versions of a model; none where there is no model."""
        try:
            return list(
                self._services.pages(
                    "models",
                    "list_model_versions",
                    {"name": self._name(model), "page_size": PAGE},
                    what=model,
                )
            )
        except NotFound:
            return []

    def _of_digest(self, model: str, digest: str) -> list[Any]:
        """Return the versions of one digest, the oldest first."""
        wanted = labels.encoded(digest)
        ours = [
            one
            for one in self._versions(model)
            if labels.identity(one.labels) is not None and one.labels[labels.DIGEST] == wanted
        ]
        return models.oldest_first(ours)

    def _name(self, model: str) -> str:
        return f"{self._services.parent}/models/{model}"

    def _key(self, model: str, *parts: str) -> str:
        return "/".join((f"vertex/{self._settings.location}/registry/{model}", *parts))

    def _get(self, key: str) -> bytes | None:
        try:
            with self._store.open(key) as reader:
                return reader.read()
        except NotFound:
            return None
