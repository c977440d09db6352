"""Names of AWS's own images: what they stand for, and what is refused before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloudreg.errors import ConfigError
from cloudreg.types import FileEntry, Manifest, ModelVersion, Resources
from cloudreg_sagemaker import PLUGIN, images

MANIFEST = Manifest(files=(FileEntry(path="w", size=1, sha256="0" * 64),))
ACCOUNTS = {"eu-central-1": "763104351884", "cn-north-1": "727897471807"}
TORCH = {
    "inference": {
        "processors": ["cpu", "gpu"],
        "version_aliases": {"2.6": "2.6.0"},
        "versions": {
            "1.4.0": {
                "py_versions": ["py2", "py3"],
                "registries": ACCOUNTS,
                "repository": "pytorch-inference",
            },
            "2.6.0": {
                "py_versions": ["py312"],
                "registries": ACCOUNTS,
                "repository": "pytorch-inference",
            },
        },
    },
    "training": {"versions": {"9.9": {}}},
}
DATA: dict[str, Any] = {
    "pytorch": TORCH,
    "forest": {
        "scope": ["inference", "training"],
        "versions": {"1": {"registries": ACCOUNTS, "repository": "forest"}},
    },
    "server": {
        "scope": ["inference"],
        "versions": {
            "1.4": {
                "container_version": {"cpu": "cpu-v1.4", "gpu": "cuda-v1.4"},
                "processor_in_tag": False,
                "processors": ["cpu", "gpu"],
                "registries": ACCOUNTS,
                "repository": "ray",
                "tag_prefix": "serve-sagemaker",
            }
        },
    },
    "text": {
        "inference": {
            "processors": ["gpu"],
            "versions": {
                "3.3.6": {
                    "container_version": {"gpu": "cu124-ubuntu22.04"},
                    "py_versions": ["py311"],
                    "registries": ACCOUNTS,
                    "repository": "text-inference",
                    "tag_prefix": "2.7.0-tgi3.3.6",
                }
            },
        }
    },
    "both": {"inference": {"versions": {"5": {"pytorch2.6": {}, "version_aliases": {}}}}},
    "trainer": {"training": {"versions": {"1": {}}}},
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the SDK's data, and a package that must not be imported."""
    folder = tmp_path / "sagemaker" / "core" / "image_uri_config"
    folder.mkdir(parents=True)
    for name, document in DATA.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "sagemaker" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def resolve(name: str, **more: Any) -> str:
    return images.resolve(name, **{"region": "eu-central-1", **more})


FOUND = {
    ("aws:pytorch:2.6.0", True): "pytorch-inference:2.6.0-gpu-py312",
    ("aws:pytorch:2.6.0", False): "pytorch-inference:2.6.0-cpu-py312",
    ("aws:pytorch:2.6.0", None): "pytorch-inference:2.6.0-gpu-py312",
    ("aws:pytorch:2.6", None): "pytorch-inference:2.6-gpu-py312",
    ("aws:pytorch:1.4.0:py3", False): "pytorch-inference:1.4.0-cpu-py3",
    ("aws:forest:1", True): "forest:1",
    ("aws:server:1.4", False): "ray:serve-sagemaker-cpu-v1.4",
    ("aws:server:1.4", True): "ray:serve-sagemaker-cuda-v1.4",
    ("aws:text:3.3.6", None): "text-inference:2.7.0-tgi3.3.6-gpu-py311-cu124-ubuntu22.04",
}


@pytest.mark.usefixtures("data")
def test_addresses() -> None:
    """A name stands for registry, repository and tag, as the data says them."""
    for (name, gpus), wanted in FOUND.items():
        found = resolve(name, gpus=gpus)
        assert found == f"763104351884.dkr.ecr.eu-central-1.amazonaws.com/{wanted}", name


@pytest.mark.usefixtures("data")
def test_other_partitions() -> None:
    """A registry in China ends as hosts do there."""
    found = resolve("aws:forest:1", region="cn-north-1")

    assert found == "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/forest:1"


REFUSED = {
    "aws:pytorch": "is not aws:FRAMEWORK:VERSION",
    "aws:../secrets:1": "is not aws:FRAMEWORK:VERSION",
    "aws:pytorc:1": "no framework pytorc",
    "aws:pytorch:9.9": "no 9.9 of pytorch that predicts: there is 1.4.0, 2.6.0",
    "aws:pytorch:1.4.0": "several versions of Python: there is py2, py3",
    "aws:pytorch:2.6.0:py39": "no py39: there is py312",
    "aws:both:5": "is several images",
    "aws:trainer:1": "no 1 of trainer that predicts",
}


@pytest.mark.usefixtures("data")
def test_refused() -> None:
    """A name that is no image is refused with what there is instead, and a line to type."""
    for name, why in REFUSED.items():
        with pytest.raises(ConfigError, match=why) as caught:
            resolve(name)
        assert caught.value.hint
        assert caught.value.hint.startswith("image = "), name
    with pytest.raises(ConfigError, match="text has no image for cpu machines: there is gpu"):
        resolve("aws:text:3.3.6", gpus=False)
    with pytest.raises(ConfigError, match="not in us-west-9"):
        resolve("aws:forest:1", region="us-west-9")


@pytest.mark.usefixtures("data")
def test_processor_follows_the_machine(cloud: Any) -> None:
    """A replica on a GPU gets the image for GPUs, and one without gets the other."""
    settings = PLUGIN.settings()(
        **{**cloud.section, "region": "eu-central-1", "image": "aws:pytorch:2.6.0"}
    )
    version = ModelVersion(
        model="churn", number=1, digest=MANIFEST.digest, manifest=MANIFEST,
        author="kit", created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    found = {
        words: images.image_for(version, settings, resources=resources, target="aws")
        for words, resources in {
            "gpu": Resources.parse("L4"),
            "gpu type": Resources.parse(None, machine_type="ml.g5.xlarge"),
            "cpu type": Resources.parse(None, machine_type="ml.m5.large"),
            "cpu": Resources.parse(None),
            "package": None,
        }.items()
    }

    assert {words: str(image).split("-")[-2] for words, image in found.items()} == {
        "gpu": "gpu", "gpu type": "gpu", "cpu type": "cpu", "cpu": "cpu", "package": "gpu"
    }  # fmt: skip


def test_without_the_data() -> None:
    """Where the SDK is not installed, the hint is to install it, or the whole address."""
    if images.folder() is not None:
        pytest.fail("these tests run without the SageMaker SDK")
    with pytest.raises(ConfigError) as caught:
        resolve("aws:pytorch:2.6.0")

    assert "pip install 'cloudreg[sagemaker-sdk]', or image = " in str(caught.value.hint)


@pytest.mark.usefixtures("data")
def test_settings_are_refused_when_they_are_read(cloud: Any) -> None:
    """A section whose image cannot be resolved is refused before a target is opened."""
    section = {**cloud.section, "region": "eu-central-1"}
    assert PLUGIN.settings()(**{**section, "image": "aws:forest:1"})
    with pytest.raises(ValidationError, match="no framework forst"):
        PLUGIN.settings()(**{**section, "image": "aws:forst:1"})


def test_sdk_objects_need_the_sdk(cloud: Any) -> None:
    """A section that asks for the SDK's objects is refused where the SDK is missing."""
    with pytest.raises(ValidationError, match=r"cloudreg\[sagemaker-sdk\]"):
        PLUGIN.settings()(**cloud.section, native="sdk")
