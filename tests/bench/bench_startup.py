"""How long a person waits for the command line, as multiples of an empty Python."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from race import command, peer, race, table

CLOUDREG = str(Path(sys.executable).with_name("cloudreg"))


def run() -> None:
    """Help, list and show, beside an empty program and the peers' help."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(b"0" * 1000)
        command(CLOUDREG, "init", cwd=folder)
        command(CLOUDREG, "register", "churn", "model", cwd=folder)
        verbs = {
            "python -c pass": (sys.executable, "-c", "pass"),
            "cloudreg --help": (CLOUDREG, "--help"),
            "cloudreg list": (CLOUDREG, "list"),
            "cloudreg show churn:1": (CLOUDREG, "show", "churn:1"),
        }
        for program, argument in (("aws", "--version"), ("mlflow", "--help"), ("dvc", "--help")):
            path = peer(program)
            if path:
                verbs[f"{program} {argument}"] = (path, argument)
        seconds = race(
            {label: partial(command, *argv, cwd=folder) for label, argv in verbs.items()}, rounds=7
        )
    table(
        "start-up of the command line",
        seconds,
        base="python -c pass",
        notes="wanted: help at most 10 x, list and show at most 45 x",
    )
