"""A target's section: refused where it could never work, and light until it is opened."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import cloudreg_sagemaker
from cloudreg_sagemaker import PLUGIN

ROLE = "arn:aws:iam::123456789012:role/model-servers"
LEAST = {"region": "eu-central-1", "bucket": "our-models"}


def settings(**section: Any) -> Any:
    return PLUGIN.settings()(**{**LEAST, **section})


def test_least() -> None:
    """Region and bucket are all that a target needs; nothing is switched on by default."""
    made = settings()

    assert (made.prefix, made.account, made.kms_key, made.image, made.role) == ("", *[None] * 4)
    assert made.data_capture is None
    assert made.network_isolation is False
    assert made.stage_names == {
        "dev": "Development",
        "staging": "PreProduction",
        "prod": "Production",
    }
    assert made.uri("blobs/1/2") == "s3://our-models/blobs/1/2"
    assert settings(prefix="team/a").uri("x") == "s3://our-models/team/a/x"


def test_everything() -> None:
    """A section with every key is read as it stands."""
    made = settings(
        account="123456789012",
        prefix="team",
        kms_key="arn:aws:kms:eu-central-1:123456789012:key/1",
        role=ROLE,
        image="123456789012.dkr.ecr.eu-central-1.amazonaws.com/serve:1-cu124",
        vpc={"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
        network_isolation=True,
        health_check_timeout_s=900,
        download_timeout_s=3600,
        inference_ami="al2-ami-sagemaker-inference-gpu-3-1",
        data_capture={"sample_percent": 20},
        deployment={"strategy": "canary", "step_percent": 10, "alarms": ["p95"], "max_s": 600},
        machines={"L4": "ml.g6.2xlarge", "T4:4": "ml.g4dn.12xlarge", "cpu": "ml.c5.xlarge"},
        stage_names={"dev": "Development", "qa": "QA", "prod": "Production"},
        endpoint_url="http://127.0.0.1:5000",
    )

    assert made.vpc.subnets == ("subnet-1",)
    assert made.data_capture.prefix == "capture"
    assert list(made.stage_names) == ["dev", "qa", "prod"]


@pytest.mark.parametrize(
    "section",
    [
        {"bukket": "x"},
        {"region": "Frankfurt"},
        {"bucket": "No_Bucket"},
        {"prefix": "/a"},
        {"prefix": "a/../b"},
        {"account": "123"},
        {"role": "model-servers"},
        {"image": "two words"},
        {"image": ""},
        {"kms_key": "a key"},
        {"vpc": {"subnets": [], "security_groups": ["sg-1"]}},
        {"vpc": {"subnets": ["subnet-1"]}},
        {"health_check_timeout_s": 59},
        {"download_timeout_s": 3601},
        {"inference_ami": "al2-ami-sagemaker-inference-gpu-9"},
        {"data_capture": {"sample_percent": 101}},
        {"data_capture": {"sample_percent": 5, "prefix": "/x"}},
        {"deployment": {"strategy": "yolo"}},
        {"deployment": {"strategy": "canary", "step_percent": 51}},
        {"deployment": {"strategy": "linear", "step_percent": 9}},
        {"deployment": {"strategy": "rolling", "step_percent": 4}},
        {"deployment": {"strategy": "rolling", "termination_wait_s": 5}},
        {"deployment": {"strategy": "all_at_once", "step_percent": 10}},
        {"deployment": {"max_s": 599}},
        {"deployment": {"alarms": ["a"] * 11}},
        {"machines": {"L4": "ml.g6.huge"}},
        {"machines": {"l4": "ml.g6.xlarge"}},
        {"stage_names": {"Prod": "Production"}},
        {"stage_names": {"prod": "in_production"}},
        {"stage_names": {"staging": "Production", "prod": "Production"}},
        {"stage_names": {"prod": "Archived"}},
        {"endpoint_url": "127.0.0.1:5000"},
    ],
)
def test_bad_sections(section: dict[str, Any]) -> None:
    """An unknown key or a value that can never work is refused, with its name."""
    key = next(iter(section))

    with pytest.raises(ValidationError) as caught:
        settings(**section)

    assert caught.value.errors()[0]["loc"][0] == key


def test_role_of_another_account() -> None:
    """A role is passed within its account: one of another could never be used."""
    assert settings(account="123456789012", role=ROLE).role == ROLE
    with pytest.raises(ValidationError, match="role: it is of account 123456789012"):
        settings(account="999999999999", role=ROLE)


def test_readme() -> None:
    """The section that the README shows is one that a target takes."""
    readme = (Path(cloudreg_sagemaker.__file__).with_name("README.md")).read_text()
    section = tomllib.loads(readme.partition("```toml\n")[2].partition("```")[0])["targets"]["aws"]
    assert section.pop("provider") == "sagemaker"

    assert settings(**section).bucket == "our-models"


def test_readme_names_the_files() -> None:
    """The README says of each module what it is for."""
    folder = Path(cloudreg_sagemaker.__file__).parent
    readme = (folder / "README.md").read_text()
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}

    assert {name for name in modules if f"`{name}`" not in readme} == set()


def test_near_instance_types_are_named() -> None:
    """A mistyped instance type is answered with the ones that come near."""
    with pytest.raises(ValidationError, match=r"ml\.g6\.xlarge"):
        settings(machines={"L4": "ml.g6.xlarg"})


def test_plugin_is_light() -> None:
    """Looking at the plug-in imports neither boto3 nor pydantic nor obstore."""
    code = (
        "import sys, cloudreg_sagemaker\n"
        "cloudreg_sagemaker.PLUGIN.capabilities()\n"
        "print(sorted({'boto3', 'botocore', 'pydantic', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
