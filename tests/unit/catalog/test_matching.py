"""Which GPU of a target an endpoint gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloudreg.capabilities import Capabilities
from cloudreg.catalog import Choice, GpuWish, Grade, choose
from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.machines import Machine, Price
from cloudreg.types import Resources
from cloudreg_sagemaker.abilities import capabilities as sagemaker
from cloudreg_sagemaker.prices import priced as on_sagemaker
from cloudreg_vertex.abilities import capabilities as vertex
from cloudreg_vertex.prices import priced as on_vertex

Choose = Callable[..., Choice]


@pytest.fixture
def aws() -> Choose:
    """What SageMaker gives, in a region of which prices are known."""

    def chosen(wish: GpuWish) -> Choice:
        def quote(gpu: str) -> Machine:
            only = Resources.parse(f"{gpu}:{wish.count}")
            return on_sagemaker(only, {}, region="us-west-2", target="aws")[0]

        return choose(wish, sagemaker(), quote, name="e", target="aws")

    return chosen


@pytest.fixture
def gcp() -> Choose:
    """What Vertex AI gives."""

    def chosen(wish: GpuWish) -> Choice:
        def quote(gpu: str) -> Machine:
            only = Resources.parse(f"{gpu}:{wish.count}")
            return on_vertex(only, {}, region="us-central1", target="gcp")[0]

        return choose(wish, vertex(), quote, name="e", target="gcp")

    return chosen


def test_what_is_offered_is_taken(aws: Choose, gcp: Choose) -> None:
    """A class that the target has is not discussed."""
    wish = GpuWish(accelerator="L4", count=4)

    assert aws(wish) == gcp(wish) == Choice(accelerator="L4", count=4)


def test_downgrade_is_refused(gcp: Choose) -> None:
    """The nearest class is not taken if it is worse in anything: the reason says in what."""
    with pytest.raises(Unsupported, match=r"0\.5 times the memory bandwidth") as refused:
        gcp(GpuWish(accelerator="A10G"))

    assert "no A10G on this provider, and the nearest, L4, is a downgrade" in refused.value.message
    assert "the same memory (24 GB)" in refused.value.message
    assert refused.value.hint is not None
    assert refused.value.hint.startswith('gpu = "L4", or allow_downgrade = true')
    assert refused.value.target == "gcp"


def test_downgrade_that_is_allowed(gcp: Choose) -> None:
    """Who allows it gets the nearest class, with its grade and the reason."""
    choice = gcp(GpuWish(accelerator="A10G", count=2, allow_downgrade=True))

    assert (choice.accelerator, choice.count, choice.grade) == ("L4", 2, Grade.DOWNGRADE)
    assert "there is no A10G on gcp" in choice.reason


def test_hint_of_what_is_no_downgrade(gcp: Choose) -> None:
    """Beside the nearest class, the refusal names the nearest that is worse in nothing."""
    with pytest.raises(Unsupported) as refused:
        gcp(GpuWish(accelerator="L40S", count=2))

    assert refused.value.hint is not None
    assert 'gpu = "RTX-PRO-6000:2" is no downgrade' in refused.value.hint


@pytest.mark.parametrize(
    ("wanted", "found", "grade"),
    [
        ("T4G", "T4", Grade.EQUIVALENT),
        ("A10", "A10G", Grade.EQUIVALENT),
        ("P100", "V100", Grade.UPGRADE),
    ],
)
def test_no_downgrade_is_taken(aws: Choose, wanted: str, found: str, grade: Grade) -> None:
    """The nearest class is taken if it is as good or better, and never without a word."""
    choice = aws(GpuWish(accelerator=wanted))

    assert (choice.accelerator, choice.grade) == (found, grade)
    assert choice.reason.startswith(f"there is no {wanted} on aws, and {found} has ")


def test_a_class_that_nobody_knows(aws: Choose) -> None:
    """What the catalogue does not know stays as it is, for the capabilities to refuse."""
    assert aws(GpuWish(accelerator="X9000")).accelerator == "X9000"


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (GpuWish(min_memory_gib=16), "T4"),
        # L4 and A10G have 24 GB each: the cheaper machine.
        (GpuWish(min_memory_gib=24), "L4"),
        (GpuWish(min_memory_gib=16, min_compute_capability="8.0"), "L4"),
        # A100s come eight to a machine: one L40S is less.
        (GpuWish(min_memory_gib=40), "L40S"),
        (GpuWish(min_memory_gib=80), "H100"),
        (GpuWish(min_compute_capability="12.0"), "RTX-PRO-6000"),
        (GpuWish(min_memory_gib=24, count=8), "L4"),
        (GpuWish(min_memory_gib=141), "H200"),
    ],
)
def test_smallest_machine_with_the_minima(aws: Choose, wish: GpuWish, expected: str) -> None:
    """Of what has the minima, the machine with the least GPU memory in all is taken."""
    choice = aws(wish)

    assert (choice.accelerator, choice.count, choice.grade) == (expected, wish.count, Grade.EXACT)
    assert f"the smallest on aws with {wish}" in choice.reason


def test_minima_that_nothing_has(gcp: Choose) -> None:
    """More than any class has is refused, with how much there is."""
    with pytest.raises(Unsupported, match="no GPU with at least 500 GB") as refused:
        gcp(GpuWish(min_memory_gib=500))

    assert refused.value.hint == "min_memory_gib = 96 is the most there is with count = 1"


def test_number_that_no_machine_has(gcp: Choose) -> None:
    """A class that does not come in the wished number is not considered."""
    assert gcp(GpuWish(min_memory_gib=141, count=8)).accelerator == "H200"
    with pytest.raises(Unsupported, match="no GPU with at least 141 GB"):
        gcp(GpuWish(min_memory_gib=141, count=1))


def test_target_without_gpus() -> None:
    """A target that has none says why."""
    able = Capabilities(reasons={"accelerators": "it serves on the CPU"})

    with pytest.raises(Unsupported, match="it serves on the CPU"):
        choose(GpuWish(min_memory_gib=8), able, lambda _: MACHINE, name="e", target="here")


MACHINE = Machine(name="m", price=Price(usd_per_hour=1, region="r", as_of="", source="s"))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({}, "neither a class nor"),
        ({"accelerator": "T4", "min_memory_gib": 24}, "asks for any class"),
        ({"accelerator": "t4"}, "a class and a count"),
        ({"accelerator": "T4", "count": 0}, "a class and a count"),
        ({"min_memory_gib": -1}, "is not 1 to 10000"),
        ({"min_memory_gib": float("nan")}, "is not 1 to 10000"),
        ({"min_compute_capability": "8"}, "is no compute capability"),
        ({"min_memory_gib": 24, "allow_downgrade": True}, "is no downgrade"),
    ],
)
def test_no_wish(wish: dict[str, object], said: str) -> None:
    """A wish for nothing, or for what cannot be, is refused."""
    with pytest.raises(InvalidRequest, match=said):
        GpuWish(**wish)  # type: ignore[arg-type]
