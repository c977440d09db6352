"""What stands in the modules and was written from somewhere else is as it would be written now."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GENERATE = runpy.run_path(str(HERE / "generate.py"))
MODULES = sorted(path for path in GENERATE["MODULES"].iterdir() if path.is_dir())


def test_generated_files() -> None:
    """The calls of a deployer and the READMEs' tables are those of the code."""
    stale = [path for path, text in GENERATE["documents"]() if path.read_text() != text]

    assert stale == [], "python tests/terraform/generate.py"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_variables(module: Path) -> None:
    """Every variable and output says what it is, every variable has a type, and text is checked."""
    variables = dict(GENERATE["blocks"](module, "variable"))
    outputs = dict(GENERATE["blocks"](module, "output"))
    written = re.findall(
        r"^(?:variable|output) ", "".join(p.read_text() for p in module.glob("*.tf")), re.M
    )

    assert len(written) == len(variables) + len(outputs) > 0
    for name, body in {**variables, **outputs}.items():
        assert GENERATE["attribute"](body, "description"), name
    for name, body in variables.items():
        kind = GENERATE["attribute"](body, "type")
        assert kind, name
        # Anything goes for a switch, and for names that are nobody's but the user's.
        free = kind == "bool" or name in ("access_logs", "tags")
        assert free or "validation {" in body, name
