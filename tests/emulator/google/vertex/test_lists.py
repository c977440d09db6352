"""Pages, filters, orders and read masks of ModelService's lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cloudreg_emulator.google.emulator import Google


@pytest.fixture(scope="module")
def shared() -> Iterator[Google]:
    """An emulator with five models, of which the first has three versions."""
    with Google(polls=0, scale=0.0) as emulator:
        yield emulator


NAMES = ("alpha", "beta", "gamma", "delta", "beta")


@pytest.fixture(autouse=True)
def five(cloud: Any) -> None:
    if f"{cloud.canonical}/models/m0" in {
        m.name for m in cloud.models.list_models(parent=cloud.parent)
    }:
        return
    for number, name in enumerate(NAMES):
        labels = {"team": "risk", "n": str(number)} if number % 2 else {"n": str(number)}
        cloud.upload(f"m{number}", display_name=name, labels=labels)
    for digest in ("b", "c"):
        cloud.upload(parent_model=f"{cloud.parent}/models/m0", labels={"digest": digest})


def listed(cloud: Any, **request: Any) -> list[str]:
    found = cloud.models.list_models({"parent": cloud.parent, **request})
    return [model.name.rpartition("/")[2] for model in found]


def versions(cloud: Any, **request: Any) -> list[str]:
    name = f"{cloud.parent}/models/m0"
    found = cloud.models.list_model_versions({"name": name, **request})
    return [model.version_id for model in found]


FILTERS = [
    ("displayName=beta", ["m1", "m4"]),
    ('display_name="beta"', ["m1", "m4"]),
    ("displayName = 'beta'", ["m1", "m4"]),
    ("display_name!=beta", ["m0", "m2", "m3"]),
    ("model=m3", ["m3"]),
    ("model!=m3", ["m0", "m1", "m2", "m4"]),
    ("labels.team=risk", ["m1", "m3"]),
    ('labels.team="safety"', []),
    ("labels.team:*", ["m1", "m3"]),
    ("labels:team", ["m1", "m3"]),
    ('labels."team"=risk', ["m1", "m3"]),
    ('labels.team=risk AND displayName="delta"', ["m3"]),
    ("labels.team=risk AND labels.n=1 AND model!=m4", ["m1"]),
    ("", ["m0", "m1", "m2", "m3", "m4"]),
]


@pytest.mark.parametrize(("filter_", "found"), FILTERS)
def test_filter(cloud: Any, filter_: str, found: list[str]) -> None:
    """What the SDK's documentation says of filters holds (ListModelsRequest.filter)."""
    assert listed(cloud, filter=filter_) == found


@pytest.mark.parametrize(
    "filter_",
    [
        "createTime=1",
        "display_name",
        "display_name=",
        "=beta",
        "display_name:beta",
        "display_name>alpha",
        "labels=team",
        "labels.team>risk",
        "labels.team!=risk",
        "labels.team:risk",
        "display_name.x=1",
        "displayName=beta OR displayName=alpha",
        "displayName=beta displayName=alpha",
        "NOT displayName=beta",
        "(displayName=beta)",
        'displayName="beta',
    ],
)
def test_no_such_filter(cloud: Any, filter_: str) -> None:
    """A filter that is not understood is refused, and shows not everything."""
    code, message = cloud.refused(lambda: listed(cloud, filter=filter_))

    assert (code, "Field: filter;" in message) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("display_name", ["m0", "m1", "m4", "m3", "m2"]),
        ("displayName desc", ["m2", "m3", "m1", "m4", "m0"]),
        ("display_name, create_time desc", ["m0", "m4", "m1", "m3", "m2"]),
        ("create_time desc", ["m4", "m3", "m2", "m1", "m0"]),
        ("update_time asc", ["m1", "m2", "m3", "m4", "m0"]),
    ],
)
def test_order(cloud: Any, order: str, found: list[str]) -> None:
    """Lists are ordered by the fields that are documented (ListModelsRequest.order_by)."""
    assert listed(cloud, order_by=order) == found


@pytest.mark.parametrize("order", ["labels", "display_name up", "version_id", "desc"])
def test_no_such_order(cloud: Any, order: str) -> None:
    """Another order is refused."""
    code, message = cloud.refused(lambda: listed(cloud, order_by=order))

    assert (code, "Field: order_by;" in message) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 100])
def test_pages(cloud: Any, size: int) -> None:
    """Pages have the size that is asked for, and miss nothing."""
    pages = [
        [model.name.rpartition("/")[2] for model in page.models]
        for page in cloud.models.list_models({"parent": cloud.parent, "page_size": size}).pages
    ]

    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert len(pages[-1]) <= size
    assert [name for page in pages for name in page] == ["m0", "m1", "m2", "m3", "m4"]


def test_no_such_page(cloud: Any) -> None:
    """A token is good for the list that it came from, and sizes are not negative."""
    first = next(cloud.models.list_models({"parent": cloud.parent, "page_size": 2}).pages)
    for wrong in (
        {"page_token": "nonsense"},
        {"page_token": first.next_page_token, "filter": "labels:team"},
        {"page_size": -1},
    ):
        assert cloud.refused(lambda wrong=wrong: listed(cloud, **wrong))[0] == "INVALID_ARGUMENT"


def test_a_page_is_full_at_100(make_cloud: Any) -> None:
    """A list that asks for no size has pages of 100."""
    cloud = make_cloud(transport="grpc")
    for number in range(101):
        cloud.upload(f"m{number}")

    pages = list(cloud.models.list_models(parent=cloud.parent).pages)

    assert [len(page.models) for page in pages] == [100, 1]


def test_read_mask(cloud: Any) -> None:
    """A read mask shows what it names and nothing else."""
    found = cloud.models.list_models(
        {"parent": cloud.parent, "read_mask": {"paths": ["name", "version_aliases"]}}
    )

    model = next(iter(found))

    assert (model.name.rpartition("/")[2], list(model.version_aliases)) == ("m0", ["default"])
    assert (model.display_name, model.etag, model.container_spec.image_uri) == ("", "", "")


def test_no_such_read_mask(cloud: Any) -> None:
    """A read mask names fields that there are."""
    wrong = {"read_mask": {"paths": ["nonsense"]}}

    assert cloud.refused(lambda: listed(cloud, **wrong))[0] == "INVALID_ARGUMENT"


def test_versions(cloud: Any) -> None:
    """Versions come oldest first, by labels and times (ListModelVersionsRequest)."""
    assert versions(cloud) == ["1", "2", "3"]
    assert versions(cloud, filter="labels.digest=c") == ["3"]
    assert versions(cloud, order_by="create_time desc") == ["3", "2", "1"]
    assert cloud.refused(lambda: versions(cloud, filter="model=m0"))[0] == "INVALID_ARGUMENT"
    assert cloud.refused(lambda: versions(cloud, order_by="display_name"))[0] == "INVALID_ARGUMENT"


def test_masks_in_either_case(rest: httpx.Client) -> None:
    """Over REST a mask may be spelt as JSON or as protos are (https://google.aip.dev/161)."""
    shown = [
        rest.get(
            "/v1/projects/emulated-project/locations/us-central1/models",
            params={"readMask": mask, "pageSize": "1"},
        ).json()["models"]
        for mask in ("name,displayName", "name,display_name")
    ]

    assert shown[0] == shown[1] == [{"name": shown[0][0]["name"], "displayName": "alpha"}]
