"""What GPUs are, and how one compares with another."""

from __future__ import annotations

import pytest

from cloudreg.catalog import Grade, compared, gpus
from cloudreg.catalog.gpus import parse_capability

WANTED = {
    "T4", "L4", "A10G", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "RTX-PRO-6000",
}  # fmt: skip


def test_every_class_has_its_facts() -> None:
    """Each class has memory, capability and bandwidth that can be, and says where they stand."""
    assert gpus().keys() >= WANTED
    for name, gpu in gpus().items():
        assert 4 <= gpu.memory_gib <= 300, name
        assert (3, 0) <= gpu.capability <= (13, 0), name
        assert 100 <= gpu.bandwidth_gb_s <= 10_000, name
        assert gpu.source.startswith("https://"), name


def test_aliases_are_the_same_gpu() -> None:
    """A name that clouds use for a class is that class, and no name stands for two."""
    assert gpus()["A100"] is gpus()["A100-40GB"]
    names = [name for gpu in set(gpus().values()) for name in (gpu.name, *gpu.aliases)]
    assert sorted(names) == sorted(set(names)) == sorted(gpus())


@pytest.mark.parametrize(
    ("wanted", "found", "grade", "said"),
    [
        ("A100", "A100-40GB", Grade.EXACT, ""),
        ("A10G", "L4", Grade.DOWNGRADE, "the same memory (24 GB); 0.5 times the memory bandwidth"),
        ("T4G", "T4", Grade.EQUIVALENT, "the same memory (16 GB)"),
        ("L40S", "RTX-PRO-6000", Grade.UPGRADE, "96 GB instead of 48"),
        ("L40S", "A100-40GB", Grade.DOWNGRADE, "40 GB instead of 48"),
        # More memory, and twice as fast; but what was compiled for 8.6 does not run on 8.0.
        ("A10G", "A100-80GB", Grade.DOWNGRADE, "compute capability 8.0 instead of 8.6"),
        # 186 GB to 180: a model that filled one does not fit the other.
        ("GB200", "B200", Grade.DOWNGRADE, "180 GB instead of 186"),
    ],
)
def test_grades(wanted: str, found: str, grade: Grade, said: str) -> None:
    """A class is worse that is worse in anything; the reason names what differs."""
    graded, reason = compared(gpus()[wanted], gpus()[found])

    assert graded is grade
    assert said in reason
    assert bool(reason) == (grade is not Grade.EXACT)


def test_speeds_that_are_nearly_the_same() -> None:
    """A tenth of the bandwidth makes no other class; more does."""
    a100, h100 = gpus()["A100-80GB"], gpus()["H100"]

    assert "bandwidth" in compared(a100, h100)[1]
    assert "bandwidth" not in compared(gpus()["A10"], gpus()["A10G"])[1]


@pytest.mark.parametrize("text", ["8", "8.", ".6", "8.6.1", "eight", "-1.0", "x.0", ""])
def test_no_capability(text: str) -> None:
    """What is no major and minor number is refused."""
    with pytest.raises(ValueError, match="is no compute capability"):
        parse_capability(text)
