"""A process of its own that works with a folder: ``worker.py FOLDER race NAME`` registers and
promotes; ``worker.py FOLDER stop before|after VERB`` promotes, and stops itself on the way.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.provider import ProviderPlugin
from cloudreg_local import PLUGIN


def race(root: Path, name: str) -> None:
    """Register a version, and take it to the last stage as often as others let it."""
    folder = root / "race" / name
    folder.mkdir(parents=True)
    (folder / "weights.txt").write_text(name)
    with Workspace.load(root, actor=name, wait_s=60.0) as ws:
        version = ws.register("churn", folder, lineage=Lineage())
        ws.promote(version, to="staging")
        ws.promote(version, to="prod")
        print(version.number)


def stop(root: Path, moment: str, verb: str) -> None:
    """Promote, stop at a mutating call like a machine that sleeps, and say how it ended."""
    spec = importlib.util.spec_from_file_location("house", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    sys.modules["house"] = house
    spec.loader.exec_module(house)

    def script(_: str, called: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if called == verb and moment == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
        done = call()
        if called == verb and moment == "after":
            os.kill(os.getpid(), signal.SIGSTOP)
        return done

    made = house.House(root)
    plugins.register(
        ProviderPlugin(
            name="scripted",
            summary="stops itself",
            settings=PLUGIN.settings,
            open=made.opened,
            capabilities=PLUGIN.capabilities,
        )
    )
    made.script = script
    with made.open("zombie", lease_s=0.5) as ws:
        try:
            ws.promote("churn:2", to="prod")
        except CloudregError as error:
            print(type(error).__name__)


if __name__ == "__main__":
    {"race": race, "stop": stop}[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
