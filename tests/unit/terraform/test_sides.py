"""Variables for Terraform, import blocks, and plans that touch what cloudreg owns."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg.cli import main
from cloudreg.errors import InvalidRequest
from cloudreg.provider import Importable
from cloudreg.terraform import imports, planned

TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(
    TERRAFORM is None, reason="NOT TESTED WITH TERRAFORM: there is no terraform on PATH"
)

CONFIG = """\
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "eu-central-1"
bucket = "models"
prefix = "team"

[targets.gcp]
provider = "vertex"
project = "my-project"
location = "europe-west4"
bucket = "gmodels"

[stages.dev]
[stages.prod]
targets = ["aws", "gcp"]
gates = []

[models.other]

[endpoints.churn-prod]
model = "churn"
stage = "prod"
rollout = { strategy = "canary", bake_s = 60, max_error_rate = 0.01 }

[endpoints.churn-gcp]
model = "churn"
stage = "prod"
target = "gcp"
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """The command line in a configured folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cloudreg.toml").write_text(CONFIG)

    def called(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return (code, *capsys.readouterr())

    return called


def test_variables(call: Call, tmp_path: Path) -> None:
    """Models, stages and endpoints are named once, in our file; the same bytes each time."""
    code, out, err = call("tf", "vars")
    assert (code, out) == (0, "cloudreg.auto.tfvars.json: 2 models, 2 endpoints\n")
    assert "terraform plan" in err
    text = (tmp_path / "cloudreg.auto.tfvars.json").read_text()
    assert json.loads(text)["cloudreg"] == {
        "models": ["churn", "other"],
        "stages": ["dev", "prod"],
        "endpoints": {
            "churn-gcp": {
                "model": "churn",
                "stage": "prod",
                "target": "gcp",
                "max_error_rate": None,
                "max_p95_ms": None,
            },
            "churn-prod": {
                "model": "churn",
                "stage": "prod",
                "target": "aws",
                "max_error_rate": 0.01,
                "max_p95_ms": None,
            },
        },
        "targets": {
            "aws": {"provider": "sagemaker", "stages": ["dev", "prod"]},
            "gcp": {"provider": "vertex", "stages": ["prod"]},
        },
    }
    assert call("tf", "vars", "--out", "-")[1] == text


@needs_terraform
def test_variable_is_what_the_contract_declares(call: Call, tmp_path: Path) -> None:
    """The file fits the declaration in terraform/README.md, for the real terraform."""
    readme = (Path(__file__).parents[3] / "terraform/README.md").read_text()
    start = readme.index('variable "cloudreg" {')
    declared = readme[start : readme.index("\n```", start)]
    infra = tmp_path / "infra"
    infra.mkdir()
    (infra / "main.tf").write_text(
        declared + '\noutput "models" {\n  value = var.cloudreg.models\n}\n'
    )
    assert call("tf", "vars", "--out", "infra/cloudreg.auto.tfvars.json")[0] == 0
    assert "churn" in terraform(infra, "plan")


@needs_terraform
def test_plan_of_the_real_terraform(call: Call, tmp_path: Path) -> None:
    """What terraform prints of a plan of its own is read, and nothing in it is ours."""
    infra = tmp_path / "infra"
    infra.mkdir()
    (infra / "main.tf").write_text('resource "terraform_data" "x" {\n  input = "y"\n}\n')
    terraform(infra, "init")
    terraform(infra, "plan", "-out", "plan.bin")
    (tmp_path / "plan.json").write_text(terraform(infra, "show", "-json", "plan.bin"))
    code, out, _ = call("tf", "check", "plan.json")
    assert (code, out) == (0, "1 change, none of what is cloudreg's\n")


def test_plan_that_touches_ours(call: Call, tmp_path: Path) -> None:
    """Each change of what cloudreg owns is named with its reason; the rest may pass."""
    write(
        tmp_path,
        change("aws_sagemaker_endpoint", ["update"], name="churn-prod"),
        change("aws_sns_topic", ["create"], name="churn-prod"),
        change("google_storage_bucket", ["delete", "create"], name="gmodels"),
    )
    code, out, _ = call("tf", "check", "plan.json")
    assert code == 3
    assert out.splitlines() == [
        "!! aws_sagemaker_endpoint.x: update",
        "     it belongs to the endpoint churn-prod, which changes with each release (target aws)",
        "!! google_storage_bucket.x: delete then create",
        "     the bucket gmodels holds ledger and artifacts (target gcp)",
        "3 changes, 2 of what is cloudreg's",
    ]
    code, out, _ = call("tf", "check", "plan.json", "--target", "gcp", "--json")
    assert (code, [r["target"] for r in json.loads(out)["refused"]]) == (3, ["gcp"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a plan as JSON"),
        ("[]", "it has no format_version"),
        ('{"format_version": "2.0", "resource_changes": []}', "a plan of format 2.0"),
        ('{"format_version": "1.0", "values": {}}', "a state and not a plan"),
        ('{"format_version": "1.2", "resource_changes": [], "errored": true}', "half-way"),
        ('{"format_version": "1.2", "resource_changes": [{}]}', "a change lacks"),
        ('{"format_version": "1.2", "resource_changes": [1]}', "a change lacks"),
    ],
)
def test_what_is_no_plan(text: str, reason: str) -> None:
    """A plan that was not understood must not count as one without changes."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        planned.read(text, "plan.json")
    assert caught.value.hint


