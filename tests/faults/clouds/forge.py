"""Forks a process for each case, as the forges of each cloud do, and strikes changes to both.

A target on this machine's disk is struck as well, where a project has one.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import obstore

from cloudreg import Workspace, artifacts, plugins
from cloudreg.importers.directory import walk
from cloudreg.testing.faults import Faults, faulty
from cloudreg_local import PLUGIN as LOCAL
from cloudreg_vertex import PLUGIN as VERTEX

HERE = Path(__file__).parent


def loaded(cloud: str) -> Any:
    """Return the forge of one cloud."""
    path = HERE.parent / cloud / "forge.py"
    spec = importlib.util.spec_from_file_location(f"forge_{cloud}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


AWS, GOOGLE = loaded("aws"), loaded("google")
strike_aws = AWS.strike


def strike(faults: Faults) -> None:
    """Let *faults* see every change that leaves for either cloud, once."""
    plugins.register(VERTEX)
    plugins.register(faulty(LOCAL, faults))
    plain = obstore.delete
    GOOGLE.strike(faults)
    # What obstore deletes, in whichever cloud, is struck with the rest of what it sends.
    obstore.delete = plain  # type: ignore[assignment]
    strike_aws(faults)


def copy(ws: Workspace, model: str, *, source: str, dest: str) -> None:
    """Copy a version from one target to another, and nothing else."""
    stores = [ws.targets[target].store for target in (source, dest)]
    artifacts.replicate(ws.version(f"{model}:1"), *stores)


def send(ws: Workspace, _: str, *, dest: str) -> None:
    """Store the files of a folder, and nothing else."""
    artifacts.upload(list(walk(ws.root / "build")), ws.targets[dest].store)


AWS.strike = strike
AWS.VERBS["down"] = lambda ws, model: ws.down(f"{model}-aws", f"{model}-gcp")
for source, dest in permutations(("aws", "gcp", "disk"), 2):
    AWS.VERBS[f"copy {source} {dest}"] = partial(copy, source=source, dest=dest)
for dest in ("aws", "gcp", "disk"):
    AWS.VERBS[f"send {dest}"] = partial(send, dest=dest)

if __name__ == "__main__":
    GOOGLE.warm()
    AWS.main()
