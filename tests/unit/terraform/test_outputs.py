"""What Terraform says of the targets: where it is read, what it beats, what is refused."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudreg.errors import ConfigError
from cloudreg.settings import Settings, load

TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(
    TERRAFORM is None, reason="NOT TESTED WITH TERRAFORM: there is no terraform on PATH"
)

VALUE = {
    "contract": 1,
    "targets": {"aws": {"provider": "sagemaker", "region": "eu-central-1", "bucket": "from-tf"}},
    "facts": {"aws": {"deployers": {"prod": "arn:aws:iam::123456789012:role/prod"}}},
}
FILE = 'home = "aws"\n[terraform]\noutputs = "outputs.json"\n'

ROOT = """
output "cloudreg" {
  value = {
    contract = 1
    targets = {
      aws = { provider = "sagemaker", region = "eu-central-1", bucket = "b", role = null }
    }
    facts = {}
  }
}
output "secret" {
  value     = "hunter2"
  sensitive = true
}
"""

Read = Callable[..., Settings]
Root = Callable[[str], Path]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Apply a root without resources of any cloud, by the real terraform."""

    def applied(text: str) -> Path:
        folder = tmp_path / "infra"
        folder.mkdir()
        (folder / "main.tf").write_text(text)
        terraform(folder, "init", "-input=false")
        terraform(folder, "apply", "-auto-approve", "-input=false")
        return folder

    return applied


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


def printed(value: Any, *, sensitive: bool = False) -> str:
    """Return what ``terraform output -json`` prints of a root with that one output."""
    return json.dumps({"cloudreg": {"sensitive": sensitive, "type": "dynamic", "value": value}})


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Load a configuration beside what Terraform printed."""

    def loaded(text: str = FILE, said: Any = None, /, **options: Any) -> Settings:
        overrides = options.pop("overrides", None)
        for name, value in options.items():
            monkeypatch.setenv(name, value)
        if said is not None:
            body = said if isinstance(said, str) else printed(said)
            (tmp_path / "outputs.json").write_text(body)
        path = tmp_path / "cloudreg.toml"
        path.write_text(text)
        return load(path, overrides=overrides)

    return loaded


def test_targets(read: Read) -> None:
    """A target may stand in Terraform alone; what else it says is kept for people."""
    settings = read(FILE, VALUE)
    assert settings.targets["aws"].options == {"region": "eu-central-1", "bucket": "from-tf"}
    assert list(settings.targets) == ["aws"]
    assert settings.order == ("dev", "staging", "prod")
    assert settings.facts == VALUE["facts"]


def test_precedence(read: Read) -> None:
    """Arguments, variables, the file, Terraform, defaults: key by key."""
    targets = {"aws": {**VALUE["targets"]["aws"], "prefix": "tf", "role": "tf", "kms_key": "tf"}}
    settings = read(
        FILE + '[targets.aws]\nprefix = "file"\nrole = "file"\nkms_key = "file"\n',
        {**VALUE, "targets": targets},
        CLOUDREG_TARGETS__AWS__ROLE="variable",
        CLOUDREG_TARGETS__AWS__KMS_KEY="variable",
        overrides={"targets": {"aws": {"kms_key": "argument"}}},
    )
    assert settings.targets["aws"].options == {
        "region": "eu-central-1",
        "bucket": "from-tf",
        "prefix": "file",
        "role": "variable",
        "kms_key": "argument",
    }
    sources = {
        key: settings.source("targets", "aws", key)
        for key in ("bucket", "prefix", "role", "kms_key", "image")
    }
    assert sources == {
        "bucket": "output 'cloudreg' of Terraform (outputs.json)",
        "prefix": "cloudreg.toml, line 5, column 1",
        "role": "environment variable CLOUDREG_TARGETS__AWS__ROLE",
        "kms_key": "argument",
        "image": "default",
    }


def test_null_is_not_set(read: Read) -> None:
    """Terraform has no other way to leave a key out."""
    targets = {"aws": {**VALUE["targets"]["aws"], "role": None, "vpc": {"subnets": None}}}
    assert read(FILE, {**VALUE, "targets": targets}).targets["aws"].options == {
        "region": "eu-central-1",
        "bucket": "from-tf",
        "vpc": {},
    }


def test_standard_input(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is standard input, and an argument beats the place that the file names."""
    monkeypatch.setattr("sys.stdin", io.StringIO(printed(VALUE)))
    overrides = {"terraform": {"outputs": "-", "chdir": None, "state": None}}
    settings = read('home = "aws"\n[terraform]\nchdir = "nowhere"\n', overrides=overrides)
    assert settings.source("targets", "aws", "bucket").endswith("(standard input)")


def test_place_by_variable(read: Read) -> None:
    """Where to look is a setting like all others."""
    settings = read('home = "aws"\n', VALUE, CLOUDREG_TERRAFORM__OUTPUTS="outputs.json")
    assert settings.targets["aws"].provider == "sagemaker"


