"""Forks a process for each case, and strikes the n-th change that leaves it for the cloud.

Changes are counted where they leave: each call of boto3 and of obstore that changes something. It
reads one JSON object a line, ``{"cases": […]}`` or ``{"wake": PID}``, and answers with a list: the
exit status of each case, or ``{"stopped": PID}`` where one halted itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import obstore
from botocore import loaders
from botocore.client import BaseClient

from cloudreg import Workspace, plugins
from cloudreg.errors import CloudregError
from cloudreg.manifest import Lineage
from cloudreg.testing.faults import Fault, Faults
from cloudreg_sagemaker import PLUGIN, provider

CHANGES = (
    "Add", "Complete", "Copy", "Create", "Delete", "Deregister", "Put", "Register", "Update",
    "Upload",
)  # fmt: skip
"""How the names of operations that change something begin."""

CHANGED = ("sagemaker", "application-autoscaling", "cloudwatch")
"""Services of which something is changed, beside S3."""

Verb = Callable[[Workspace, str], object]


def race(ws: Workspace, model: str) -> None:
    """Register a version of this process alone, and take it to the last stage."""
    folder = ws.root / f"of {os.getpid()}"
    folder.mkdir()
    (folder / "weights.txt").write_text(f"weights of {os.getpid()}")
    version = ws.register(model, folder, lineage=Lineage())
    ws.promote(version, to="prod")


VERBS: dict[str, Verb] = {
    "register": lambda ws, model: ws.register(model, ws.root / "2", lineage=Lineage()),
    "promote": lambda ws, model: ws.promote(f"{model}:2", to="prod"),
    "apply": lambda ws, _: ws.apply(),
    "rollback": lambda ws, model: ws.rollback(model, stage="prod", to=f"{model}:1"),
    "repair": lambda ws, model: ws.repair(model),
    "down": lambda ws, _: ws.down(),
    "race": race,
}

assert provider, "imported before the first fork"


def strike(faults: Faults) -> None:
    """Let *faults* see every change that boto3 or obstore is about to send."""
    send = BaseClient._make_api_call

    def call(self: Any, name: str, parameters: Any) -> Any:
        if not name.startswith(CHANGES):
            return send(self, name, parameters)
        service = self.meta.service_model.service_name
        return faults.around("aws", service, name, lambda: send(self, name, parameters))

    BaseClient._make_api_call = call
    for verb, key in (("put", 1), ("copy", 2), ("delete", 1)):
        _strike_obstore(faults, verb, key)


def _strike_obstore(faults: Faults, verb: str, key: int) -> None:
    send = getattr(obstore, verb)

    def call(*arguments: Any, **options: Any) -> Any:
        subject = f"{verb} {arguments[key]}"
        return faults.around("aws", "obstore", subject, lambda: send(*arguments, **options))

    setattr(obstore, verb, call)


def act(case: dict[str, Any]) -> int:
    """Do one verb with its faults, and return an exit code."""
    faults = Faults([Fault.from_json(f) for f in case["faults"]], record=Path(case["record"]))
    plugins.register(PLUGIN)
    strike(faults)
    patience = {
        "wait_s": case.get("wait_s", 60.0),
        "timeout_s": case.get("timeout_s", 60.0),
        "lease_s": case.get("lease_s", 60.0),
    }
    try:
        with Workspace.load(case["root"], actor=case.get("actor", "ada"), **patience) as ws:
            VERBS[case["verb"]](ws, case["model"])
    except CloudregError as error:
        print(type(error).__name__, error, *getattr(error, "__notes__", ()), sep="\n", flush=True)
        return 1
    return 0


def read_descriptions() -> None:
    """Read botocore's descriptions of services before the first fork, and not in each."""
    plain = loaders.JSONFileLoader.load_file
    known: dict[str, Any] = {}

    def load(self: Any, path: str) -> Any:
        if path not in known:
            known[path] = plain(self, path)
        return known[path]

    loaders.JSONFileLoader.load_file = load
    for service in ("s3", "sts", *CHANGED):
        boto3.client(service).close()


def born(case: dict[str, Any]) -> int:
    """Begin a case in a process of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    try:
        # A halted process among those of a terminal that is closed would take the others with it.
        os.setsid()
        log = os.open(case["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = act(case)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    os._exit(code)


def ended(pid: int, halted: set[int]) -> int | dict[str, int]:
    """Return how a process ended, or that it halted."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    halted.discard(pid)
    if not os.WIFSTOPPED(status):
        return os.waitstatus_to_exitcode(status)
    halted.add(pid)
    return {"stopped": pid}


def main() -> None:
    """Answer until there are no more questions."""
    read_descriptions()
    halted: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        if "wake" in question:
            os.kill(question["wake"], signal.SIGCONT)
            answer = [ended(question["wake"], halted)]
        else:
            answer = [ended(pid, halted) for pid in [born(case) for case in question["cases"]]]
        print(json.dumps(answer), flush=True)
    for pid in halted:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
