"""GPU classes to machine types, and the combinations that Vertex AI refuses."""

from __future__ import annotations

import pytest

from cloudreg.errors import InvalidRequest, Unsupported
from cloudreg.types import Resources
from cloudreg_vertex.machines import (
    ACCELERATORS,
    ATTACHED,
    BUILT_IN,
    NEAREST,
    Machine,
    machine_for,
)


def chosen(gpu: str | None, machine_type: str | None = None, **options: object) -> Machine:
    resources = Resources.parse(gpu, machine_type=machine_type)
    return machine_for(resources, {}, target="gcp", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpu", "name", "accelerator", "count"),
    [
        (None, "n1-standard-4", None, 0),
        ("T4", "n1-standard-8", "NVIDIA_TESLA_T4", 1),
        ("T4:4", "n1-standard-32", "NVIDIA_TESLA_T4", 4),
        ("V100:8", "n1-standard-64", "NVIDIA_TESLA_V100", 8),
        ("L4", "g2-standard-8", "NVIDIA_L4", 1),
        ("L4:8", "g2-standard-96", "NVIDIA_L4", 8),
        ("A100", "a2-highgpu-1g", "NVIDIA_TESLA_A100", 1),
        ("A100-80GB:2", "a2-ultragpu-2g", "NVIDIA_A100_80GB", 2),
        ("H100:8", "a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
        ("RTX-PRO-6000", "g4-standard-48", "NVIDIA_RTX_PRO_6000", 1),
    ],
)
def test_choice(gpu: str | None, name: str, accelerator: str | None, count: int) -> None:
    """A class and a count choose the machine type that carries just as many."""
    assert chosen(gpu) == Machine(name=name, accelerator=accelerator, count=count)


def test_every_choice_is_taken() -> None:
    """Whatever the table chooses passes the table's own check."""
    counts = {name: [n for n, _ in machines] for name, machines in BUILT_IN.items()}
    counts |= {name: list(limits) for name, limits in ATTACHED.items()}
    for gpu, accelerator in ACCELERATORS.items():
        for count in counts[accelerator]:
            machine = chosen(f"{gpu}:{count}")
            assert (machine.accelerator, machine.count) == (accelerator, count)


def test_names_of_the_sdk() -> None:
    """Every accelerator is one of the SDK's own enum."""
    from google.cloud.aiplatform_v1 import AcceleratorType

    assert set(ACCELERATORS.values()) <= {one.name for one in AcceleratorType}


def test_no_a10g() -> None:
    """What Google does not have is refused with the nearest, and never replaced."""
    with pytest.raises(Unsupported, match="no A10G") as refused:
        chosen("A10G")

    assert refused.value.hint is not None
    assert 'gpu = "L4"' in refused.value.hint
    assert not NEAREST.keys() & ACCELERATORS.keys()


@pytest.mark.parametrize(
    ("gpu", "machine_type", "said", "hint"),
    [
        ("L4:3", None, "machines with 1, 2, 4, 8", 'gpu = "L4:4"'),
        ("H200", None, "machines with 8", 'gpu = "H200:8"'),
        ("L4:16", None, "machines with 1, 2, 4, 8", 'gpu = "L4:8"'),
    ],
)
def test_no_such_number(gpu: str, machine_type: str | None, said: str, hint: str) -> None:
    """A number that no machine carries is refused with those that there are."""
    with pytest.raises(Unsupported, match=said) as refused:
        chosen(gpu, machine_type)

    assert refused.value.hint == hint


@pytest.mark.parametrize(
    ("gpu", "machine_type", "said", "hint"),
    [
        # "The allowed numbers of accelerator "NVIDIA_L4" to use with machine type
        # "g2-standard-8" are: [1].": github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3372
        ("L4:8", "g2-standard-8", "carries 1 NVIDIA_L4, and 8 NVIDIA_L4", 'gpu = "L4:1"'),
        ("L4", "n1-standard-4", "takes no NVIDIA_L4", 'machine_type = "g2-standard-8"'),
        ("T4", "n1-standard-32", "does not take 1 NVIDIA_TESLA_T4", "it takes 2 or 4"),
        ("T4", "g2-standard-8", "carries 1 NVIDIA_L4", 'gpu = "L4:1"'),
        (None, "g2-standard-8", "and none was asked for", 'gpu = "L4:1"'),
        ("T4", "e2-standard-4", "is not known to take", "leave machine_type out"),
    ],
)
def test_combinations(gpu: str | None, machine_type: str, said: str, hint: str) -> None:
    """A machine that cannot carry the GPUs is refused before any call, with what it takes."""
    with pytest.raises(InvalidRequest, match=said) as refused:
        chosen(gpu, machine_type)

    assert refused.value.hint == hint
    # Google changes what it offers: then the table is told to be silent.
    assert chosen(gpu, machine_type, check=False).name == machine_type


def test_overrides() -> None:
    """The target's section names other machines by class and count; the endpoint's name wins."""
    overrides = {"L4": "g2-standard-32", "cpu": "n2-standard-8"}

    def name(gpu: str | None, machine_type: str | None = None) -> str:
        resources = Resources.parse(gpu, machine_type=machine_type)
        return machine_for(resources, overrides, target="gcp").name

    assert name("L4") == "g2-standard-32"
    assert name("L4:2") == "g2-standard-24"
    assert name(None) == "n2-standard-8"
    assert name("L4", "g2-standard-4") == "g2-standard-4"
