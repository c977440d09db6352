"""The tables of the documents name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloudreg.cli.table import VERBS

ROOT = Path(__file__).parents[2]


def named(document: Path) -> set[str]:
    """Return what the first columns of a document's tables put between backquotes."""
    rows = re.findall(r"^\| (.*?) \|", document.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_verbs() -> None:
    """Every verb stands in the README."""
    shown = {word.split()[0] for word in named(ROOT / "README.md")}

    assert set(VERBS) - shown == set()


def test_modules_of_the_core() -> None:
    """Every module and every folder of the core stands in its README."""
    there = {
        f"{path.name}/" if path.is_dir() else path.stem
        for path in (ROOT / "cloudreg").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert there - {"__init__", "__main__"} - named(ROOT / "cloudreg/README.md") == set()


@pytest.mark.parametrize("folder", ["providers/cloudreg_local", "providers/cloudreg_sagemaker"])
def test_files_of_a_provider(folder: str) -> None:
    """Every file of a provider stands in its README."""
    there = {path.name for path in (ROOT / folder).glob("*.py")}

    assert there - {"__init__.py"} - named(ROOT / folder / "README.md") == set()