@needs_terraform
def test_real_terraform(read: Read, root: Root, tmp_path: Path) -> None:
    """What it printed, what it answers, and the outputs of its state say the same; no secret."""
    folder = root(ROOT)
    (tmp_path / "outputs.json").write_text(terraform(folder, "output", "-json"))
    places = ('outputs = "outputs.json"', 'chdir = "infra"', 'state = "infra/terraform.tfstate"')
    found = [read(f'home = "aws"\n[terraform]\n{place}\n') for place in places]
    wanted = {"region": "eu-central-1", "bucket": "b"}
    assert [settings.targets["aws"].options for settings in found] == [wanted] * 3
    assert all("hunter2" not in repr((s, s.facts)) for s in found)


@needs_terraform
def test_root_that_terraform_refuses(read: Read, tmp_path: Path) -> None:
    """What terraform says of a broken root stands in the error, without its frame."""
    folder = tmp_path / "infra"
    folder.mkdir()
    (folder / "main.tf").write_text('output "cloudreg" {\n')
    with pytest.raises(ConfigError, match=r"infra: terraform output failed: Error: \w") as caught:
        read('home = "aws"\n[terraform]\nchdir = "infra"\n')
    assert "│" not in caught.value.message
    assert caught.value.hint == "terraform -chdir=infra init"


def test_root_that_is_not_there(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder nor a program is made up."""
    text = 'home = "aws"\n[terraform]\nchdir = "infra"\n'
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="infra: neither terraform nor tofu is on the PATH"):
        read(text)


WRONG = [
    ("", "not the JSON that Terraform prints"),
    ("Warning: deprecated\n{}", "not the JSON that Terraform prints"),
    ("[]", "no object"),
    ("{}", "no output 'cloudreg'; there are none"),
    (json.dumps({"other": {"value": 1}}), "there are other"),
    (json.dumps({"cloudreg": 1}), "it has no value"),
    (printed([]), "an object is wanted, not a list"),
    (printed({}), "it speaks contract None, this cloudreg speaks 1"),
    (printed({"contract": True}), "it speaks contract True"),
    (printed({**VALUE, "contract": 2}), "it speaks contract 2, this cloudreg speaks 1"),
    (printed({**VALUE, "stages": {}}), "unknown key 'stages'"),
    (printed({"contract": 1, "targets": []}), "no target .aws."),
    (printed({"contract": 1, "targets": ["aws"]}), "targets: an object is wanted"),
    (printed({"contract": 1, "targets": {"aws": "b"}}), r"targets\.aws: an object is wanted"),
    (printed({"contract": 1, "targets": {"aws": {"region": "x"}}}), "Terraform.*'provider' is"),
    (printed({"contract": 1, "targets": {"A b": {"provider": "x"}, "aws": {"provider": "x"}}}),
     r"Terraform \(outputs.json\), targets\.A b"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "reason"), WRONG)
def test_outputs_that_cannot_be(read: Read, said: str, reason: str) -> None:
    """Nothing is guessed: what is no output of this contract is refused, with its place."""
    with pytest.raises(ConfigError, match=reason):
        read(FILE, said)


def test_secret(read: Read) -> None:
    """A sensitive output is refused, and what it holds is not told."""
    targets = {"aws": {**VALUE["targets"]["aws"], "bucket": "hunter2"}}
    said = printed({**VALUE, "targets": targets}, sensitive=True)
    with pytest.raises(ConfigError, match="it is sensitive") as caught:
        read(FILE, said)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_two_places(read: Read) -> None:
    """Two places could disagree."""
    text = FILE + 'state = "terraform.tfstate"\n'
    with pytest.raises(ConfigError, match=r"line 4.*outputs and state") as caught:
        read(text, VALUE)
    assert caught.value.hint == "leave state out"


def test_file_that_is_not_there(read: Read) -> None:
    """The error has the command that makes it."""
    with pytest.raises(ConfigError, match=r"outputs\.json: .* cannot be read") as caught:
        read(FILE)
    assert caught.value.hint == "terraform output -json > outputs.json"


@pytest.mark.parametrize("version", [3, 5, None, "4"])
def test_state_of_another_format(read: Read, tmp_path: Path, version: Any) -> None:
    """The outputs of a state stand where we look in one format only."""
    state = {"version": version, "outputs": json.loads(printed(VALUE))}
    (tmp_path / "x.tfstate").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match="only 4 is understood"):
        read('home = "aws"\n[terraform]\nstate = "x.tfstate"\n')


def test_key_of_a_provider_that_it_has_not(read: Read) -> None:
    """A wrong value of Terraform's is shown at its place when the target is opened."""
    from cloudreg.targets import Targets

    targets = {"aws": {**VALUE["targets"]["aws"], "regoin": "x"}}
    settings = read(FILE, {**VALUE, "targets": targets})
    with pytest.raises(ConfigError, match=r"Terraform \(outputs\.json\), targets\.aws\.regoin"):
        Targets(settings, Path()).options("aws")
