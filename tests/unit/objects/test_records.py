"""Specs beside the artifacts: read back as they were, found with one listing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from cloudreg.errors import IntegrityError
from cloudreg.names import sha256
from cloudreg.objects.records import MAX_IN_KEY, Asked, Records, latest
from cloudreg.types import EndpointSpec, Resources, Scaling, Variant
from cloudreg_local.store import LocalStore

DIGEST = sha256(b"churn")


class CountedStore(LocalStore):
    """A store that remembers what was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, target="test")
        self.read: list[str] = []

    def open(self, key: str, *, offset: int = 0, length: int | None = None) -> BinaryIO:
        self.read.append(key)
        return super().open(key, offset=offset, length=length)


def spec(name: str = "churn-prod", *, weight: int = 100, env: int = 0) -> EndpointSpec:
    variants = [
        Variant(
            name="primary",
            model="churn",
            number=7,
            digest=DIGEST,
            weight=weight,
            resources=Resources.parse("A10G:4", machine_type="ml.g5.24xlarge"),
            scaling=Scaling(min_replicas=1, max_replicas=9, target=2.5),
        )
    ]
    if weight < 100:
        variants.append(
            Variant(
                name="canary", model="churn", number=8, digest=sha256(b"8"), weight=100 - weight
            )
        )
    return EndpointSpec(
        name=name,
        stage="prod",
        variants=tuple(variants),
        env={f"NAME_{n}": sha256(b"%d" % n) for n in range(env)},
    )


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    return CountedStore(tmp_path)


@pytest.fixture
def records(store: CountedStore) -> Iterator[Records]:
    return Records(store, root="sagemaker/eu-central-1/endpoints/", target="aws")


def only(known: list[Asked]) -> Asked:
    (one,) = known
    return one


@pytest.mark.parametrize("asked", [spec(), spec(weight=90), spec(env=1), spec(env=90)])
def test_round_trip(records: Records, asked: EndpointSpec) -> None:
    """Every spec is read back as it was, whether its key can hold it or not."""
    records.write(asked, "churn-prod-1-1", [])

    assert records.spec(only(records.of("churn-prod"))) == asked


def test_one_listing_is_enough(records: Records, store: CountedStore) -> None:
    """Usual specs are in their keys: no object is read, for any number of endpoints."""
    for number in range(20):
        records.write(spec(f"churn-{number}", weight=90), f"churn-{number}-1-1", [])
    known = records.all()

    assert {name: records.spec(only(asked)).name for name, asked in known.items()} == {
        f"churn-{number}": f"churn-{number}" for number in range(20)
    }
    assert store.read == []


def test_long_specs_are_read(records: Records, store: CountedStore) -> None:
    """A spec that no key can hold is read from its object, and its key stays short."""
    asked = records.write(spec(env=90), "c-1-1", [])

    assert len(asked.key) < MAX_IN_KEY + 200
    assert records.spec(asked) == spec(env=90)
    assert store.read == [asked.key]


def test_newest_of_a_configuration(records: Records) -> None:
    """Of the specs that one configuration carried, the last written is in force."""
    for weight in (90, 50, 100):
        records.write(spec(weight=weight), "a-1-1", records.of("churn-prod"))
    records.write(spec(weight=20), "b-1-1", records.of("churn-prod"))
    known = records.of("churn-prod")
    newest = latest(known, "a-1-1")

    assert newest is not None
    assert records.spec(newest) == spec(weight=100)
    assert latest(known, "c-1-1") is None
    assert latest(known, None) is None


def test_written_once(records: Records) -> None:
    """The spec that is in force already is not written again."""
    first = records.write(spec(), "a-1-1", [])

    assert records.write(spec(), "a-1-1", records.of("churn-prod")) == first
    assert len(records.of("churn-prod")) == 1


def test_names_do_not_mix(records: Records) -> None:
    """An endpoint whose name begins with another's is another one."""
    for name in ("churn", "churn-prod", "churn-prod-2"):
        records.write(spec(name), f"{name}-1-1", [])

    assert [only(records.of(name)).config for name in ("churn", "churn-prod")] == [
        "churn-1-1",
        "churn-prod-1-1",
    ]


def test_forget(records: Records) -> None:
    """What is forgotten is gone; to forget it again is fine."""
    asked = records.write(spec(), "a-1-1", [])
    for _ in range(2):
        records.forget(asked)

    assert records.of("churn-prod") == []
    assert records.all() == {}


def test_changed_by_hand(records: Records, store: CountedStore) -> None:
    """A spec that somebody edited is not believed."""
    asked = records.write(spec(env=90), "a-1-1", [])
    store.put(b"{}", asked.key)
    with pytest.raises(IntegrityError):
        records.spec(asked)

    short = records.write(spec(), "b-1-1", [])
    with pytest.raises(IntegrityError):
        records.spec(dataclasses.replace(short, key=short.key[:-9]))


def test_other_objects_are_passed_over(records: Records, store: CountedStore) -> None:
    """What is no record is none of ours."""
    for key in ("x", "churn-prod/y", "churn-prod/a-1-1/readme", "churn-prod/a/b/000001-z"):
        store.put(b"", f"sagemaker/eu-central-1/endpoints/{key}")

    assert records.all() == {}
