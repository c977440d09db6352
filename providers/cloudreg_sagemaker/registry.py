"""SageMaker's Model Registry: a group for each model, a versioned package for each version.

SageMaker counts packages by itself and has no compare-and-swap, and what its listings show may be
old. So a few small objects beside the artifacts say what is meant, and each is written before the
package that follows it::

    sagemaker/<region>/registry/churn/group             the group was made, or found to be ours
    sagemaker/<region>/registry/churn/numbers/7         the digest that took the number first
    sagemaker/<region>/registry/churn/digests/<sha256>  the package's ARN, and those withdrawn
    sagemaker/<region>/registry/churn/stages/prod/…     the digest that the stage shows
    sagemaker/<region>/registry/churn/metrics/<sha256>  what ModelMetrics points to
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from cloudreg.errors import AlreadyExists, ConfigError, Conflict, IntegrityError, NotFound
from cloudreg.names import check_digest, check_model, check_stage, short
from cloudreg.objects.layout import lay_out
from cloudreg.provider import ObjectStore
from cloudreg.types import ModelVersion, PublishedVersion
from cloudreg_sagemaker import checks, images, packages
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.native import Resources
from cloudreg_sagemaker.pointers import Pointers, newest

if TYPE_CHECKING:
    from cloudreg_sagemaker.clients import Clients
    from cloudreg_sagemaker.settings import SageMakerSettings

PAGE = 100
MAX_ROUNDS = 20
"""How often a stage is projected anew because somebody moved one meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a version's package.

    Attributes:
        number: The version's.
        arn: Of its package; None where none is shown.
        gone: Those of packages that were withdrawn, or that somebody deleted.
    """

    number: int
    arn: str | None = None
    gone: tuple[str, ...] = ()


class SageMakerRegistry:
    """The Model Registry of one account and region."""

    def __init__(
        self, clients: Clients, store: ObjectStore, settings: SageMakerSettings, *, target: str
    ) -> None:
        """Use boto3's clients; nothing is sent."""
        self._clients = clients
        self._store = store
        self._settings = settings
        self._names = settings.stage_names
        self._resources = Resources(settings, target=target)
        self._target = target
        self._root = f"sagemaker/{settings.region}/registry"
        self._pointers = Pointers(store, root=self._root)

    def publish(self, version: ModelVersion) -> PublishedVersion:
        model = check_model(version.model)
        record = self._record(model, version.digest)
        if record is not None and record.arn is not None:
            shown = self._describe(record.arn, version.ref)
            if shown is not None:
                return self._published(shown)
            # Somebody deleted the package: its token would bring back its ARN alone.
            record = replace(record, arn=None, gone=(*record.gone, record.arn))
        image = self._image(version)
        request = packages.package_from(
            version,
            image=image,
            data=self._uri(""),
            names=self._names,
            kms_key=self._settings.kms_key,
        )
        checks.check_request("sagemaker", "CreateModelPackage", request)
        is_new = self._claim(version)
        record = record or Record(number=version.number)
        if not is_new:
            # Begun before: a package may be there that nobody wrote down.
            found = self._listed_digest(model, version.digest)
            if found is not None and found.native_id not in record.gone:
                self._keep(model, version.digest, replace(record, arn=found.native_id))
                return found
        self._make_group(model)
        request["InferenceSpecification"]["Containers"][0]["ModelDataSource"] = (
            packages.data_source(self._uri(lay_out(version, self._store, target=self._target)))
        )
        if version.manifest.metrics:
            request["ModelMetrics"] = self._put_metrics(version)
        request["ClientToken"] = packages.token(model, version.digest, withdrawn=len(record.gone))
        arn = self._create(version, request)
        self._keep(model, version.digest, replace(record, arn=arn))
        return PublishedVersion(
            model=model, number=version.number, digest=version.digest, native_id=arn
        )

    def published(self, model: str) -> Iterator[PublishedVersion]:
        found = [self._read(package) for package in self._packages(check_model(model))]
        ours = [shown for shown in found if shown is not None and shown.model == model]
        yield from sorted(ours, key=lambda shown: shown.number, reverse=True)

    def point(self, model: str, stage: str, digest: str | None) -> None:
        check_model(model)
        check_stage(stage)
        said = self._pointers.said(model)
        listed = list(self._packages(model))
        before = newest(said).get(stage)
        # Listings may be old, so the packages that certainly change are asked for.
        known = self._described(model, digest, listed) if digest is not None else {}
        if digest is not None and not known:
            raise NotFound(f"{model}: {short(digest)} is not published there", target=self._target)
        if before is not None and before != digest:
            known |= self._described(model, before, listed)
        self._pointers.write(model, stage, digest, said)
        wanted = {**newest(said), stage: digest}
        self._project(model, {s: d for s, d in wanted.items() if d is not None}, listed, known)

    def withdraw(self, model: str, digest: str) -> None:
        check_digest(digest)
        record = self._record(check_model(model), digest)
        if record is None:
            return
        pointers = self._pointers.read(model)
        stages = sorted(stage for stage, there in pointers.items() if there == digest)
        if stages:
            raise Conflict(
                f"{model}:{record.number} is still shown by {', '.join(stages)}",
                target=self._target,
            )
        if record.arn is not None:
            self._delete(record.arn, model)
            # Written down afterwards: if the deletion is repeated, nothing is lost.
            gone = Record(number=record.number, gone=(*record.gone, record.arn))
            self._keep(model, digest, gone)
        number = self._key(model, "numbers", str(record.number))
        if self._get(number) == digest.encode():
            self._store.delete(number)

    def native(self, model: str, digest: str) -> Any:
        """Return boto3's answer to DescribeModelPackage, or the SDK's ``ModelPackage``."""
        found = self._described(check_model(model), check_digest(digest))
        if not found:
            raise NotFound(f"{model}: {short(digest)} is not published there", target=self._target)
        ((arn, package),) = found.items()
        return self._resources.package(arn) if self._resources.wanted else package

    def _project(
        self,
        model: str,
        pointers: dict[str, str],
        listed: list[Mapping[str, Any]],
        known: dict[str, dict[str, Any]],
    ) -> None:
        """Make the packages show what the pointers say.

        Two processes may do it at once, the slower one with old pointers. So each reads the
        pointers again when it is done: whoever wrote last has read them last, and is right.

        Args:
            model: Whose.
            pointers: What each stage shows.
            listed: The listing of the model's packages.
            known: Packages by ARN, newer than the listing.
        """
        for _ in range(MAX_ROUNDS):
            for change in self._changes(pointers, listed, known):
                with self._translated(model):
                    self._client.update_model_package(**change)
                known[change["ModelPackageArn"]] = {
                    **known.get(change["ModelPackageArn"], {}),
                    **change,
                }
            now = self._pointers.read(model)
            if now == pointers:
                return
            pointers, listed = now, list(self._packages(model))
        raise Conflict(
            f"the stages of {model} are moved faster than they can be shown", target=self._target
        )

    def _changes(
        self,
        pointers: Mapping[str, str],
        listing: list[Mapping[str, Any]],
        known: Mapping[str, Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Return the requests that are missing; first those that show a stage, then the others."""
        gaining: list[dict[str, Any]] = []
        losing: list[dict[str, Any]] = []
        listed = {package["ModelPackageArn"]: package for package in listing}
        for arn in {**listed, **known}:
            package = {**listed.get(arn, {}), **known.get(arn, {})}
            seen = packages.published_from(package, self._names)
            if seen is None:
                continue
            stages = [stage for stage, digest in pointers.items() if digest == seen.digest]
            if not packages.is_shown(package, stages, self._names):
                change = packages.change_for(
                    arn,
                    stages,
                    self._names,
                    retired=packages.was_staged(package),
                )
                (gaining if set(stages) - set(seen.stages) else losing).append(change)
        return [*gaining, *losing]

    def _create(self, version: ModelVersion, request: Mapping[str, Any]) -> str:
        try:
            with self._translated(version.ref):
                return str(self._client.create_model_package(**request)["ModelPackageArn"])
        except NotFound:
            # Somebody deleted the group since its object was written.
            self._store.delete(self._key(version.model, "group"))
            self._make_group(version.model)
            with self._translated(version.ref):
                return str(self._client.create_model_package(**request)["ModelPackageArn"])

    def _make_group(self, model: str) -> None:
        """Make the model's group, or make sure that the one that is there is ours."""
        key = self._key(model, "group")
        if self._get(key) is not None:
            return
        try:
            with self._translated(model):
                arn = self._client.create_model_package_group(
                    ModelPackageGroupName=model,
                    ModelPackageGroupDescription=f"cloudreg model {model}",
                    Tags=[{"Key": packages.TAG, "Value": model}],
                )["ModelPackageGroupArn"]
        except AlreadyExists:
            with self._translated(model):
                arn = self._client.describe_model_package_group(ModelPackageGroupName=model)[
                    "ModelPackageGroupArn"
                ]
                tags = self._client.list_tags(ResourceArn=arn)["Tags"]
            if packages.TAG not in {tag["Key"] for tag in tags}:
                raise AlreadyExists(
                    f"model package group {model} exists, and cloudreg did not make it",
                    target=self._target,
                    hint=f"aws sagemaker add-tags --resource-arn {arn} "
                    f"--tags Key={packages.TAG},Value={model} makes it cloudreg's",
                ) from None
        self._store.put(arn.encode(), key)

    def _claim(self, version: ModelVersion) -> bool:
        """Take the version's number for its digest, and return whether it was free.

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
            return False
        return True

    def _packages(self, model: str) -> Iterator[Mapping[str, Any]]:
        """Yield the listing of a model's packages; nothing where there is no group."""
        request: dict[str, Any] = {"ModelPackageGroupName": model, "MaxResults": PAGE}
        while True:
            try:
                with self._translated(model):
                    page = self._client.list_model_packages(**request)
            except NotFound:
                return
            yield from page["ModelPackageSummaryList"]
            if not page.get("NextToken"):
                return
            request["NextToken"] = page["NextToken"]

    def _listed_digest(self, model: str, digest: str) -> PublishedVersion | None:
        return next((shown for shown in self.published(model) if shown.digest == digest), None)

    def _described(
        self, model: str, digest: str, listed: Iterable[Mapping[str, Any]] = ()
    ) -> dict[str, dict[str, Any]]:
        """Return the package of a digest by its ARN; nothing where it is not published.

        Args:
            model: Whose.
            digest: Of the version.
            listed: Where its ARN is looked for first; its own object tells where that is old.
        """
        for package in listed:
            there = self._read(package)
            if there is not None and there.digest == digest and there.native_id is not None:
                found = self._describe(there.native_id, model)
                if found is not None:
                    return {there.native_id: found}
        record = self._record(model, digest)
        if record is None or record.arn is None:
            return {}
        found = self._describe(record.arn, model)
        return {record.arn: found} if found is not None else {}

    def _describe(self, arn: str, what: str) -> dict[str, Any] | None:
        try:
            with self._translated(what):
                found = self._client.describe_model_package(ModelPackageName=arn)
        except NotFound:
            return None
        return None if found.get("ModelPackageStatus") == "Deleting" else dict(found)

    def _delete(self, arn: str, model: str) -> None:
        try:
            with self._translated(model):
                self._client.delete_model_package(ModelPackageName=arn)
        except NotFound:
            return

    def _published(self, package: Mapping[str, Any]) -> PublishedVersion:
        shown = self._read(package)
        if shown is None:
            raise IntegrityError(
                f"{package['ModelPackageArn']} is no longer described as cloudreg's",
                target=self._target,
                hint="delete that package, then publish again",
            )
        return shown

    def _read(self, package: Mapping[str, Any]) -> PublishedVersion | None:
        return packages.published_from(package, self._names)

    def _image(self, version: ModelVersion) -> str:
        image = images.image_for(version, self._settings, resources=None, target=self._target)
        if image is None:
            raise ConfigError(
                f"{version.ref} names no container image, and neither does the target",
                target=self._target,
                hint='image = "<account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:…" '
                "in the target's section",
            )
        return image

    def _put_metrics(self, version: ModelVersion) -> dict[str, Any]:
        """Store the metrics, and return what names them in the request."""
        key = self._key(version.model, "metrics", version.digest.removeprefix("sha256:"))
        document = packages.metrics_document(version)
        self._store.put(document, key)
        return packages.model_metrics(self._uri(key), document)

    def _uri(self, key: str) -> str:
        return self._settings.uri(key)

    def _record(self, model: str, digest: str) -> Record | None:
        data = self._get(self._key(model, "digests", digest.removeprefix("sha256:")))
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=Record)
        except msgspec.MsgspecError as error:
            raise IntegrityError(
                f"registry of {model}: the record of {short(digest)} cannot be read: {error}",
                target=self._target,
            ) from error

    def _keep(self, model: str, digest: str, record: Record) -> None:
        key = self._key(model, "digests", digest.removeprefix("sha256:"))
        self._store.put(msgspec.json.encode(record), key)

    def _get(self, key: str) -> bytes | None:
        try:
            with self._store.open(key) as reader:
                return reader.read()
        except NotFound:
            return None

    def _key(self, model: str, *parts: str) -> str:
        return "/".join((self._root, model, *parts))

    @property
    def _client(self) -> Any:
        return self._clients["sagemaker"]

    def _translated(self, what: str) -> Any:
        return translated(f"registry of {what}", target=self._target)