def test_data_and_idle_resources_change_nothing() -> None:
    """Reading is no change."""
    entries = [change("aws_s3_bucket", [action]) for action in ("no-op", "read")]
    entries.append({**change("aws_s3_bucket", ["delete"]), "mode": "data"})
    text = json.dumps({"format_version": "1.2", "resource_changes": entries})
    assert planned.read(text, "plan.json") == []


def test_import_blocks() -> None:
    """Names become labels that Terraform takes, each once; what is left alone says why."""
    found = [
        Importable(type="aws_s3_bucket", name="my.models", id="my.models"),
        Importable(type="aws_s3_bucket", name="my_models", id="my_models"),
        Importable(type="aws_sagemaker_endpoint", name="churn", id="churn", kept="it changes"),
        Importable(type="x", name="7", id='a"${b}%{c}'),
    ]
    assert "\n".join(imports.blocks(found)).split("\n\n") == [
        'import {\n  to = aws_s3_bucket.my_models\n  id = "my.models"\n}',
        'import {\n  to = aws_s3_bucket.my_models_2\n  id = "my_models"\n}',
        "# aws_sagemaker_endpoint churn: it changes",
        'import {\n  to = x._7\n  id = "a\\"$${b}%%{c}"\n}\n',
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tf", "check"], "needs a PLAN"),
        (["tf", "vars", "plan.json"], "nothing else takes one"),
        (["tf", "check", "plan.json", "--out", "x"], "--out belongs"),
        (["tf", "vars", "--target", "aws"], "--target belongs"),
    ],
)
def test_words_that_do_not_fit(call: Call, words: list[str], said: str) -> None:
    """An option that would be ignored is refused."""
    code, _, err = call(*words)
    assert code == 64
    assert said in err


def test_no_such_file_or_target(call: Call, tmp_path: Path) -> None:
    """Each is told with what to type instead."""
    code, _, err = call("tf", "check", "nowhere.json")
    assert (code, "nowhere.json cannot be read" in err) == (1, True)
    write(tmp_path)
    code, _, err = call("tf", "check", "plan.json", "--target", "azure")
    assert (code, "there are aws, gcp" in err) == (1, True)


def test_targets_without_terraform(call: Call, tmp_path: Path) -> None:
    """A disk has no resources."""
    (tmp_path / "cloudreg.toml").write_text("")
    write(tmp_path)
    code, _, err = call("tf", "check", "plan.json")
    assert (code, "Terraform has no resources of it" in err) == (1, True)


def test_explain(call: Call, tmp_path: Path) -> None:
    """Every value is shown with what set it, a provider's defaults too."""
    said = {
        "contract": 1,
        "targets": {"aws": {"kms_key": "alias/models"}},
        "facts": {"aws": {"deployers": {"prod": "role/prod"}}},
    }
    (tmp_path / "out.json").write_text(json.dumps({"cloudreg": {"value": said}}))
    code, out, _ = call("config", "explain", "--terraform", "out.json", "--json")
    assert code == 0
    answer = json.loads(out)
    values = {v["key"]: (v["value"], v["source"]) for v in answer["values"]}
    assert values["targets.aws.bucket"] == ("models", "cloudreg.toml, line 6, column 1")
    assert values["targets.aws.kms_key"][0] == "alias/models"
    assert "Terraform" in values["targets.aws.kms_key"][1]
    assert values["targets.aws.network_isolation"] == (False, "default")
    assert values["endpoints.churn-prod.rollout.bake_s"][0] == 60
    assert values["terraform.outputs"][1] == "argument"
    assert answer["facts"] == said["facts"]

    code, out, _ = call("config", "explain", "targets.aws", "--set")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (
        0,
        ["key", *(f"targets.aws.{key}" for key in ("provider", "region", "bucket", "prefix"))],
    )
    code, _, err = call("config", "explain", "targets.azure")
    assert (code, "nothing is configured at targets.azure" in err) == (1, True)


def change(type_: str, actions: list[str], **attributes: Any) -> dict[str, Any]:
    """Return a change as a plan has it."""
    before = None if actions == ["create"] else attributes
    after = None if actions == ["delete"] else attributes
    return {
        "address": f"{type_}.x",
        "mode": "managed",
        "type": type_,
        "change": {"actions": actions, "before": before, "after": after},
    }


def write(folder: Path, *changes: dict[str, Any]) -> None:
    """Write a plan with these changes."""
    document = {"format_version": "1.2", "resource_changes": list(changes)}
    (folder / "plan.json").write_text(json.dumps(document))


def terraform(folder: Path, *words: str) -> str:
    """Return what terraform printed."""
    assert TERRAFORM is not None
    done = subprocess.run(
        [TERRAFORM, f"-chdir={folder}", *words, "-no-color"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
