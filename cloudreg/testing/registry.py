"""What every target's own registry must do, as tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import pytest

from cloudreg.errors import AlreadyExists, Conflict, NotFound
from cloudreg.names import sha256
from cloudreg.provider import Provider, RegistryBackend
from cloudreg.testing.base import ConformanceTests, at_once, fresh
from cloudreg.types import ModelVersion, PublishedVersion

ABSENT = sha256(b"a version that nobody published")


class RegistryTests(ConformanceTests):
    """The projection that a console user sees.

    Attributes:
        stages: Two stage names that the target can show.
    """

    stages: ClassVar[tuple[str, str]] = ("staging", "prod")

    @pytest.fixture
    def registry(self, provider: Provider) -> RegistryBackend:
        """Return the provider's registry."""
        return provider.registry

    @pytest.fixture
    def model(self) -> str:
        """Return the name of a model that no other test uses."""
        return fresh("kit")

    @pytest.fixture
    def version(self, provider: Provider, model: str) -> Callable[..., ModelVersion]:
        """Return a function that makes a version of *model* with its files in the store."""

        def make(number: int, **files: bytes) -> ModelVersion:
            return self.make_version(provider.store, number, model=model, **files)

        return make

    def test_publish(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A published version is shown with number and digest, and no stage."""
        made = version(7)
        said = registry.publish(made)

        assert (said.model, said.number, said.digest, said.stages) == (model, 7, made.digest, ())
        assert list(registry.published(model)) == [said]

    def test_publish_again(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """The same version again returns what is there and shows it once."""
        said = [registry.publish(version(1)) for _ in range(3)]

        assert said == [said[0]] * 3
        assert list(registry.published(model)) == said[:1]

    def test_publish_again_says_the_stages(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """The same version again keeps its stages, and says them."""
        made = version(1)
        registry.publish(made)
        registry.point(model, self.stages[1], made.digest)

        assert registry.publish(made).stages == self.stages[1:]
        assert shown(registry, model) == {self.stages[1]: 1}

    def test_taken_number(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A number that another digest has is `AlreadyExists`, and stays as it was."""
        said = registry.publish(version(1))
        with pytest.raises(AlreadyExists):
            registry.publish(version(1, other=b"other weights"))

        assert list(registry.published(model)) == [said]

    def test_highest_number_first(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """Versions are shown by number, the highest first, whatever was published last."""
        for number in (2, 10, 1, 9, 100):
            registry.publish(version(number))

        assert [p.number for p in registry.published(model)] == [100, 10, 9, 2, 1]

    def test_unknown_model(self, registry: RegistryBackend, model: str) -> None:
        """A model that nobody published shows nothing."""
        assert list(registry.published(model)) == []

    def test_point(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A stage shows the version that it was pointed to, and no other."""
        made = [version(number) for number in (1, 2)]
        for one in made:
            registry.publish(one)
        registry.point(model, self.stages[0], made[0].digest)

        assert [p.stages for p in registry.published(model)] == [(), self.stages[:1]]

    def test_two_stages_of_a_version(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A version may have several stages; one that goes leaves the other."""
        made = version(1)
        registry.publish(made)
        for stage in self.stages:
            registry.point(model, stage, made.digest)
        assert shown(registry, model) == dict.fromkeys(self.stages, 1)

        registry.point(model, self.stages[0], None)
        assert shown(registry, model) == {self.stages[1]: 1}

    def test_move(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A stage that moves is at the new version only, forwards and backwards."""
        made = {number: version(number) for number in (1, 2, 3)}
        for one in made.values():
            registry.publish(one)
        registry.point(model, self.stages[0], made[2].digest)
        for number in (1, 3, 2, 1):
            registry.point(model, self.stages[1], made[number].digest)
            assert shown(registry, model) == {self.stages[0]: 2, self.stages[1]: number}

    def test_point_again(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """To point a stage where it points, or to clear a clear one, changes nothing."""
        made = version(1)
        registry.publish(made)
        registry.point(model, self.stages[0], None)
        for _ in range(2):
            registry.point(model, self.stages[1], made.digest)
        assert shown(registry, model) == {self.stages[1]: 1}

        for _ in range(2):
            registry.point(model, self.stages[1], None)
        assert shown(registry, model) == {}

    def test_point_to_the_unpublished(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A stage cannot point to what is not published there, and stays where it is."""
        made = version(1)
        registry.publish(made)
        registry.point(model, self.stages[1], made.digest)
        for digest in (ABSENT, version(2).digest):
            for stage in self.stages:
                with pytest.raises(NotFound):
                    registry.point(model, stage, digest)

        assert shown(registry, model) == {self.stages[1]: 1}

    def test_point_in_an_unknown_model(self, registry: RegistryBackend, model: str) -> None:
        """A stage of a model that nobody published is `NotFound`, and makes no model."""
        with pytest.raises(NotFound):
            registry.point(model, self.stages[1], ABSENT)

        assert list(registry.published(model)) == []

    def test_withdraw(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A withdrawn version is shown no more, the others are; to do it again is fine."""
        made = [version(number) for number in (1, 2)]
        for one in made:
            registry.publish(one)
        for _ in range(2):
            registry.withdraw(model, made[0].digest)

        assert [p.number for p in registry.published(model)] == [2]

    def test_withdraw_the_unpublished(self, registry: RegistryBackend, model: str) -> None:
        """To withdraw what nobody published is fine."""
        registry.withdraw(model, ABSENT)

        assert list(registry.published(model)) == []

    def test_withdraw_while_a_stage_points(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A version that a stage shows is not withdrawn until the stage lets go."""
        made = version(1)
        registry.publish(made)
        for stage in self.stages:
            registry.point(model, stage, made.digest)
        for stage in self.stages:
            with pytest.raises(Conflict):
                registry.withdraw(model, made.digest)
            assert [p.number for p in registry.published(model)] == [1]
            assert stage in shown(registry, model)
            registry.point(model, stage, None)
        registry.withdraw(model, made.digest)

        assert list(registry.published(model)) == []

    def test_publish_after_withdraw(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A withdrawn version cannot be pointed to; published again it can, with no stage left."""
        made = version(1)
        registry.publish(made)
        registry.point(model, self.stages[1], made.digest)
        registry.point(model, self.stages[1], None)
        registry.withdraw(model, made.digest)
        with pytest.raises(NotFound):
            registry.point(model, self.stages[1], made.digest)

        assert registry.publish(made).stages == ()
        registry.point(model, self.stages[1], made.digest)
        assert shown(registry, model) == {self.stages[1]: 1}

    def test_models_do_not_mix(self, provider: Provider, registry: RegistryBackend) -> None:
        """Two models with the same number, digest and stage know nothing of each other."""
        names = [fresh("kit"), fresh("kit")]
        names.append(f"{names[0]}-2")  # a name that begins with another's
        made = [self.make_version(provider.store, 1, model=name, same=b"bytes") for name in names]
        for one in made:
            registry.publish(one)
        registry.point(names[0], self.stages[1], made[0].digest)
        registry.withdraw(names[1], made[1].digest)

        assert made[0].digest == made[1].digest == made[2].digest
        assert [shown(registry, name) for name in names] == [{self.stages[1]: 1}, {}, {}]
        assert [[p.model for p in registry.published(name)] for name in names] == [
            [names[0]],
            [],
            [names[2]],
        ]

    def test_native(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """Each version has an object of the target's own, and one that is not shown has none."""
        made = [version(number) for number in (1, 2)]
        for one in made:
            registry.publish(one)
        first, second = (registry.native(model, one.digest) for one in made)

        assert first is not None
        assert first != second
        registry.withdraw(model, made[0].digest)
        for digest in (made[0].digest, ABSENT):
            with pytest.raises(NotFound):
                registry.native(model, digest)
        assert registry.native(model, made[1].digest) is not None

    def test_publish_the_same_at_once(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """Many who publish the same version get the same answer, and one is shown."""
        made = version(1)
        said = at_once([partial(registry.publish, made)] * self.threads)

        assert said == [said[0]] * self.threads
        assert list(registry.published(model)) == said[:1]

    def test_publish_others_at_once(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """Of many who publish different versions nobody is lost."""
        made = [version(number) for number in range(1, self.threads + 1)]
        said = at_once([partial(registry.publish, one) for one in made])

        assert list(registry.published(model)) == said[::-1]

    def test_publish_one_number_at_once(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """Of many digests that want one number exactly one gets it, and is shown."""
        made = [version(1, it=b"%d" % number) for number in range(self.threads)]
        said = at_once([partial(registry.publish, one) for one in made])
        winners = [one for one in said if isinstance(one, PublishedVersion)]

        assert len(winners) == 1, said
        assert len([one for one in said if isinstance(one, AlreadyExists)]) == self.threads - 1
        assert list(registry.published(model)) == winners

    def test_point_at_once(
        self, registry: RegistryBackend, model: str, version: Callable[..., ModelVersion]
    ) -> None:
        """A stage that many move at once ends at exactly one of their versions."""
        made = [version(number) for number in range(1, 5)]
        for one in made:
            registry.publish(one)
        said = at_once(
            [partial(registry.point, model, self.stages[1], one.digest) for one in made * 4]
        )
        holders = [p.number for p in registry.published(model) if p.stages]

        assert said == [None] * 16
        assert len(holders) == 1


def shown(registry: RegistryBackend, model: str) -> dict[str, int]:
    """Return the version's number of each stage, and refuse a stage in two places."""
    found: dict[str, int] = {}
    for version in registry.published(model):
        for stage in version.stages:
            assert stage not in found, f"{stage} shows {found[stage]} and {version.number}"
            found[stage] = version.number
    return found
