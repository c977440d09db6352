"""Instance types: those that exist, and the one that fits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import moto
import pytest

from cloudreg.errors import Unsupported
from cloudreg.types import Resources
from cloudreg_sagemaker import machines
from cloudreg_sagemaker.abilities import capabilities
from cloudreg_sagemaker.checks import service_model


def test_every_type_exists() -> None:
    """SageMaker's own list has every instance type and every driver that is chosen here."""
    model = service_model("sagemaker")
    types = set(model.shape_for("ProductionVariantInstanceType").enum)
    drivers = set(model.shape_for("ProductionVariantInferenceAmiVersion").enum)

    assert {machine.name for machine in machines.GPUS} <= types
    assert machines.DEFAULT_CPU.name in types
    assert {driver for _, driver in machines.AMIS} <= drivers


def test_processors() -> None:
    """The virtual CPUs that a size stands for are those that EC2 describes, for every type."""
    path = Path(str(moto.__file__)).parent / "ec2" / "resources" / "instance_types.json.gz"
    described = json.loads(gzip.decompress(path.read_bytes()))
    names = service_model("sagemaker").shape_for("ProductionVariantInstanceType").enum
    known = {name: described.get(name.removeprefix("ml.")) for name in names}
    found = {
        name: entry["VCpuInfo"]["DefaultVCpus"]
        for name, entry in known.items()
        if entry is not None
    }

    assert len(found) > 250
    assert {name: machines.cpus_of(name) for name in found} == found


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        (None, "ml.m5.xlarge"),
        ("T4", "ml.g4dn.xlarge"),
        ("T4:2", "ml.g4dn.12xlarge"),
        ("T4:4", "ml.g4dn.12xlarge"),
        ("A10G", "ml.g5.xlarge"),
        ("A10G:4", "ml.g5.12xlarge"),
        ("L4", "ml.g6.xlarge"),
        ("L4:8", "ml.g6.48xlarge"),
        ("L40S", "ml.g6e.xlarge"),
        ("A100", "ml.p4d.24xlarge"),
        ("A100-80GB:8", "ml.p4de.24xlarge"),
        ("H100", "ml.p5.4xlarge"),
        ("H100:2", "ml.p5.48xlarge"),
    ],
)
def test_smallest_that_fits(gpu: str | None, name: str) -> None:
    """A replica gets the smallest machine with as many GPUs of its class, or more."""
    assert machines.machine_for(Resources.parse(gpu), {}, target="aws") == name


def test_overrides() -> None:
    """The user's word beats the table: for a class, for a class and count, and for one replica."""
    ours = {"L4": "ml.g6.4xlarge", "T4:4": "ml.g4dn.metal", "cpu": "ml.c5.large"}

    def name(gpu: str | None, machine_type: str | None = None) -> str:
        resources = Resources.parse(gpu, machine_type=machine_type)
        return machines.machine_for(resources, ours, target="aws")

    assert name("L4") == "ml.g6.4xlarge"
    assert name("L4:4") == "ml.g6.12xlarge"
    assert name("T4:4") == "ml.g4dn.metal"
    assert name(None) == "ml.c5.large"
    assert name("L4", "ml.g6.8xlarge") == "ml.g6.8xlarge"


def test_too_many_gpus() -> None:
    """More GPUs than any machine has is refused, with how many there can be."""
    with pytest.raises(Unsupported, match="8 at most") as caught:
        machines.machine_for(Resources.parse("L4:16"), {}, target="aws")

    assert caught.value.hint == 'gpu = "L4:8"'
    assert caught.value.target == "aws"


def test_nearest_classes_are_offered() -> None:
    """Every hint for a class that is not there names one that is."""
    able = capabilities()

    for gpu, hint in able.nearest.items():
        assert gpu not in able.accelerators
        assert any(f'"{other}"' in hint for other in able.accelerators), hint


@pytest.mark.parametrize(
    ("image", "driver"),
    [
        ("repo/pytorch-inference:2.6.0-gpu-py312-cu124-ubuntu22.04", "gpu-3-1"),
        ("repo/djl-inference:0.36.0-lmi28.0.0-cu130", "gpu-4-1"),
        ("repo/serve:1-cuda13.0", "gpu-4-1"),
        ("repo/serve:1-cuda-12.8-py312", "gpu-3-1"),
        ("repo/serve:1-cu118", None),
        ("repo/serve:1.0", None),
        ("repo/icu130-tools:1", None),
        ("cu130.example.com/serve:1", None),
    ],
)
def test_driver(image: str, driver: str | None) -> None:
    """The driver follows from the CUDA version in the image's tag; CPU variants have none."""
    found = machines.ami_for(image, accelerator="L4")

    assert (found is None) == (driver is None)
    assert driver is None or str(found).endswith(driver)
    assert machines.ami_for(image, accelerator=None) is None
