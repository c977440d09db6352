from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest

from cloudreg.serving.options import read


@pytest.fixture
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments."""
    text = files("cloudreg.serving").joinpath("Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined)]


def one(instructions: list[tuple[str, str]], name: str) -> str:
    (found,) = [rest for word, rest in instructions if word == name]
    return found


def test_the_server_gets_the_signals(instructions: list[tuple[str, str]]) -> None:
    """The entry point is in exec form, and there is no CMD for a platform to replace."""
    argv = json.loads(one(instructions, "ENTRYPOINT"))
    assert argv[-2:] == ["-m", "cloudreg.serving"]
    assert not [word for word, _ in instructions if word == "CMD"]


def test_the_port(instructions: list[tuple[str, str]]) -> None:
    """The image exposes the server's default port, and takes another where it is told one."""
    said = ["--model-dir", "x", "--model", "m", "--digest", "sha256:" + "0" * 64]
    assert int(one(instructions, "EXPOSE")) == read(said, {}).port
    labels = [rest for word, rest in instructions if word == "LABEL"]
    assert "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in labels


def test_the_base_is_pinned_and_can_be_replaced(instructions: list[tuple[str, str]]) -> None:
    """The base is an argument with a full version, and no cloud's own image."""
    assert instructions[0][0] == "ARG"
    name, _, image = instructions[0][1].partition("=")
    assert one(instructions, "FROM") == f"${{{name}}}"
    # An argument before FROM is unknown behind it until it is named again.
    again = instructions.index(("ARG", name))
    said = instructions.index(("LABEL", f"org.opencontainers.image.base.name=${{{name}}}"))
    assert instructions.index(("FROM", f"${{{name}}}")) < again < said
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.\d\d", image)


def test_everything_installed_is_constrained(instructions: list[tuple[str, str]]) -> None:
    """What pip installs is pinned by the constraints."""
    pip = [rest for word, rest in instructions if word == "RUN" and "pip install" in rest]
    assert pip
    assert all("-c constraints.txt" in rest for rest in pip)
