"""Forks a process for each case: everything is imported already, so that a crash costs little.

It reads one JSON object a line (root, verb, faults, record) and answers with the exit status.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import Fault, Faults, faulty
from cloudreg_local import PLUGIN, provider

VERBS = {
    "register": lambda ws: ws.register("churn", ws.root / "build" / "new", lineage=Lineage()),
    "approve": lambda ws: ws.approve("churn:2", stage="prod"),
    "promote": lambda ws: ws.promote("churn:2", to="staging"),
    "promote-endpoint": lambda ws: ws.promote("churn:2", to="prod"),
    "promote-first": lambda ws: ws.promote("churn:1", to="dev"),
    "apply": lambda ws: ws.apply(),
    "rollback": lambda ws: ws.rollback("churn", stage="prod", to="churn:1"),
    "down": lambda ws: ws.down(),
    "repair": lambda ws: ws.repair("churn"),
    "adopt": lambda ws: ws.adopt("churn", reason="the console was right"),
}

assert provider, "imported before the first fork"


def act(case: dict[str, Any]) -> int:
    """Do one verb with its faults, and return an exit code."""
    record = Path(case["record"])
    faults = Faults([Fault.from_json(f) for f in case["faults"]], record=record)
    plugins.register(faulty(PLUGIN, faults))
    try:
        with Workspace.load(case["root"], actor=case["actor"], wait_s=20.0, timeout_s=30.0) as ws:
            VERBS[case["verb"]](ws)
    except CloudregError as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr, flush=True)
        return 1
    return 0


def main() -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin:
        case = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                log = os.open(case["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                code = act(case)
            except BaseException:
                traceback.print_exc()
                code = 70
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
