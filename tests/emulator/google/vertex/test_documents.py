"""What the README of the emulated Google Cloud says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import cloudreg_emulator.google
from cloudreg_emulator.faults import REASONS
from cloudreg_emulator.google.vertex.coverage import markdown

FOLDER = Path(cloudreg_emulator.google.__file__).parent
README = (FOLDER / "README.md").read_text()


def test_rpcs() -> None:
    """The table of RPCs is the one that the code prints."""
    shown = README.partition("<!-- rpcs: begin -->\n")[2].partition("<!-- rpcs: end")[0]

    assert shown.splitlines() == list(markdown())


def test_reasons() -> None:
    """Every reason of a failure is named."""
    section = README.partition("\n## Faults\n")[2].partition("\n## ")[0]

    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(REASONS)


def test_rooms() -> None:
    """Every room that is named is there."""
    named = re.findall(r"`([a-z_/]+(?:\.py|/))`", README.partition("| room |")[2])

    assert len(named) >= 20
    for name in named:
        assert (FOLDER / name).exists(), name


def test_example() -> None:
    """The examples run as they stand."""
    examples = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
