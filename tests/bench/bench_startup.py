"""How long a person waits for the command line, as multiples of an empty Python."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from race import command, peer, race, table

CLOUDREG = str(Path(sys.executable).with_name("cloudreg"))
BARE = "python -c pass"
AWS = "aws --version"


def run() -> None:
    """Help, list and show, beside an empty program and the peers' help."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(b"0" * 1000)
        command(CLOUDREG, "init", cwd=folder)
        command(CLOUDREG, "register", "churn", "model", cwd=folder)
        verbs = {
            BARE: (sys.executable, "-c", "pass"),
            "cloudreg --help": (CLOUDREG, "--help"),
            "cloudreg list": (CLOUDREG, "list"),
            "cloudreg show churn:1": (CLOUDREG, "show", "churn:1"),
        }
        for program, argument in (("aws", "--version"), ("mlflow", "--help"), ("dvc", "--help")):
            path = peer(program)
            if path:
                verbs[f"{program} {argument}"] = (path, argument)
        # An installed program has its byte code; a checkout on a machine that writes none has not.
        env = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        runs = {
            label: partial(command, *argv, cwd=folder, env=env) for label, argv in verbs.items()
        }
        race(runs, rounds=1)  # writes it
        cpu: dict[str, float] = {}
        seconds = race(runs, rounds=7, cpu=cpu)
    table("start-up of the command line", seconds, base=BARE, cpu=cpu)
    for verb, most in (("--help", 10), ("list", 45), ("show churn:1", 45)):
        label = f"cloudreg {verb}"
        said = f"{cpu[label] / cpu[BARE]:.1f} x the CPU of {BARE}, wanted at most {most}"
        if AWS in cpu:
            said += f"; {cpu[label] / cpu[AWS]:.2f} x that of {AWS}, wanted below 1"
        print(f"  {label}: {said}")


if __name__ == "__main__":
    run()
