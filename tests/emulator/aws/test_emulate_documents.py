"""What the emulator's README says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cloudreg_emulator
from cloudreg_emulator.aws.coverage import coverage, markdown
from cloudreg_emulator.faults import Kind

README = (Path(cloudreg_emulator.__file__).parent / "README.md").read_text()


def test_operations() -> None:
    """The table of operations is the one that the code prints."""
    shown = README.partition("<!-- operations: begin -->\n")[2].partition("<!-- operations: end")[0]

    assert shown.splitlines() == list(markdown())


def test_every_operation_is_somewhere() -> None:
    """An operation is answered by one, or refused."""
    for found in coverage():
        together = [*found.ours, *found.motos, *found.refused]
        assert len(set(together)) == len(together)
        assert found.ours


def test_faults() -> None:
    """Every kind of fault is named."""
    section = README.partition("\n## Faults\n")[2].partition("\n## ")[0]
    for kind in Kind:
        assert f"`{kind}`" in section


def test_rooms() -> None:
    """Every room that is named is there."""
    folder = Path(cloudreg_emulator.__file__).parent
    rooms = README.partition("| room |")[2]
    named = re.findall(r"`([a-z_/]+(?:\.py|/))`", rooms)
    assert len(named) >= 12
    for name in named:
        assert (folder / name).exists(), name


@pytest.mark.filterwarnings("error")
def test_example() -> None:
    """The example in process runs as it stands."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    example = next(block for block in blocks if "with aws() as emulator" in block)

    exec(compile(example, "README.md", "exec"), {})
