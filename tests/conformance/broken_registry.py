"""Registries that are broken in one way each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from memory import (
    MemoryRegistry,
)
from mutants import PAUSE_S, noticed_by

from cloudreg.errors import (
    AlreadyExists,
    NotFound,
)
from cloudreg.types import (
    ModelVersion,
    PublishedVersion,
)


@noticed_by("test_publish_again", "test_publish_the_same_at_once")
class PublishesAnew(MemoryRegistry):
    def published(self, model: str) -> Iterator[PublishedVersion]:
        for version in super().published(model):
            times = self.world.__dict__.get("times", {}).get(version.digest, 1)
            yield from [version] * times

    def publish(self, version: ModelVersion) -> PublishedVersion:
        times = self.world.__dict__.setdefault("times", {})
        times[version.digest] = times.get(version.digest, 0) + 1
        return super().publish(version)


@noticed_by("test_publish")
class ShowsAnotherNumber(MemoryRegistry):
    def shown(self, version: PublishedVersion) -> PublishedVersion:
        return replace(super().shown(version), number=1)


@noticed_by("test_taken_number")
class PublishesOverAnother(MemoryRegistry):
    def publish(self, version: ModelVersion) -> PublishedVersion:
        self.versions(version.model).pop(version.number, None)
        return super().publish(version)


@noticed_by("test_publish_one_number_at_once", "test_publish_others_at_once")
class PublishesWithoutALock(MemoryRegistry):
    def publish(self, version: ModelVersion) -> PublishedVersion:
        before = dict(self.versions(version.model))
        if version.number in before and before[version.number].digest != version.digest:
            raise AlreadyExists(version.ref)
        time.sleep(PAUSE_S)
        made = PublishedVersion(model=version.model, number=version.number, digest=version.digest)
        self.world.versions[version.model] = {**before, version.number: made}
        return self.shown(made)


@noticed_by("test_highest_number_first", "test_publish_others_at_once")
class ShowsTheLowestFirst(MemoryRegistry):
    def in_order(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers)


@noticed_by("test_highest_number_first")
class SortsNumbersAsText(MemoryRegistry):
    def in_order(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers, key=str, reverse=True)


@noticed_by("test_unknown_model")
class MissesTheUnknownModel(MemoryRegistry):
    def published(self, model: str) -> Iterator[PublishedVersion]:
        if not self.versions(model):
            raise NotFound(model)
        return super().published(model)


@noticed_by("test_point_to_the_unpublished", "test_publish_after_withdraw")
class PointsAnywhere(MemoryRegistry):
    def has(self, model: str, digest: str) -> bool:
        return True


@noticed_by("test_point_in_an_unknown_model")
class MakesTheModelToPoint(MemoryRegistry):
    def point(self, model: str, stage: str, digest: str | None) -> None:
        if digest and not self.versions(model):
            self.versions(model)[1] = PublishedVersion(model=model, number=1, digest=digest)
        super().point(model, stage, digest)


@noticed_by("test_move", "test_point_at_once")
class ForgetsToClearTheOld(MemoryRegistry):
    def point(self, model: str, stage: str, digest: str | None) -> None:
        super().point(model, stage, digest)
        if digest:
            both = self.world.__dict__.setdefault("both", set())
            both.add((model, stage, digest))

    def shown(self, version: PublishedVersion) -> PublishedVersion:
        stages = [
            stage
            for model, stage, digest in self.world.__dict__.get("both", ())
            if (model, digest) == (version.model, version.digest)
        ]
        return replace(version, stages=tuple(sorted(stages)))


@noticed_by("test_point")
class PointsToTheHighest(MemoryRegistry):
    def point(self, model: str, stage: str, digest: str | None) -> None:
        highest = max(self.versions(model), default=0)
        super().point(model, stage, digest and self.versions(model)[highest].digest)


@noticed_by("test_two_stages_of_a_version")
class HasOneStageAVersion(MemoryRegistry):
    def shown(self, version: PublishedVersion) -> PublishedVersion:
        found = super().shown(version)
        return replace(found, stages=found.stages[:1])


@noticed_by("test_point_again")
class CannotClear(MemoryRegistry):
    def point(self, model: str, stage: str, digest: str | None) -> None:
        if digest is not None:
            super().point(model, stage, digest)


@noticed_by("test_publish_again_says_the_stages")
class ClearsStagesAtPublish(MemoryRegistry):
    def publish(self, version: ModelVersion) -> PublishedVersion:
        for key in [k for k in self.stages if k[0] == version.model]:
            del self.stages[key]
        return super().publish(version)


@noticed_by("test_withdraw_the_unpublished", "test_withdraw")
class MissesTheWithdrawn(MemoryRegistry):
    def withdraw(self, model: str, digest: str) -> None:
        if not self.has(model, digest):
            raise NotFound(digest)
        super().withdraw(model, digest)


@noticed_by("test_withdraw_while_a_stage_points")
class WithdrawsUnderAStage(MemoryRegistry):
    def withdraw(self, model: str, digest: str) -> None:
        for key in [k for k, there in self.stages.items() if there == digest and k[0] == model]:
            del self.stages[key]
        super().withdraw(model, digest)


@noticed_by("test_models_do_not_mix")
class SharesDigestsAmongModels(MemoryRegistry):
    def shown(self, version: PublishedVersion) -> PublishedVersion:
        stages = {s for (_, s), digest in self.stages.items() if digest == version.digest}
        return replace(version, stages=tuple(sorted(stages)))


@noticed_by("test_models_do_not_mix")
class TakesModelsByPrefix(MemoryRegistry):
    def published(self, model: str) -> Iterator[PublishedVersion]:
        for name in sorted(self.world.versions):
            if name.startswith(model):
                yield from super().published(name)


@noticed_by("test_native")
class HasOneObjectForAll(MemoryRegistry):
    def native(self, model: str, digest: str) -> dict[str, Any]:
        super().native(model, digest)
        return {"model": model}


@noticed_by("test_native")
class RemembersWhatIsGone(MemoryRegistry):
    def native(self, model: str, digest: str) -> dict[str, Any]:
        return {"digest": digest}
