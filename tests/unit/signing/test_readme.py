"""The README's section on signatures is executed, and its table is read."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cloudreg.cli import main
from cloudreg.settings import load

README = Path(__file__).parents[3] / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_signed_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of the console works as it stands there, and the table is a configuration."""
    monkeypatch.chdir(tmp_path)
    section = README.read_text().partition("\n## Signed versions\n")[2].partition("\n## ")[0]
    (_, console), (_, toml) = FENCE.findall(section)
    Path("model").mkdir()
    Path("model", "weights.txt").write_text("weights")
    Path("cloudreg.toml").write_text(toml)
    settings = load(Path("cloudreg.toml"))
    assert settings.stages["prod"].signed_by == ("release",)
    Path("cloudreg.toml").write_text("")
    assert main(["register", "churn", "model"]) == 0

    for line in console.splitlines():
        tool, *words = shlex.split(line.removeprefix("$ "))
        if tool == "cloudreg":
            assert main(words) == 0, line
        else:
            subprocess.run([tool, *words], check=True, capture_output=True)

    assert Path("out", "model.sig").is_file()
    Path("cloudreg.toml").write_text(toml)
    assert main(["promote", "churn:1", "--to", "prod"]) == 3  # a card is wanted there, too
    assert "pass  signed: signed by release" in capsys.readouterr().err
